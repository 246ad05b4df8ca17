"""The formats that a network is handed over in: one module of this package each, imported when it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from scalesearch.errors import InputError
from scalesearch.trained.card import ModelCard, NamedArrays


class Format(NamedTuple):
    """What an exporter writes and needs.

    Attributes:
        summary: a line for `--help`.
        folder: whether it writes a new folder, and not a file.
        text: whether its file is text, which a terminal can show.
        definition: whether it can write a network without weights.
        libraries: the packages that its module imports, apart from what scalesearch needs anyway.
        extra: the extra of scalesearch that brings them.
    """

    summary: str
    folder: bool = False
    text: bool = False
    definition: bool = True
    libraries: tuple[str, ...] = ()
    extra: str = ""


class Exporter(Protocol):
    """The module of a format."""

    def export(self, card: ModelCard, arrays: NamedArrays | None, target: Path) -> None:
        """Writes a network to `target`: a file that may be there, or an empty folder.

        Without `arrays`, the definition alone. Raises `InputError` with the reason for what the format cannot hold
        exactly.
        """


FORMATS: Mapping[str, Format] = {
    "json": Format("the rule, or the card of a model", text=True),
    "flax": Format("a file of plain Flax NNX, and safetensors", folder=True),
    "timm": Format("a file that builds it with timm's classes, and safetensors", folder=True),
    "torchvision": Format("the same with torchvision's classes", folder=True),
    "keras": Format("a .keras file", libraries=("keras",), extra="keras"),
    "transformers": Format("a folder for `from_pretrained`", folder=True),
    "onnx": Format("a graph for any batch size", definition=False, libraries=("onnx",), extra="onnx"),
    "stablehlo": Format(
        "a program of jax.export, for cpu, cuda and tpu",
        definition=False,
        libraries=("flatbuffers",),
        extra="stablehlo",
    ),
}
"""By the value of `--to`, which is also the name of the module."""


def exporter(name: str) -> Exporter:
    """The module of the format `name`. Raises `InputError` if there is none, or if a library of it is missing."""
    if name not in FORMATS:
        raise InputError(f"`to` must be one of {', '.join(FORMATS)}, but got {name!r}")
    for library in FORMATS[name].libraries:
        if importlib.util.find_spec(library) is None:
            raise InputError(
                f"--to {name} needs the package {library}: pip install 'scalesearch[{FORMATS[name].extra}]'"
            )
    return cast("Exporter", importlib.import_module(f"{__package__}.{name}"))
