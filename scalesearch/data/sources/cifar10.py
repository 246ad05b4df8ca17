"""CIFAR-10: 60,000 colour images of 32 pixels in ten classes."""

from __future__ import annotations

from scalesearch.data.cifar import Version, read_cifar
from scalesearch.data.images import Source
from scalesearch.study.sections import DataSection

_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_VERSIONS = (
    Version(
        "cifar-10-batches-bin",
        "cifar-10-binary",
        tuple(f"{name}.bin" for name in _BATCHES),
        "test_batch.bin",
        "batches.meta.txt",
    ),
    Version(
        "cifar-10-batches-py",
        "cifar-10-python",
        _BATCHES,
        "test_batch",
        "batches.meta",
        labels_key="labels",
        names_key="label_names",
    ),
)


def read(source: str, argument: str, section: DataSection) -> Source:
    """The training and test set of an archive, or of a folder that holds it, packed or not. Raises `DataError`."""
    del section
    return read_cifar(source, argument, 10, _VERSIONS)
