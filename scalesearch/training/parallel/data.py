"""Data parallelism: the images of each batch are spread over the local devices; all else is on each of them.

XLA inserts the sums over devices: gradients and batch statistics are those of the whole batch.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from scalesearch.data.feed import EpochData
from scalesearch.errors import InputError
from scalesearch.training.draws import EpochDraws

AXIS = "images"


Shardings = tuple[NamedSharding, EpochData, EpochDraws]
"""Where the arguments of an epoch lie: state and schedule, which are whole on each device; data; draws."""


def shardings_of(setting: bool | Literal["auto"], batch_size: int, evaluated: int, *, vector: bool) -> Shardings | None:
    """The shardings over all local devices; None for one device.

    Args:
        setting: of `runtime.data_parallel`. `auto` spreads batches if the number of devices divides them.
        batch_size: images of a training batch.
        evaluated: images of a validation batch, which is spread if the number of devices divides it.
        vector: whether several seeds train side by side.

    Raises:
        InputError: `setting` is true, and the number of devices does not divide `batch_size`.
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
    spread_draws = spread(*batch, AXIS)
    drawn: Any = dict.fromkeys(("order", "offsets", "mirrored", "transforms"), spread_draws)
    draws = EpochDraws(**drawn, dropout=whole)
    return whole, EpochData(whole, whole, validation, validation, whole, whole, whole), draws
