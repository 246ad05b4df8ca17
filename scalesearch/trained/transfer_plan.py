"""From the network of another training, or of another library, to the job of a transfer."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path

from scalesearch.data.splits import Splits, check_fits, load_splits
from scalesearch.data.usual import study_name, usual_training
from scalesearch.errors import InputError
from scalesearch.export.opened import is_foreign, located, open_network
from scalesearch.runtime.text import plural
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.documents import read
from scalesearch.study.recipes import recipe
from scalesearch.study.sections import DataSection, RuntimeSection
from scalesearch.study.training import RecipeSection, TrainingSection
from scalesearch.trained.card import ModelCard
from scalesearch.trained.job import Job, Origin
from scalesearch.trained.transfer import keeps_classifier, transferred_spec, transferred_standard
from scalesearch.trained.weights import digest_of

_DATA_KEYS = ("in_channels", "num_classes", "resolution", "norm_epsilon", "padding")
"""What a network of a rule and that of a checkpoint may differ in."""


def plan_transfer(
    source: str | os.PathLike[str],
    member: ArchitectureSpec | None,
    data: DataSection,
    training: TrainingSection | None,
    runtime: RuntimeSection,
    section: RecipeSection,
    resolution: int | None,
) -> tuple[Job, Splits, str]:
    """The job of a transfer, its data, and a name for the folder.

    Args:
        source: the network that it begins with (`export.opened`).
        member: the network of a rule, which that must be; None for whatever it is.
        data: the images.
        training: the study's `[training]`; None for the usual one.
        runtime: how the work is carried out.
        section: the user's recipe.
        resolution: of the images; None for that of the network.
    """
    card, arrays = open_network(source)
    place = located(source)
    if member is not None:
        _check_same(card, member)
    splits = load_splits(data)
    spec = transferred_spec(card, splits.in_channels, splits.num_classes, resolution)
    standard = transferred_standard(card, spec.in_channels)

    # The recipe for transfers, unless the user asks for another.
    images = len(splits.train)
    if training is None:
        usual = usual_training(images) | {"precision": card.training.get("precision", "float32")}
        training = read(TrainingSection, usual, lambda each: each, "the usual training")
    if section.recipe == "auto":
        section = section.model_copy(update={"recipe": "transfer"})
    budget = float((card.rule or {}).get("budget", 2.0))
    filled = recipe(training, images, phi=card.phi or 0.0, budget=budget, section=section, where="[train]")
    check_fits(spec, splits, filled.batch_size)
    _say(card, spec, data.classes or splits.classes, known=standard is not None)

    origin = Origin(
        source=place,
        name=card.name,
        digest=digest_of(arrays),
        mean=None if standard is None else standard.mean,
        std=None if standard is None else standard.std,
    )
    job = Job(
        name=card.name,
        phi=card.phi,
        digest=splits.digest,
        data=data,
        training=filled,
        runtime=runtime,
        spec=spec,
        rule=card.rule,
        origin=origin,
    )
    path = Path(place)
    return job, splits, f"{path.stem if is_foreign(source) else path.name}-to-{study_name(data.source)}"


def _check_same(card: ModelCard, member: ArchitectureSpec) -> None:
    """Raises `InputError` if the card's network is not `member`, apart from what depends on images and origin."""
    ours, theirs = (dataclasses.asdict(spec) for spec in (member, card.spec))
    differing = [key for key in ours if key not in _DATA_KEYS and ours[key] != theirs[key]]
    if differing:
        raise InputError(
            f"{card.name}: is another network than the rule's: they differ in `{differing[0]}`; leave out the rule to "
            "train the network of --from"
        )


def _say(card: ModelCard, spec: ArchitectureSpec, classes: tuple[str, ...], *, known: bool) -> None:
    """Warns of what a transfer changes in the network, and of what is not known."""
    notes = []
    if keeps_classifier(card, classes):
        notes.append(f"the classes are those of {card.name}: its classifier is kept")
    else:
        notes.append(f"{card.name} gets a new classifier, for {plural(spec.num_classes, 'class', 'classes')}")
    if spec.in_channels < card.spec.in_channels:
        notes.append("grey images: the kernel of the colour network's stem is summed over the channels")
    if spec.in_channels > card.spec.in_channels:
        notes.append("colour images: the grey network's stem weighs the channels as a conversion to grey does")
    if not known:
        notes.append(
            f"{card.name} does not say what its images were standardised by: the statistics of the new ones are taken"
        )
    for note in notes:
        warnings.warn(note, stacklevel=4)
