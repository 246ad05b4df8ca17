"""What a plan says in sentences: its baseline, its networks, its trainings and the time that they take."""

from __future__ import annotations

from scalesearch.data.images import Pictures
from scalesearch.data.splits import Splits
from scalesearch.report.views.table import duration, network, quantity
from scalesearch.runtime.text import enumerated, percent, plural
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.compound import Baseline
from scalesearch.search.plan.corners import MOST_TRIED, cannot_grow, tolerance_for_corners
from scalesearch.search.plan.design import Plan, halvings, planned_size
from scalesearch.search.plan.reference import reference_seconds
from scalesearch.search.plan.timing import DEVICE, predicted_seconds
from scalesearch.study.sections import Study

# The reference is mentioned if it takes more than this part of the candidates' time.
_NOTICED = 0.05


def baseline(plan: Plan) -> str:
    """The baseline and its cost."""
    cost = plan.baseline_complexity
    return (
        f"{plan.baseline.name}: {quantity(cost.macs)} macs, {quantity(cost.params)} parameters, "
        f"{quantity(cost.activations)} activations; {network(plan.baseline.spec)}"
    )


def data(splits: Splits) -> str:
    """The images of the study: how many, of how many classes, how large."""
    sizes = [
        f"{len(split):,} {name}"
        for name, split in (("training", splits.train), ("validation", splits.validation), ("test", splits.test))
        if len(split)
    ]
    colour = "grey" if splits.in_channels == 1 else f"{splits.in_channels} channels"
    each = "median " if isinstance(splits.train.images, Pictures) else ""
    return (
        f"{splits.source}: {enumerated(sizes)} images of {plural(splits.num_classes, 'class', 'classes')}, "
        f"{each}{splits.native_resolution} px, {colour}{'' if len(splits.test) else '; none to test a rule on'}"
    )


def enlarged(plan: Plan, splits: Splits) -> str:
    """That some candidates look at more pixels than the images have; empty if none does."""
    largest = max((trial.candidate.spec.resolution for trial in plan.trials), default=0)
    if largest <= splits.native_resolution:
        return ""
    return (
        f"Some candidates look at up to {largest} px, which the images of {splits.native_resolution} px are enlarged "
        "to: this costs more and shows no more"
    )


def counts(study: Study, plan: Plan) -> str:
    """How many networks were counted, how many cost the budget, how many would be trained."""
    if study.design.nominal:
        to_baseline = plan.feasible - len(plan.trials)
        return (
            f"{plan.counted:,} grid points, {plan.feasible} with a nominal product within {percent(plan.tolerance)} "
            f"of {plan.budget:g}; {len(plan.distinct)} distinct networks"
            + (f" ({to_baseline} points round back to the baseline)" if to_baseline else "")
        )
    planned = f"{len(plan.trials)} of them planned ({study.design.kind})" if plan.trials else "chosen as it goes (tpe)"
    sample = "" if plan.counted == plan.combinations else f" (a sample of {plan.combinations:,})"
    twins = f" ({plan.computed:,} without resolutions of the same maps)" if plan.computed < plan.feasible else ""
    return (
        f"{plan.counted:,} networks counted{sample}; {plan.feasible:,} cost {plan.budget:g} × the baseline "
        f"within {percent(plan.tolerance)}{twins}; {planned}"
    )


def trainings(study: Study, plan: Plan, *, reference: bool = False) -> str:
    """How many trainings, and how long they should take, with the `reference` if this search trains it."""
    seeds = plural(study.seeds, "seed")
    if study.race and study.seeds > 1:
        seeds = f"1 to {seeds} (a race)"
    trainings = f"{plural(planned_size(study, plan), 'candidate')} × {seeds} × {plural(study.training.epochs, 'epoch')}"
    if study.prune:
        trainings = f"at most {trainings}; the weaker half is pruned {plural(halvings(study, plan), 'time')} on the way"
    candidates = [trial.candidate for trial in plan.distinct]
    if not candidates:
        return trainings
    seconds = predicted_seconds(study, candidates)
    if seconds is None:
        return f"{trainings}; no time is predicted, since `data.train` is 0 and the data were not looked at"
    own = reference_seconds(study) or 0.0 if reference else 0.0
    times = [duration(seconds + own)]
    if study.race:
        once = predicted_seconds(study.model_copy(update={"seeds": 1}), candidates)
        times.insert(0, duration((once or 0.0) + own))
    included = ", the baseline as a reference included" if own > _NOTICED * seconds else ""
    return f"{trainings}: about {' to '.join(dict.fromkeys(times))} on {DEVICE}{included}"


def cautions(study: Study, plan: Plan) -> tuple[str, ...]:
    """What the rounding of the baseline keeps the search from finding out, in sentences."""
    stuck = cannot_grow(study, plan)
    said = [_stuck(plan.baseline, name, step) for name, step in stuck.items()]
    if unreached := [name for name in plan.unreached if name not in stuck]:
        corners = " or ".join(f"all {name} (at most {_largest(plan, name)})" for name in unreached)
        cure = _cure(study, plan, "them all" if len(unreached) > 1 else "it")
        said.append(f"No candidate is near {corners}: an optimum there would be an extrapolation{cure}")
    return tuple(said)


def _cure(study: Study, plan: Plan, corners: str) -> str:
    """Which tolerance reaches `corners` that the plan does not; empty if that would take long to find out."""
    if plan.feasible > MOST_TRIED:
        return ""
    tolerance = tolerance_for_corners(study, plan)
    if tolerance is None:
        return " (no tolerance up to 0.1 changes that)"
    return f" (--tolerance {tolerance:g} reaches {corners})"


def _largest(plan: Plan, name: str) -> str:
    """The largest share of a dimension that a candidate has, and the size of that candidate."""
    candidate = max((trial.candidate for trial in plan.trials), key=lambda one: float(getattr(one.shares, name)))
    return f"{percent(getattr(candidate.shares, name))}, {_size(candidate.spec, name)}"


def _stuck(baseline: Baseline, name: str, step: tuple[ArchitectureSpec, float] | None) -> str:
    """That a dimension cannot grow within the budget, what its least growth costs, and what to change."""
    if step is None:
        return f"{name.capitalize()} cannot grow: the rounding keeps it as it is"
    spec, ratio = step
    rounding = baseline.rounding
    coarse, finer, other = {
        "depth": (rounding.depth != "balanced", "balanced rounding of depth", "a deeper baseline"),
        "width": (rounding.width_divisor > 1, "a lower `width_divisor`", "a wider baseline"),
        "resolution": (
            rounding.resolution_step > 1,
            "a lower `resolution_step`",
            "a baseline of higher resolution or smaller strides",
        ),
    }[name]
    ways = f"a larger budget, {finer}" if coarse else "a larger budget"
    return (
        f"{name.capitalize()} cannot grow within the budget: {_size(spec, name)} cost {ratio:.2f}×. "
        f"To search it, take {ways} or {other}"
    )


def _size(spec: ArchitectureSpec, name: str) -> str:
    """The size of a network in one dimension."""
    return {
        "depth": f"{sum(spec.depths)} blocks",
        "width": f"widths {'-'.join(str(stage.width) for stage in spec.stages)}",
        "resolution": f"{spec.resolution} px",
    }[name]
