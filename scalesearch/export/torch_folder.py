"""The folder that an exporter for PyTorch writes: model.py, model.safetensors and model.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from scalesearch.export.mapping import Entry, to_library
from scalesearch.runtime.files import write_text, write_whole
from scalesearch.scaling.architecture import Activation
from scalesearch.trained.card import CARD_FILE, ModelCard, NamedArrays, Preprocessing, card_text

CARD_KEY = "scalesearch"
"""The key of the metadata of model.safetensors which holds the text of the card: an importer need not guess."""

ACTIVATIONS: dict[Activation, str] = {
    "swish": "nn.SiLU",
    "relu": "nn.ReLU",
    "relu6": "nn.ReLU6",
    "hard_swish": "nn.Hardswish",
    "gelu": "nn.GELU",
}

_FIT = {
    "crop": "cut to the square in their middle, resized to {0} × {0}",
    "pad": "padded to a square with black, resized to {0} × {0}",
    "stretch": "resized to {0} × {0}",
}


def write_folder(
    target: Path, card: ModelCard, arrays: NamedArrays | None, table: Sequence[Entry], model: str | None
) -> None:
    """Writes the card, the text `model` if there is one, and the weights if there are any, into the folder `target`."""
    target.mkdir(exist_ok=True)
    write_text(target / CARD_FILE, card_text(card))
    if model is not None:
        write_text(target / "model.py", model)
    if arrays is not None:
        write_weights(target / "model.safetensors", card, state_dict(arrays, table))


def write_weights(path: Path, card: ModelCard, theirs: NamedArrays) -> None:
    """Writes arrays by the library's names, and `card` with them."""
    from safetensors.numpy import save_file

    metadata = {"format": "pt", CARD_KEY: card_text(card)}
    write_whole(path, lambda temporary: save_file(theirs, temporary, metadata))


def state_dict(arrays: NamedArrays, table: Sequence[Entry]) -> NamedArrays:
    """All that the library's network keeps: the arrays, and the number of batches behind the statistics."""
    theirs = to_library(arrays, table, "torch")
    counts = {name.removesuffix("running_mean") + "num_batches_tracked" for name in theirs if "running_mean" in name}
    return {**theirs, **{name: np.zeros((), np.int64) for name in sorted(counts)}}


def preamble(card: ModelCard, library: str, has_weights: bool) -> str:
    """The docstring of model.py: what it is, how it is called, and how images become its input."""
    channels, size = card.spec.in_channels, card.spec.resolution
    if card.preprocessing is None:
        images = "No data have been seen: how images become its input is for you to say."
    else:
        images = f"Images are {_FIT[card.preprocessing.fit].format(size)}, scaled to [0, 1], then (x - MEAN) / STD."
    if card.classes:
        images += "\nThe classes are those of model.json, in the order of the logits."
    weights = "create_model()  # with the weights of model.safetensors" if has_weights else "create_model()"
    return f'''"""{_plain(card.name)} with the classes of {library}, as scalesearch {version("scalesearch")} wrote it.

    model = {weights}
    logits = model(images)  # of shape (n, {channels}, {size}, {size})

{images}
"""
'''


def constants(card: ModelCard) -> str:
    """The lines of model.py with the preprocessing."""
    lines = [f"RESOLUTION = {card.spec.resolution}"]
    if card.preprocessing is not None:
        lines += [
            f"{key} = {values}"
            for key, values in zip(("MEAN", "STD"), unit_statistics(card.preprocessing), strict=True)
        ]
    return "\n".join(lines) + "\n"


def unit_statistics(preprocessing: Preprocessing) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel on [0, 1]."""
    mean, std = (tuple(value / 255 for value in values) for values in (preprocessing.mean, preprocessing.std))
    return mean, std


def stages_text(stages: Iterable[Sequence[tuple[object, ...]]]) -> str:
    """The rows of the blocks of each stage as Python, a line a stage; equal ones behind each other are multiplied."""
    lines = []
    for rows in stages:
        parts: list[list[tuple[object, ...]]] = []
        for row in rows:
            if parts and parts[-1][0] == row:
                parts[-1].append(row)
            else:
                parts.append([row])
        written = (f"[{part[0]}]" if len(part) == 1 else f"{len(part)} * [{part[0]}]" for part in parts)
        lines.append(f"    {' + '.join(written)},\n")
    return f"[\n{''.join(lines)}]".replace("'", '"')


def loading(has_weights: bool) -> str:
    """The end of model.py's `create_model`."""
    default = 'Path(__file__).with_name("model.safetensors")' if has_weights else "None"
    return '''

def create_model(weights=WEIGHTS, **options):
    """The network with `weights`, or with initial ones for None; `options` are those of `build`."""
    model = build(**options)
    if weights is not None:
        model.load_state_dict(load_file(weights))
    return model.eval()
'''.replace("WEIGHTS", default)


def _plain(text: str) -> str:
    """`text` as a part of a docstring."""
    return " ".join(text.replace("\\", "/").replace('"', "'").split())
