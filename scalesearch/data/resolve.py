"""A study and its data together: what the study leaves open follows the data."""

from __future__ import annotations

import math
import warnings

from scalesearch.baselines.protocol import find_baseline
from scalesearch.data.checks import check_signal
from scalesearch.data.splits import Splits, check_fits, load_splits
from scalesearch.errors import InputError
from scalesearch.runtime.text import enumerated, plural
from scalesearch.study.sections import BaselineSection, Study


def resolve(study: Study) -> tuple[Study, Splits]:
    """The study with its open settings filled from its data, and the data. Notes on the data are warnings.

    Raises:
        InputError: the data cannot be read, do not fit the baseline, or nothing could be learned from them.
    """
    splits = load_splits(study.data)
    study = _with_classes(follow_data(study, splits), splits)
    notes = (*splits.notes, *check_signal(splits))
    check_fits(study.baseline.spec(), splits, study.training.batch_size)
    for note in notes:
        warnings.warn(f"{splits.source}: {note}", stacklevel=2)
    return study, splits


def follow_data(study: Study, splits: Splits) -> Study:
    """The study whose baseline has the channels and classes of the data, and a resolution that they can give.

    What the study sets stays. A published baseline keeps its resolution unless growth in resolution alone would ask for
    more pixels than the images have; else it gets the largest resolution of which that is not so. A change is said as
    a warning.
    """
    section, changes = study.baseline, dict[str, int]()
    for key, value in (("in_channels", splits.in_channels), ("num_classes", splits.num_classes)):
        if getattr(section, key) is None:
            changes[key] = value
    if section.stages is None:
        spec = find_baseline(section.name).spec
        changes = {key: value for key, value in changes.items() if getattr(spec, key) != value}
        if section.resolution is None:
            largest = largest_resolution(study.budget, max(study.phi), splits.native_resolution)
            if largest < spec.resolution:
                changes["resolution"] = largest
        if changes:
            words = [_WORDS[key](value) for key, value in changes.items()]
            warnings.warn(
                f"{section.name} gets {enumerated(words)}, as the images of {splits.source} have", stacklevel=3
            )
    if not changes:
        return study
    return study.model_copy(update={"baseline": BaselineSection(**{**dict(section), **changes})})


def with_sizes(study: Study, splits: Splits) -> Study:
    """The study with the numbers of images that it leaves to its data: for the time that it takes."""
    sizes = {"train": len(splits.train), "validation": len(splits.validation)}
    return study.model_copy(update={"data": study.data.model_copy(update=sizes)})


def _with_classes(study: Study, splits: Splits) -> Study:
    """The study with the names of the source's classes, unless it names them itself."""
    names = study.data.classes
    if names and len(names) != splits.num_classes:
        raise InputError(
            f"`data.classes` must name the {splits.num_classes} classes of {splits.source}, but names {len(names)}"
        )
    return study.model_copy(update={"data": study.data.model_copy(update={"classes": names or splits.classes})})


_WORDS = {
    "in_channels": lambda value: plural(value, "channel"),
    "num_classes": lambda value: plural(value, "class", "classes"),
    "resolution": lambda value: f"{value} px",
}


def largest_resolution(budget: float, phi: float, side: int) -> int:
    """The largest resolution of a baseline at which the candidate of all resolution does not enlarge images of `side`.

    >>> largest_resolution(2.0, 1.0, 320)
    226
    """
    return max(1, math.floor(side / math.pow(budget, phi / 2) + 1e-9))
