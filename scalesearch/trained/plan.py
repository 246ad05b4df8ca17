"""From a rule to a job: the member of its family, the data, and the recipe."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalesearch.data.splits import Splits, check_fits, load_splits
from scalesearch.errors import InputError
from scalesearch.export.rule_json import read_rule
from scalesearch.runtime.text import enumerated, plural
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.family import check_max_resolution, cost_note, family, tolerance_of
from scalesearch.scaling.rule import ScalingRule
from scalesearch.study.documents import read, with_tuples
from scalesearch.study.load import load_study, located_source
from scalesearch.study.recipes import recipe
from scalesearch.study.sections import DataSection, RuntimeSection, Study
from scalesearch.study.training import RecipeSection, TrainingSection
from scalesearch.trained.job import Job
from scalesearch.trained.transfer_plan import plan_transfer

if TYPE_CHECKING:
    from scalesearch.results.load import Run


def plan_job(
    rule: ScalingRule | Run | str | Path | None,
    phi: float | None,
    origin: str | os.PathLike[str] | None,
    study: Study | str | Path | None,
    data: str | None,
    resolution: int | None,
    max_resolution: int | None,
    changes: Mapping[str, Any],
) -> tuple[Job, Splits, str]:
    """What `train` is to train, its data, and a name for the folder; arguments as those of `train`."""
    if (rule is None) != (phi is None):
        raise InputError("`phi` chooses a network of a rule's family: give both, or neither and the network of --from")
    if rule is None and origin is None:
        raise InputError("nothing to train: give a rule and its `phi`, or the network of --from")
    for key, value in (("resolution", resolution), *((key, changes.get(key)) for key in ("frozen", "layer_rate"))):
        if value is not None and origin is None:
            raise InputError(f"`{key}` belongs to a transfer: it needs --from")
    if max_resolution is not None and rule is None:
        raise InputError("`max_resolution` belongs to the networks of a rule: for that of --from, give `resolution`")

    # The rule, and the study that goes with it.
    folder: Path | None = None
    if isinstance(rule, str | Path):
        path = Path(rule)
        folder, rule = (path if path.is_dir() else path.parent), read_rule(path)
    elif rule is not None and not isinstance(rule, ScalingRule):
        folder, rule = rule.folder, rule.rule
    if study is None and folder is not None and (folder / "study.toml").is_file():
        study = folder / "study.toml"
    if isinstance(study, str | Path):
        study = load_study(study)
    section, training, runtime = _sections(rule, study, data)
    given = {} if study is None or study.train is None else dict(study.train)
    values = read(RecipeSection, {**given, **changes}, lambda each: each, "[train]")
    if origin is not None:
        member = None if rule is None or phi is None else _member(rule, phi, max_resolution)
        return plan_transfer(origin, member, section, training, runtime, values, resolution)

    # The data, then the network for their channels and classes.
    assert rule is not None
    assert phi is not None
    assert training is not None
    splits = load_splits(section)
    spec = _with_data(_member(rule, phi, max_resolution), splits)
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
    return job, splits, f"{study.name if study is not None else rule.baseline.name}-phi{phi:g}"


def _member(rule: ScalingRule, phi: float, max_resolution: int | None) -> ArchitectureSpec:
    """The network of the rule's family. Warns if it costs anything but B^φ."""
    try:
        check_max_resolution(rule.baseline, max_resolution)
        (member,) = found = family(rule, phi, max_resolution=max_resolution)
    except ValueError as error:
        raise InputError(f"the network: {error}") from None
    if not member.within_tolerance:
        warnings.warn(cost_note(found, tolerance_of(rule)), stacklevel=3)
    return member.spec


def _sections(
    rule: ScalingRule | None, study: Study | None, data: str | None
) -> tuple[DataSection, TrainingSection | None, RuntimeSection]:
    """Data, training and runtime: of the study, or else as they were when the rule was found, if there is one."""
    training, runtime = None, RuntimeSection()
    if study is not None:
        training, runtime = study.training, study.runtime
    elif rule is not None:
        training = read(TrainingSection, rule.training, lambda each: each, "the rule")
    if data is not None:
        return DataSection(source=located_source(data, (Path.cwd(),))), training, runtime
    if study is not None:
        return study.data, training, runtime
    if rule is None:
        raise InputError("--from needs images to train on: name them by --data or --study")
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
