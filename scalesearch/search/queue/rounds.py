"""The rounds of a race: each is stored by one write before its trials are queued.

The next round follows from the records of whole rounds. So one that was queued in part, by a process that died or
sleeps, is completed first: else the race would depend on when that was.
"""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from scalesearch.errors import InputError, StorageError
from scalesearch.results.records import candidate_from_json, candidate_to_json
from scalesearch.search.plan.design import PlannedTrial
from scalesearch.search.queue.optuna_study import enqueue_missing
from scalesearch.search.queue.storage import storage_errors

_ROUND = "round after "
"""How the names of these attributes of a study begin."""


@storage_errors()
def store_round(optuna_study: optuna.Study, ended: int, wanted: Sequence[PlannedTrial]) -> None:
    """Store what a race trains after `ended` trials; workers that do so at once store the same."""
    if wanted:
        tasks = [{"candidate": candidate_to_json(trial.candidate), "seeds": [*trial.seeds]} for trial in wanted]
        optuna_study.set_user_attr(f"{_ROUND}{ended}", tasks)


@storage_errors()
def enqueue_rounds(optuna_study: optuna.Study, *, again: bool) -> int:
    """Queue what the stored rounds of a race lack; returns how many trials. `again`: as in `enqueue_missing`."""
    wanted = []
    for key, tasks in optuna_study.user_attrs.items():
        if key.startswith(_ROUND):
            try:
                candidates = [(candidate_from_json(task["candidate"]), tuple(task["seeds"])) for task in tasks]
            except (InputError, LookupError, TypeError) as error:
                raise StorageError(f"the study {optuna_study.study_name!r} is damaged (`{key}`: {error})") from None
            wanted += [PlannedTrial(candidate.shares, candidate, 0.0, seeds) for candidate, seeds in candidates]
    return enqueue_missing(optuna_study, wanted, planned=False, again=again)
