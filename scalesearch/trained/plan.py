"""From a rule to a job: the member of its family, the data, and the recipe."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalesearch.data.splits import Splits, check_fits, load_splits
from scalesearch.errors import InputError
from scalesearch.export.rule_json import read_rule
from scalesearch.runtime.text import enumerated, plural
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.family import family
from scalesearch.scaling.rule import ScalingRule
from scalesearch.study.documents import read
from scalesearch.study.load import load_study, located_source
from scalesearch.study.recipes import recipe
from scalesearch.study.sections import DataSection, RuntimeSection, Study
from scalesearch.study.training import RecipeSection, TrainingSection
from scalesearch.trained.job import Job

if TYPE_CHECKING:
    from scalesearch.results.load import Run


from scalesearch.study.documents import with_tuples


def plan_job(
    rule: ScalingRule | Run | str | Path,
    phi: float,
    study: Study | str | Path | None,
    data: str | None,
    max_resolution: int | None,
    changes: Mapping[str, Any],
) -> tuple[Job, Splits, str]:
    """What `train` is to train, its data, and a name for the folder; arguments as those of `train`."""
    # The rule, and the study that goes with it.
    folder: Path | None = None
    if isinstance(rule, str | Path):
        path = Path(rule)
        folder, rule = (path if path.is_dir() else path.parent), read_rule(path)
    elif not isinstance(rule, ScalingRule):
        folder, rule = rule.folder, rule.rule
    if study is None and folder is not None and (folder / "study.toml").is_file():
        study = folder / "study.toml"
    if isinstance(study, str | Path):
        study = load_study(study)
    section, training, runtime = _sections(rule, study, data)
    given = {} if study is None or study.train is None else dict(study.train)
    values = read(RecipeSection, {**given, **changes}, lambda each: each, "[train]")

    # The data, then the network for their channels and classes.
    splits = load_splits(section)
    try:
        # Down to the baseline's resolution depth and width take over what the cap takes; below it the network is cut.
        cap = None if max_resolution is None else max(max_resolution, rule.baseline.spec.resolution)
        (member,) = family(rule, phi, max_resolution=cap)
    except ValueError as error:
        raise InputError(f"`phi`: {error}") from None
    spec = _with_data(member.spec, splits)
    if max_resolution is not None and max_resolution < spec.resolution:
        spec = dataclasses.replace(spec, resolution=max_resolution)
    filled = recipe(training, len(splits.train), phi=phi, budget=rule.budget, section=values, where="[train]")
    check_fits(spec, splits, filled.batch_size)
    job = Job(
        name=f"{rule.baseline.name} φ = {phi:g}",
        phi=float(phi),
        digest=splits.digest,
        data=section,
        training=filled,
        runtime=runtime,
        spec=spec,
        rule=rule.to_json(),
    )
    return job, splits, study.name if study is not None else rule.baseline.name


def _sections(
    rule: ScalingRule, study: Study | None, data: str | None
) -> tuple[DataSection, TrainingSection, RuntimeSection]:
    """Data, training and runtime: of the study, or else as they were when the rule was found."""
    if study is not None:
        training, runtime = study.training, study.runtime
    else:
        training, runtime = read(TrainingSection, rule.training, lambda each: each, "the rule"), RuntimeSection()
    if data is not None:
        return DataSection(source=located_source(data, (Path.cwd(),))), training, runtime
    if study is not None:
        return study.data, training, runtime
    return read(DataSection, with_tuples(rule.data), lambda each: each, "the rule"), training, runtime


def _with_data(spec: ArchitectureSpec, splits: Splits) -> ArchitectureSpec:
    """The network with the channels and classes of its data; a change is said as a warning."""
    changes: dict[str, Any] = {
        key: value
        for key, value in (("in_channels", splits.in_channels), ("num_classes", splits.num_classes))
        if getattr(spec, key) != value
    }
    if changes:
        words = {"in_channels": ("channel", ""), "num_classes": ("class", "classes")}
        told = [plural(value, *words[key]) for key, value in changes.items()]
        warnings.warn(f"the network gets {enumerated(told)}, as the images of {splits.source} have", stacklevel=3)
    return dataclasses.replace(spec, **changes)
