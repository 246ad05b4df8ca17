"""The usual study of a data source: what `run --data` starts from where there is no study file."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scalesearch.data.resolve import largest_resolution
from scalesearch.data.sources import read_source
from scalesearch.data.splits import split_source
from scalesearch.runtime.cores import usable_cores
from scalesearch.runtime.modules import look_in
from scalesearch.runtime.text import plural
from scalesearch.study.load import study_of_document
from scalesearch.study.sections import DataSection, Study

LARGEST_RESOLUTION = 48
"""Pixels of the baseline at most: a search of larger ones takes more than an hour on two cores."""
MOST_TRAINED = 20_000
"""Images to train on, and to validate on, at most."""
TRAINED_IN_ALL = 40_000
"""Images that a training sees over its epochs: enough for a small network to learn what there is."""
_BATCHES = range(4, 8)
"""Batches hold 2⁴ to 2⁷ images."""


def usual_study(source: str, overrides: Mapping[str, Any]) -> Study:
    """A study of a small MBConv network whose resolution, schedule and sizes suit the data. It is said as a warning.

    Args:
        source: the data source.
        overrides: settings that the user gave, by "section.key".

    Raises:
        InputError: the source cannot be read, or an override is wrong.
    """
    where, folders = f"--data {source}", (Path.cwd(),)
    look_in(*folders)
    document = _document(source, {}, 1, 1)
    section = study_of_document(document, {}, folders, where).data
    given = {key.removeprefix("data."): value for key, value in overrides.items() if key.startswith("data.")}
    section = DataSection(**{**dict(section), "train": 0, "validation": 0, **given})
    splits = split_source(read_source(section), section)  # without a test set from elsewhere: its size is not set

    # Sizes and schedule.
    train, validation = (min(len(split), MOST_TRAINED) for split in (splits.train, splits.validation))
    budget, phis = overrides.get("budget", 2.0), overrides.get("phi", (1.0,))
    side = largest_resolution(budget, max(phis), splits.native_resolution)
    sizes = {"train": train, "validation": validation, "test": len(splits.test)}
    document = _document(section.source, sizes, min(side, LARGEST_RESOLUTION), train)
    study = study_of_document(document, overrides, folders, where)
    training = study.training
    size = f" at {study.baseline.resolution} px" if study.baseline.resolution else ""
    warnings.warn(
        f"no study file: {study.baseline.name}{size}, "
        f"{plural(training.epochs, 'epoch')} of batches of {training.batch_size}, learning rate "
        f"{training.learning_rate:g}, {plural(study.seeds, 'seed')}, tolerance {study.tolerance:g} "
        "(`run` writes them into study.toml; to change them, copy that file and run it with another --out)",
        stacklevel=2,
    )
    return study


def usual_training(images: int) -> dict[str, Any]:
    """A `[training]` for so many images.

    >>> usual_training(500)["batch_size"], usual_training(500)["epochs"]
    (16, 20)
    """
    power = min(max(int(math.log2(max(images / 20, 1))), _BATCHES[0]), _BATCHES[-1])
    batch_size = 2 ** min(power, int(math.log2(images)))
    epochs = min(20, max(3, round(TRAINED_IN_ALL / images)))
    return {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": round(0.004 * math.sqrt(batch_size / 64), 4),
        "warmup_epochs": 1 if epochs > 1 else 0.5,
        "weight_decay": 0.02,
        "ema_decay": 0.98,
        "shift": 0.08,
    }


def _document(source: str, sizes: Mapping[str, int], resolution: int, train: int) -> dict[str, Any]:
    large = resolution >= 24
    strides = (1, 2, 2) if large else (2, 2)
    widths = (16, 24, 40) if large else (16, 32)
    block = {"block": "mbconv", "kernel_size": 3, "expand_ratio": 3, "depth": 2, "se_ratio": 0.25}
    return {
        "name": study_name(source),
        "budget": 2.0,
        "tolerance": 0.05,
        "seeds": 2,
        "baseline": {
            "name": "mbconv-small",
            "resolution": resolution,
            "head_width": 4 * widths[-1] // 2,
            "stem": {"width": 16 if large else 8, "kernel_size": 3, "stride": 2 if large else 1},
            "stages": [
                {**block, "stride": stride, "width": width} for stride, width in zip(strides, widths, strict=True)
            ],
        },
        "rounding": {"width_divisor": 1},
        "design": {"kind": "lattice", "degree": 4},
        "data": {"source": source, **sizes},
        "training": usual_training(train),
        "runtime": {"workers": min(2, len(usable_cores()))},
    }


def study_name(source: str) -> str:
    """A name for the study of a source: the last part of its place.

    >>> study_name("folder:~/my pets/"), study_name("npz:data/set.npz"), study_name("mnist-sample")
    ('my-pets', 'set', 'mnist-sample')
    """
    place = source.rpartition(":")[2].rstrip("/\\")
    words = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(place).stem or source).strip("-._")
    return words or "data"
