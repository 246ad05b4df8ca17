"""CIFAR-100: 60,000 colour images of 32 pixels in a hundred classes, the fine ones."""

from __future__ import annotations

from scalesearch.data.cifar import Version, read_cifar
from scalesearch.data.images import Source
from scalesearch.study.sections import DataSection

_VERSIONS = (
    Version(
        "cifar-100-binary",
        "cifar-100-binary",
        ("train.bin",),
        "test.bin",
        "fine_label_names.txt",
        label_bytes=2,
    ),
    Version(
        "cifar-100-python",
        "cifar-100-python",
        ("train",),
        "test",
        "meta",
        labels_key="fine_labels",
        names_key="fine_label_names",
    ),
)


def read(source: str, argument: str, section: DataSection) -> Source:
    """The training and test set of an archive, or of a folder that holds it, packed or not. Raises `DataError`."""
    del section
    return read_cifar(source, argument, 100, _VERSIONS)
