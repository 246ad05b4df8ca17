"""What a plan says in sentences: its baseline, its networks, its trainings and the time that they take."""

from __future__ import annotations

from scalesearch.data.images import Pictures
from scalesearch.data.splits import Splits
from scalesearch.report.views.table import duration, network, quantity
from scalesearch.runtime.text import enumerated, percent, plural
from scalesearch.search.plan.design import Plan, halvings, planned_size, tolerance_for_corners
from scalesearch.search.plan.timing import DEVICE, predicted_seconds
from scalesearch.study.sections import Study


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
        f"{each}{splits.native_resolution} px, {colour}"
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


def trainings(study: Study, plan: Plan) -> str:
    """How many trainings, and how long they should take."""
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
        return f"{trainings}; no time is predicted if `data.train` is 0 (all images)"
    times = [duration(seconds)]
    if study.race:
        once = predicted_seconds(study.model_copy(update={"seeds": 1}), candidates)
        times.insert(0, duration(once or 0.0))
    return f"{trainings}: about {' to '.join(dict.fromkeys(times))} on {DEVICE}"


def unreached_corners(study: Study, plan: Plan) -> str:
    """The corners of the triangle that no planned candidate is near, and a tolerance that would reach them."""
    if not plan.unreached:
        return ""
    tolerance = tolerance_for_corners(study, plan)
    cure = "no tolerance up to 0.1 changes that" if tolerance is None else f"--tolerance {tolerance:g} reaches them all"
    corners = " or ".join(f"all {name}" for name in plan.unreached)
    return f"No candidate is near {corners}: an optimum there would be an extrapolation ({cure})"
