"""What this machine would compute with, and whether it computes right."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import warnings
from dataclasses import dataclass

import jax

from scalesearch.errors import StorageError
from scalesearch.models.numerics import check_operations
from scalesearch.models.ops.select import preferred
from scalesearch.runtime.cache import enable_compilation_cache
from scalesearch.runtime.cores import usable_cores
from scalesearch.search.queue.storage import hidden, open_storage, study_names

_PACKAGES = ("scalesearch", "jax", "jaxlib", "flax", "optax", "optuna", "numpy", "pandas", "statsmodels", "plotly")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what it is, what was found, and whether that is as it should be."""

    topic: str
    found: str
    good: bool


def examine(storage: str | None) -> tuple[Finding, ...]:
    """Device, versions, compilation cache, numerics and, where given, the storage at an SQLAlchemy URL."""
    return (*_machine(), _cache(), _kernels(), _numerics(), *([_storage(storage)] if storage else []))


def _machine() -> list[Finding]:
    devices = jax.devices()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return [
        Finding("device", f"{len(devices)} × {devices[0].device_kind} ({jax.default_backend()})", good=True),
        Finding("cores", f"{len(usable_cores())} usable", good=True),
        Finding("python", f"{platform.python_version()} on {platform.platform()}", good=sys.version_info >= (3, 11)),
        Finding("versions", versions, good=True),
    ]


def _cache() -> Finding:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        folder = enable_compilation_cache()
    if told:
        return Finding("compilation cache", str(told[0].message), good=False)
    sizes = [entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()]
    return Finding("compilation cache", f"{folder}: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB", good=True)


def _kernels() -> Finding:
    backend = jax.default_backend()
    operations = preferred(backend)
    problem = operations.problem()
    summary = operations.summary if operations.backend else f"not needed on a {backend}"
    return Finding("kernels", problem or summary, good=problem is None)


def _numerics() -> Finding:
    checks = check_operations()
    bad = [check for check in checks if not check.passed]
    if bad:
        told = "; ".join(map(str, bad[:5]))
        return Finding("numerics", f"{len(bad)} of {len(checks)} convolutions are off: {told}", good=False)
    return Finding("numerics", f"{len(checks)} convolutions agree with a float64 reference", good=True)


def _storage(url: str) -> Finding:
    try:
        names = study_names(open_storage(url, read_only=True))
    except StorageError as error:
        return Finding("storage", str(error), good=False)
    return Finding("storage", f"{hidden(url)}: {len(names)} studies", good=True)
