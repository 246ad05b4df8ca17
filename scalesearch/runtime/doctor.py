"""What this machine computes with, in lines for `scalesearch doctor`.

The rooms above add their own findings: `models.numerics` on the kernels, `search.queue.storage` on the storage.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import warnings
from dataclasses import dataclass

from scalesearch.errors import InputError
from scalesearch.runtime.cache import folder_in_use
from scalesearch.runtime.cores import usable_cores
from scalesearch.runtime.jax_settings import check_jax
from scalesearch.runtime.text import plural

_PACKAGES = ("scalesearch", "jax", "jaxlib", "flax", "optax", "optuna", "numpy", "pandas", "statsmodels", "plotly")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: its topic, what is there, and whether that is as it should be."""

    topic: str
    text: str
    good: bool

    def to_json(self) -> dict[str, str | bool]:
        """The finding in the JSON of `doctor`."""
        return {"topic": self.topic, "found": self.text, "good": self.good}


def examine_device() -> Finding:
    """The devices that jax computes on, or why it cannot."""
    try:
        check_jax()
    except InputError as error:
        return Finding("device", str(error), good=False)
    import jax

    devices = jax.devices()
    return Finding("device", f"{len(devices)} × {devices[0].device_kind} ({jax.default_backend()})", good=True)


def examine_machine() -> tuple[Finding, ...]:
    """Cores, Python and the versions of packages."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return (
        Finding("cores", f"{len(usable_cores())} usable", good=True),
        Finding("python", f"{platform.python_version()} on {platform.platform()}", good=sys.version_info >= (3, 11)),
        Finding("versions", versions, good=True),
    )


def examine_cache() -> Finding:
    """The cache of compiled programs: where it is and how much it holds, or why it cannot be used."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        folder = folder_in_use()
    if folder is None:
        return Finding("compilation cache", "; ".join(str(note.message) for note in notes), good=False)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    held = f"{folder}: {plural(len(sizes), 'file')}, {sum(sizes) / 1e6:.1f} MB"
    return Finding("compilation cache", held, good=True)
