"""Opens any network that has weights: the folder of a trained model, or a file of another library."""

from __future__ import annotations

import os
from pathlib import Path

from scalesearch.export.origins import LIBRARIES, import_network
from scalesearch.trained.card import ModelCard, NamedArrays
from scalesearch.trained.weights import read_folder


def open_network(source: str | os.PathLike[str]) -> tuple[ModelCard, NamedArrays]:
    """The card of a network and its arrays by our names.

    Whether the arrays of a trained model fit its card is not checked: that needs jax (`trained.leaves.check_names`).

    Args:
        source: the folder of a trained model, or weights of another library: `timm:FILE.safetensors`,
            `torchvision:FILE.pth`, `keras:FILE`, `transformers:FOLDER`.

    Raises:
        InputError: it is not there or not whole, or holds no network that becomes ours.
    """
    if not is_foreign(source):
        return read_folder(Path(source))
    return import_network(os.fspath(source))


def is_foreign(source: str | os.PathLike[str]) -> bool:
    """Whether `source` names weights of another library.

    >>> is_foreign("timm:b0.safetensors"), is_foreign("runs/b0")
    (True, False)
    """
    library, colon, _ = os.fspath(source).partition(":")
    return bool(colon) and library in LIBRARIES


def located(source: str | os.PathLike[str]) -> str:
    """`source` with an absolute path."""
    source = os.fspath(source)
    library, colon, name = source.partition(":") if is_foreign(source) else ("", "", source)
    return f"{library}{colon}{Path(name).absolute()}"
