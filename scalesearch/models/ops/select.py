"""Chooses, once, the operations that networks compute with."""

from __future__ import annotations

import warnings
from typing import Literal

from scalesearch.errors import InputError
from scalesearch.models.ops.base import Name, Operations
from scalesearch.models.ops.cpu.operations import CpuOperations
from scalesearch.models.ops.gpu.operations import GpuOperations
from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.ops.shift.operations import ShiftOperations
from scalesearch.study.training import Precision

Setting = Literal["auto", Name]

_ALL: tuple[Operations, ...] = (CpuOperations(), GpuOperations(), ShiftOperations(), NativeOperations())

_PREFERRED: dict[str, tuple[Name, ...]] = {"cpu": ("kernels", "shift"), "gpu": ("pallas", "native")}
"""By jax backend, best first; the last one always works."""


def named(name: Name) -> Operations:
    """The operations of that name, whether or not they can be used here.

    >>> named("shift")
    ShiftOperations(max_unrolled=8)
    """
    return next(operations for operations in _ALL if operations.name == name)


def preferred(backend: str) -> Operations:
    """The best operations for a jax `backend`, whether or not they can be used here.

    >>> preferred("cpu").name, preferred("gpu").name, preferred("tpu").name
    ('kernels', 'pallas', 'native')
    """
    return _preferences(backend)[0]


def available(backend: str) -> tuple[Operations, ...]:
    """All that can be used on a jax `backend` of this machine."""
    return tuple(
        operations
        for operations in _ALL
        if operations.backend is None or (operations.backend == backend and operations.problem() is None)
    )


def select(setting: Setting, backend: str, *, precision: Precision = "float32", sharded: bool = False) -> Operations:
    """The operations for a `setting` of `runtime.convolutions` on a jax `backend` ("cpu", "gpu", "tpu").

    `precision` is that of the maps; `sharded`: batches are spread over devices. `auto` takes the best that works here,
    and warns if a better one is missing. Raises `InputError` for a setting that is not available here.

    >>> select("native", "cpu").name
    'native'
    """
    if setting == "auto":
        *better, last = _preferences(backend)
        for operations in better:
            problem = operations.problem()
            if problem is not None:
                warnings.warn(f"networks compile and train more slowly than they could: {problem}", stacklevel=2)
            elif operations.serves(precision, sharded=sharded):
                return operations
        return last
    operations = named(setting)
    reason = _obstacle(operations, backend, precision, sharded=sharded)
    if reason is not None:
        raise InputError(f'`runtime.convolutions` = "{setting}" is not available here: {reason}')
    return operations


def _preferences(backend: str) -> list[Operations]:
    return [named(name) for name in _PREFERRED.get(backend, ("native",))]


def _obstacle(operations: Operations, backend: str, precision: Precision, *, sharded: bool) -> str | None:
    """Why `operations` cannot be used, or None."""
    if operations.backend not in (None, backend):
        return f"{operations.purpose}, but jax computes on a {backend}"
    problem = operations.problem()
    if problem is not None:
        return problem
    return None if operations.serves(precision, sharded=sharded) else operations.limits
