"""The stored searches of a run, and the training of the trials that they lack, in worker processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalesearch.runtime import interrupts
from scalesearch.search.events import OnEvent, PreparationReports, SearchEnded, SearchStarted, TrialsEnded
from scalesearch.search.plan.design import Plan
from scalesearch.search.plan.timing import predicted_seconds
from scalesearch.search.supervision import instructions_for, start_workers, watch
from scalesearch.study.sections import Study

if TYPE_CHECKING:
    from scalesearch.data.images import Pictures
    from scalesearch.results.records import TrialRecord


@dataclass(frozen=True, slots=True)
class StoredSearch:
    """One search of a run: its study and plan, and Optuna's study that stores its trials."""

    study: Study
    plan: Plan
    optuna_study: Any
    label: str = ""
    metric: str = ""

    def fill_queue(self) -> int:
        """Queues what nobody has trained; returns how many trials there will be, as far as is known.

        Raises `StudyMismatch` if the study holds other networks than those that are planned.
        """
        from scalesearch.search.queue.filling import fill_queue
        from scalesearch.search.queue.planned import check_plan

        check_plan(self.optuna_study, self.study, self.plan)
        return fill_queue(self.optuna_study, self.study, self.plan)

    @property
    def predicted_seconds(self) -> float | None:
        """Predicted duration, on the reference machine, of the trials that are left."""
        from scalesearch.search.queue.filling import tasks_left

        if not self.plan.distinct:
            return None
        tasks = tasks_left(self.optuna_study, self.study, self.plan)
        return predicted_seconds(self.study, *zip(*tasks, strict=True)) if tasks else 0.0


class _Watchers:
    """Fills the queues of the candidates' search and, if it has one, of its reference; looks at both as at one."""

    def __init__(self, searches: Sequence[StoredSearch]) -> None:
        from scalesearch.search.queue.looks import Watcher

        self._watched = [(search.fill_queue(), Watcher(search.optuna_study)) for search in searches]
        self.total, self.missing, self.failed = 0, 0, 0

    def look(self) -> tuple[TrialRecord, ...]:
        """The records of trials that have ended since the last look; updates the counts.

        A reference that failed is no failed trial: the rule needs none.
        """
        looks = [(expected, *watcher.look()) for expected, watcher in self._watched]
        self.total = sum(max(expected, sum(states.values())) for expected, _, states in looks)
        self.missing = sum(_missing(expected, states) for expected, _, states in looks)
        self.failed = looks[0][2]["failed"]
        return tuple(record for _, records, _ in looks for record in records)


def _missing(expected: int, states: Mapping[str, int]) -> int:
    """How many of the `expected` trials have no result, or of those that are queued."""
    unfinished = states["waiting"] + states["running"]
    return max(expected - (sum(states.values()) - unfinished), unfinished)


def train_missing(
    search: StoredSearch,
    url: str,
    deadline: float,
    on_event: OnEvent,
    later_seconds: float = 0.0,
    pictures: Sequence[Pictures] = (),
    reference: StoredSearch | None = None,
    patience: float | None = None,
) -> None:
    """Trains the trials that `search` lacks, and before them its `reference`, in worker processes.

    `patience` is how many seconds they wait for a storage that is away.
    `pictures` are those of the data, if they are not arrays: they are decoded once for each resolution of the plans.
    """
    from scalesearch.data.cache import ImageCache, recipe_of

    searches = [search] if reference is None else [search, reference]
    watchers = _Watchers(searches)
    records = watchers.look()
    if not (watchers.missing or (search.study.race and _race_goes_on(search, records))):
        on_event(f"{search.label}all trials are finished: nothing to train")
        on_event(SearchEnded(0, watchers.failed))
        return

    resolutions = sorted({trial.candidate.spec.resolution for each in searches for trial in each.plan.distinct})
    recipes = [recipe_of(each, resolution) for resolution in resolutions for each in pictures]
    prepared = ImageCache().build(recipes, PreparationReports(on_event))  # kept as long as the workers run
    predicted = [each.predicted_seconds for each in searches]
    on_event(
        SearchStarted(
            study=search.study,
            label=search.label,
            metric=search.metric or search.study.metric,
            trials=watchers.total,
            records=records,
            predicted_seconds=None if None in predicted else sum(seconds or 0.0 for seconds in predicted),
            later_seconds=later_seconds,
        )
    )
    _build_kernels_ahead(search.study, on_event)
    interrupts.check()
    first = None if reference is None else reference.study.name
    instructions = instructions_for(search.study, url, deadline, first, patience)
    with start_workers(instructions) as running:
        for trial_ended in watch(running, on_event):
            new = watchers.look()
            if new or trial_ended:
                on_event(TrialsEnded(new, watchers.total))
    del prepared
    new = watchers.look()
    if new:
        on_event(TrialsEnded(new, watchers.total))
    on_event(SearchEnded(watchers.missing, watchers.failed))


def _race_goes_on(search: StoredSearch, records: Sequence[TrialRecord]) -> bool:
    from scalesearch.search.plan.racing import next_round  # with pandas and scipy, which no other search needs

    candidates = [record for record in records if not record.candidate.is_baseline]
    return bool(next_round(search.study, search.plan, candidates))


def _build_kernels_ahead(study: Study, on_event: OnEvent) -> None:
    """Compiles the CPU kernels with all cores while the workers, which each have a part of them, import jax."""
    from scalesearch.models.ops.cpu.library import build_ahead

    build_ahead(study.runtime.convolutions, lambda text: on_event(text.strip()))
