"""Networks of other libraries as ours: `timm:FILE`, `torchvision:FILE`, `transformers:FOLDER` and `keras:FILE`.

PyTorch and its libraries are not needed. Which network a file of theirs holds is found from the names and shapes of its
tensors. What these do not tell, padding and ε, are the conventions of its origin, unless we exported it: then the file
holds our card. Files of Keras are read by `export.keras_read`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scalesearch.baselines.efficientnet import PAPER_BASELINE, published
from scalesearch.baselines.published import baseline
from scalesearch.errors import InputError
from scalesearch.export import timm, torchvision, transformers
from scalesearch.export.mapping import Entry, Kind, from_library
from scalesearch.export.torch_file import read_torch_file
from scalesearch.export.torch_folder import CARD_FILE, CARD_KEY
from scalesearch.export.torch_layers import layers_of
from scalesearch.runtime.text import first_line
from scalesearch.scaling.architecture import NORM_EPSILON, ArchitectureSpec
from scalesearch.scaling.compound import scale
from scalesearch.study.documents import read
from scalesearch.trained.card import ModelCard, NamedArrays, Preprocessing
from scalesearch.trained.leaves import check_size
from scalesearch.trained.weights import read_weights

LIBRARIES = ("timm", "torchvision", "transformers", "keras")
"""What a network may be imported from."""

_PYTORCH_EPSILON = 1e-5
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_NAMES = (
    "mobilenet-v1",
    "mobilenet-v2",
    "efficientnet-lite0",
    "efficientnet-v2-s",
    "resnet-18",
    "resnet-34",
    "resnet-50",
    "resnet-101",
    "resnet-152",
    "wide-resnet-50-2",
)
"""The published networks, apart from EfficientNet-B0 to B7, that a file may hold."""


def import_network(source: str) -> tuple[ModelCard, NamedArrays]:
    """The network that `source` names, "timm:FILE" or the like, as a card and its arrays by our names.

    The card has the padding and the ε of the origin. Raises `InputError`, which names the tensors, for a file that
    holds none of the networks that become ours.
    """
    library, _, name = source.partition(":")
    if library not in LIBRARIES or not name:
        known = ", ".join(f"{each}:FILE" for each in LIBRARIES)
        raise InputError(f"weights of another library must be named as {known}, but got {source!r}")
    if library == "keras":
        from scalesearch.export import keras_read

        return keras_read.read(Path(name))
    table, tensors = _ORIGINS[library]
    theirs, written = tensors(Path(name))
    theirs = {key: value for key, value in theirs.items() if not key.endswith(".num_batches_tracked")}
    cards = _published(library, Path(name)) if written is None else {written.name: written}
    if written is not None:
        check_size(written.spec, theirs, name)
    best: tuple[list[str], ModelCard, list[Entry]] | None = None
    for nominal in cards.values():
        try:
            card, entries = _fitted(nominal, theirs, table)
        except InputError:  # the library has no such network
            continue
        problems = _problems(theirs, entries, card.spec)
        if best is None or len(problems) < len(best[0]):
            best = problems, card, entries
    assert best is not None, "every library has some of the published networks"
    problems, card, entries = best
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise InputError(f"{name}: holds none of {', '.join(cards)}; it is nearest to {card.name}, but {shown}")
    arrays = from_library(theirs, entries, "torch", name)
    for entry in entries:
        if not np.isfinite(arrays[entry.ours]).all():
            raise InputError(f"{name}: `{entry.theirs}` holds numbers that are not finite")
    return card, arrays


def _fitted(
    card: ModelCard, theirs: Mapping[str, np.ndarray], table: Callable[[ArchitectureSpec], list[Entry]]
) -> tuple[ModelCard, list[Entry]]:
    """The card with the channels of the images and the classes that the tensors are for, and its table."""
    names = {entry.ours: entry.theirs for entry in table(card.spec)}
    stem, classifier = (theirs.get(names[f"{layer}.kernel"]) for layer in ("stem", "classifier"))
    changes: dict[str, Any] = {}
    if stem is not None and stem.ndim == 4:
        changes["in_channels"] = stem.shape[1]
    if classifier is not None and classifier.ndim == 2:
        changes["num_classes"] = classifier.shape[0]
    spec = dataclasses.replace(card.spec, **changes)
    kept: dict[str, Any] = {"spec": spec}
    if spec.num_classes != card.spec.num_classes:
        kept["classes"] = ()
    if spec.in_channels != card.spec.in_channels:
        kept["preprocessing"] = None
    return card.model_copy(update=kept), table(spec)


def _problems(theirs: Mapping[str, np.ndarray], table: list[Entry], spec: ArchitectureSpec) -> list[str]:
    """What keeps the tensors from being those of `spec`, a line a tensor."""
    shapes = {name: shape for layer in layers_of(spec) for name, shape in layer.shapes.items()}
    expected = {entry.theirs: _their_shape(entry.kind, shapes[entry.ours]) for entry in table}
    found = [f"`{name}` is missing" for name in expected if name not in theirs]
    found += [f"`{name}` has no place" for name in theirs if name not in expected]
    found += [
        f"`{name}` must have shape {shape}, but has {theirs[name].shape}"
        for name, shape in expected.items()
        if name in theirs and theirs[name].shape != shape
    ]
    return found


def _their_shape(kind: Kind, ours: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an array in PyTorch's layout."""
    if kind == "vector":
        return ours
    return (ours[-1], ours[-2], *ours[:-2]) if kind != "pointwise" else (ours[1], ours[0], 1, 1)


@cache
def _published_specs() -> dict[str, ArchitectureSpec]:
    """The networks that a file may hold, in our conventions."""
    b0 = baseline(PAPER_BASELINE)
    specs = {PAPER_BASELINE: b0.spec}
    for member in published():
        specs[f"efficientnet-{member.name.lower()}"] = scale(b0.spec, member.coefficients, b0.rounding)
    return {**specs, **{name: baseline(name).spec for name in _NAMES}}


def _published(library: str, path: Path) -> dict[str, ModelCard]:
    """The published networks with the conventions of a library, and the statistics of ImageNet for their images."""
    variant, cards = _variant(path) if library == "timm" else "", {}
    for name, spec in _published_specs().items():
        padded_as_tensorflow = variant.startswith("tf_") or (library, name[:12]) == ("transformers", "efficientnet")
        large = library == "torchvision" and name in ("efficientnet-b5", "efficientnet-b6", "efficientnet-b7")
        changes: dict[str, Any] = {"norm_epsilon": _PYTORCH_EPSILON}
        if padded_as_tensorflow and not name.startswith(("resnet", "wide")):
            changes = {"norm_epsilon": NORM_EPSILON, "padding": "same"}
        elif large or (library == "torchvision" and name == "efficientnet-v2-s"):
            changes = {"norm_epsilon": NORM_EPSILON}
        if name == "mobilenet-v1":
            changes["activation"] = "relu6"
        mean, std = (tuple(255 * value for value in values) for values in _statistics(name, variant))
        cards[name] = ModelCard(
            name=f"{name} of {library}",
            spec=dataclasses.replace(spec, **changes),
            preprocessing=Preprocessing(resolution=spec.resolution, mean=mean, std=std),
        )
    return cards


def _statistics(name: str, variant: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the images that a published network was trained on, on [0, 1]."""
    halved = name == "mobilenet-v1" or (variant.startswith("tf_") and ".ap" in variant)
    return _HALVES if halved else _IMAGENET


def _variant(path: Path) -> str:
    """Timm's name of a network, which says what padding it has: that in config.json beside the file, or the file's."""
    try:
        document = json.loads(path.with_name("config.json").read_text(encoding="utf-8"))
        tag = document.get("pretrained_cfg", {}).get("tag", "")
        return f"{document['architecture']}.{tag}"
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return path.stem if path.stem != "model" else path.resolve().parent.name


def _safetensors(path: Path) -> tuple[NamedArrays, ModelCard | None]:
    """The tensors of a safetensors file, and the card in its metadata or beside it."""
    from safetensors import safe_open

    tensors = read_weights(path)  # which refuses what is no such file
    with safe_open(path, framework="numpy") as file:
        text = (file.metadata() or {}).get(CARD_KEY)
    return tensors, _card_beside(path) if text is None else _card(text, f"{path}, the card in it")


def _card_beside(path: Path) -> ModelCard | None:
    """Our card in the folder of a file: weights that were trained further lie where the network was exported to."""
    beside = path.with_name(CARD_FILE)
    try:
        return _card(beside.read_text(encoding="utf-8"), str(beside))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise InputError(f"{beside}: cannot be read ({first_line(error)})") from None


def _card(text: str, where: str) -> ModelCard:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({first_line(error)})") from None
    return read(ModelCard, document, lambda card: card, where)


def _from_file(path: Path) -> tuple[NamedArrays, ModelCard | None]:
    if path.suffix == ".safetensors":
        return _safetensors(path)
    return read_torch_file(path), _card_beside(path)


def _from_folder(path: Path) -> tuple[NamedArrays, ModelCard | None]:
    with contextlib.suppress(OSError):  # a name that is too long
        path = path / "model.safetensors" if path.is_dir() else path
    return _safetensors(path)


class _Origin(NamedTuple):
    """The names of a library, and what reads its files."""

    table: Callable[[ArchitectureSpec], list[Entry]]
    tensors: Callable[[Path], tuple[NamedArrays, ModelCard | None]]


_ORIGINS: Mapping[str, _Origin] = {
    "timm": _Origin(timm.table, _from_file),
    "torchvision": _Origin(torchvision.table, _from_file),
    "transformers": _Origin(transformers.table, _from_folder),
}
