"""Folders of trained models that nobody had to train, and pictures to classify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scalesearch.models.names import initial_arrays
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.load import load_study
from scalesearch.study.sections import Study
from scalesearch.trained.card import CARD_FILE, ModelCard, NamedArrays, Preprocessing, card_text
from scalesearch.trained.weights import write_weights
from tests.cli.tiny import TINY

CURVES = """epoch,learning_rate,train_loss,val_loss,val_accuracy,val_balanced_accuracy,images_per_second,seconds
1,0.004,2.01,1.52,0.5,,3000,1.1
2,0.003,1.41,1.12,0.7,,3000,1.1
3,0.001,1.12,1.21,0.65,,3000,1.1
"""


def tiny_study(folder: Path) -> Study:
    """The study of seconds of the command line's tests."""
    path = folder / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return load_study(path)


def tiny_card(study: Study, **values: Any) -> ModelCard:
    """The card of its baseline, as training would write it."""
    spec: ArchitectureSpec = study.baseline.spec()
    usual = {
        "name": "tiny φ = 0",
        "spec": spec,
        "preprocessing": Preprocessing(resolution=spec.resolution, mean=(33.0,), std=(79.0,)),
        "phi": 0.0,
        "data": study.data.model_dump(mode="json"),
        "training": study.training.model_dump(mode="json"),
    }
    return ModelCard(**{**usual, **values})


def write_model(folder: Path, card: ModelCard, arrays: NamedArrays | None = None) -> Path:
    """The folder of a model; with initial weights unless others are given."""
    folder.mkdir(exist_ok=True)
    (folder / CARD_FILE).write_text(card_text(card), encoding="utf-8")
    write_weights(folder, initial_arrays(card.spec, 0) if arrays is None else arrays)
    return folder


def write_pictures(folder: Path, count: int, *, size: tuple[int, int] = (6, 6), seed: int = 0) -> list[Path]:
    """Grey pictures of noise, (height, width) each."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (count, *size), dtype=np.uint8)
    paths = [folder / f"{place:02}.png" for place in range(count)]
    for path, pixels in zip(paths, noise, strict=True):
        Image.fromarray(pixels).save(path)
    return paths
