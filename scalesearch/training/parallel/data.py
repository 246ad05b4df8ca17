"""Data parallelism: the images of each batch spread over the local devices, all else on every one of them.

XLA inserts the sums over devices: gradients and batch statistics are those of the whole batch.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from scalesearch.data.feed import EpochData
from scalesearch.errors import InputError
from scalesearch.training.draws import EpochDraws

AXIS = "images"


class Shardings(NamedTuple):
    """Where the arguments of an epoch lie; what `everywhere` holds is whole on every device."""

    everywhere: NamedSharding
    data: EpochData
    draws: EpochDraws


def shardings_of(setting: bool | Literal["auto"], batch_size: int, evaluated: int, *, vector: bool) -> Shardings | None:
    """The shardings over all local devices, or None for one device.

    That is where there is but one, where `setting` is false, or where it is `auto` and the devices do not divide
    `batch_size`; where it is true then, raises `InputError`. `evaluated` is the size of a validation batch, which is
    spread where they divide it; `vector` tells of several seeds side by side.
    """
    devices = jax.local_devices()
    if not setting or len(devices) == 1:
        return None
    if batch_size % len(devices):
        if setting == "auto":
            return None
        raise InputError(
            f"`training.batch_size` must be a multiple of the {len(devices)} devices for `runtime.data_parallel` = "
            f"true, but got {batch_size}"
        )
    mesh = jax.sharding.Mesh(np.array(devices), (AXIS,))

    def spread(*axes: str | None) -> Any:
        return NamedSharding(mesh, PartitionSpec(*axes))  # type: ignore[no-untyped-call]  # jax has no types here

    whole = spread()
    validation = spread(None, AXIS) if evaluated % len(devices) == 0 else whole
    batch = (None,) * (1 + vector)
    return Shardings(
        everywhere=whole,
        data=EpochData(whole, whole, validation, validation, whole, whole),
        draws=EpochDraws(
            order=spread(*batch, AXIS),
            offsets=spread(*batch, AXIS),
            mirrored=spread(*batch, AXIS),
            dropout=whole,
        ),
    )
