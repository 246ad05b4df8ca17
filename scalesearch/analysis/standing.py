"""How the candidates stand against guessing and against the baseline, trained on the same schedule and seeds.

A rule says something only if its candidates learned, and a network of B times the cost should be better than the
baseline. Where that is not so the schedule is too short or the learning rate is wrong, which must be said first.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from scalesearch.analysis.comparison import finished_runs, is_beaten, two_way
from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.surfaces.base import InsufficientTrials
from scalesearch.analysis.tables import trials_table
from scalesearch.results.records import NOTHING_LEARNED, TrialRecord, merged_records
from scalesearch.runtime.text import plural

State = Literal["nothing learned", "doubtful", "sound"]
DOUBTFUL: State = "doubtful"
SOUND: State = "sound"

# A loss within this part of that of guessing has learned nothing: it is rounding, or the frequencies of the classes.
_MARGIN = 1e-3
# A network whose accuracy is this part of the way from chance to 1 has learned, whatever its loss.
_CLEARLY = 0.25
# The baseline's number among the candidates.
_BASELINE = -1
_LONGER = "Train longer (`training.epochs`) or change the learning rate"


@dataclass(frozen=True, slots=True)
class Standing:
    """How the candidates of a study stand; values are in the metric's unit, None if unknown.

    Attributes:
        state: nothing learned (no candidate is better than guessing: there is no rule), doubtful or sound.
        metric: name of the metric.
        guessing: what guessing gives: ln K or 1/K for K classes.
        networks: number of finished candidates and, if it finished, the baseline.
        no_better_than_guessing: how many of these are no better than guessing.
        best: the best candidate's mean, of the lowest level.
        best_ratio: its cost over the baseline's.
        baseline: the baseline's mean.
        better: whether the best candidate is better than the baseline beyond seed noise; None also if that is unknown.
        answer: the same in sentences; empty if there is nothing to compare with and no doubt.
    """

    state: State
    metric: str
    guessing: float
    networks: int
    no_better_than_guessing: int
    best: float
    best_ratio: float
    baseline: float | None
    better: bool | None
    answer: str

    def to_json(self) -> dict[str, Any]:
        """The standing as a JSON object."""
        return dataclasses.asdict(self)


def standing_of(
    records: Sequence[TrialRecord],
    trials: pd.DataFrame,
    reference: TrialRecord | None,
    metric: str,
    num_classes: int,
) -> Standing:
    """How the candidates of `records` stand against guessing and against the `reference`.

    The best candidate is compared with the baseline as candidates are with each other: Hsu's multiple comparison with
    the best, so that the best of many is not taken for better because there are many.

    Args:
        records: trials of the candidates.
        trials: their table, with `tables.TRIAL_COLUMNS`.
        reference: the trial of the baseline, if there is one.
        metric: name of the metric.
        num_classes: number of classes K.

    Raises:
        InsufficientTrials: if no candidate finished.
    """
    merged = merged_records(records)
    candidates = [record for record in merged.values() if record.failure is None]
    if not candidates:
        raise InsufficientTrials(f"a comparison needs a finished candidate, but none of {len(merged)} finished")

    # Against guessing.
    maximise = metric_of(metric).maximise
    guessing = 1 / num_classes if maximise else math.log(num_classes)
    trained = [] if reference is None or reference.failure is not None else [reference]
    guess = [_guesses(record, metric, guessing) for record in (*candidates, *trained)]

    # The best against the baseline, with the same effects of the seeds.
    lowest = min(record.phi for record in candidates)
    own = trials_table([dataclasses.replace(one, phi=lowest) for one in trained])
    own = own.assign(candidate=_BASELINE, trial=len(records))
    model = two_way(finished_runs(pd.concat([trials[trials["phi"].eq(lowest)], own]), metric), metric)
    means = dict(zip(model.candidates, model.means.tolist(), strict=True))
    best = (max if maximise else min)((number for number in means if number != _BASELINE), key=means.__getitem__)
    baseline = means.get(_BASELINE)

    draft = Standing(
        state=NOTHING_LEARNED if all(guess[: len(candidates)]) else SOUND,
        metric=metric,
        guessing=guessing,
        networks=len(guess),
        no_better_than_guessing=sum(guess),
        best=means[best],
        best_ratio=merged[best].candidate.cost_ratio,
        baseline=baseline,
        better=None,
        answer="",
    )
    if baseline is not None:
        draft = dataclasses.replace(draft, better=is_beaten(model, _BASELINE, metric) if _ahead(draft) else False)
    if draft.state == NOTHING_LEARNED:
        accuracy = max(record.mean("val_accuracy") for record in candidates)
        return dataclasses.replace(draft, answer=_nothing_learned(draft, num_classes, accuracy))
    doubts = [
        *_guessing_doubt(draft, baseline_too=any(guess[len(candidates) :])),
        *(_no_reference(reference) if reference is not None and not trained else _baseline_doubt(draft)),
    ]
    if doubts:
        return dataclasses.replace(draft, state=DOUBTFUL, answer=" ".join((*doubts, _cure(draft))))
    return dataclasses.replace(draft, answer=_gain(draft))


def _guesses(record: TrialRecord, metric: str, guessing: float) -> bool:
    """Whether a network is no better than guessing."""
    value = record.mean(metric)
    return value <= guessing if metric_of(metric).maximise else value >= guessing * (1 - _MARGIN)


def _nothing_learned(one: Standing, num_classes: int, accuracy: float) -> str:
    kind = metric_of(one.metric)
    limit = f"above {one.guessing:.2%}" if kind.maximise else f"below ln {num_classes} = {one.guessing:.4g}"
    said = (
        f"Nothing was learned: no candidate's {kind.label} is {limit}, which is that of guessing (the best has "
        f"{_text(one.best, one.metric)}). There is no rule."
    )
    if not kind.maximise and accuracy - 1 / num_classes > _CLEARLY * (1 - 1 / num_classes):
        return (
            f"{said} Yet up to {accuracy:.2%} of the images are classified right: the networks are overconfident. Set "
            '`metric = "val_accuracy"`, train for fewer epochs, or change the learning rate.'
        )
    return f"{said} {_LONGER}."


def _guessing_doubt(one: Standing, *, baseline_too: bool) -> list[str]:
    if not one.no_better_than_guessing:
        return []
    kind = metric_of(one.metric)
    limit = f"{one.guessing:.2%} or less" if kind.maximise else f"{one.guessing:.4g} or more"
    among = ", the baseline among them," if baseline_too else ""
    are = "is" if one.no_better_than_guessing == 1 else "are"
    counted = f"{one.no_better_than_guessing} of {plural(one.networks, 'network')}"
    return [f"{counted}{among} {are} no better than guessing ({kind.label} {limit})."]


def _no_reference(reference: TrialRecord) -> list[str]:
    failure = reference.failure
    return [f"The baseline has no result ({failure.kind}: {failure.reason})."] if failure is not None else []


def _baseline_doubt(one: Standing) -> list[str]:
    if one.baseline is None or one.better is not False:
        return []
    values = f"{_text(one.best, one.metric)} against {_text(one.baseline, one.metric)}"
    if _ahead(one):
        how = "beats the baseline by no more than seed noise"
    else:
        how = "is no better than the baseline" if one.best == one.baseline else "is worse than the baseline"
    return [f"At {one.best_ratio:.3g}× the cost the best candidate {how} ({metric_of(one.metric).label} {values})."]


def _cure(one: Standing) -> str:
    if metric_of(one.metric).maximise and one.best == one.baseline == 1:
        return 'The task is too easy for this metric: set `metric = "val_loss"`.'
    more = "Run more seeds. " if one.better is False and _ahead(one) else ""
    return f"{more}{_LONGER} before you use the rule."


def _ahead(one: Standing) -> bool:
    """Whether the best candidate's mean is better than the baseline's."""
    if one.baseline is None:
        return False
    return one.best > one.baseline if metric_of(one.metric).maximise else one.best < one.baseline


def _gain(one: Standing) -> str:
    """What the cost buys."""
    if one.baseline is None:
        return ""
    kind = metric_of(one.metric)
    if kind.maximise:
        gain = f"raises the {kind.label} by {100 * (one.best - one.baseline):.2f} percentage points"
    else:
        gain = f"lowers the {kind.label} by {one.baseline - one.best:.4f}"
    unknown = " With one seed each the seed noise is unknown." if one.better is None else ""
    return (
        f"At {one.best_ratio:.3g}× the cost the best candidate {gain} from the baseline's "
        f"{_text(one.baseline, one.metric)}.{unknown}"
    )


def _text(value: float, metric: str) -> str:
    return f"{value:.2%}" if metric_of(metric).maximise else f"{value:.4f}"
