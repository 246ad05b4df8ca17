"""Whether a study's network and schedule fit its data: asked before anything is stored or trained."""

from __future__ import annotations

from scalesearch.config import InputError, StudyConfig
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.training.data import Splits


def check_fits(spec: ArchitectureSpec, study: StudyConfig, splits: Splits) -> None:
    """Raises `InputError` where the baseline's input or classes, or the batch, are not those of the data."""
    for key, expected, found in (
        ("in_channels", spec.in_channels, splits.in_channels),
        ("num_classes", spec.num_classes, splits.num_classes),
    ):
        if expected != found:
            raise InputError(
                f"the baseline's `{key}` must be that of the data {study.data.source}, {found}, but got {expected}: "
                f"set {key} = {found} in the study's [baseline]"
            )
    images, batch = len(splits.train), study.training.batch_size
    if batch > images:
        raise InputError(
            f"`training.batch_size` must be at most the number of training images, {images:,}, but got {batch:,}"
        )
