"""The checkpoints of a training: Orbax, in the folder `checkpoints`, the last two and the best.

Each is written whole or not at all. One that is damaged later, which a digest of all arrays shows, is left out.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from scalesearch.runtime.text import first_line
from scalesearch.trained.card import NamedArrays
from scalesearch.trained.weights import digest_of

_log = logging.getLogger(__name__)

FOLDER = "checkpoints"
RANKS = ("first", "second")
"""The two numbers that a checkpoint is ranked by: the larger, the better; the second where the first are equal."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The arrays of a training and what else it goes on from; `where` names it in errors."""

    number: int
    where: str
    arrays: NamedArrays
    facts: Mapping[str, Any]


class Checkpoints:
    """Writes checkpoints in the background, and reads them. A context manager that waits for the last one."""

    def __init__(self, folder: Path) -> None:
        self._folder = (folder / FOLDER).absolute()
        self._manager = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.close()

    def save(
        self, number: int, arrays: NamedArrays, facts: Mapping[str, Any], rank: tuple[float, float] | None = None
    ) -> None:
        """Writes a checkpoint, whose `number` is above those before, as soon as the last one is written.

        `rank` is that of the end of an epoch.
        """
        items = {
            "state": ocp.args.StandardSave(arrays),
            "facts": ocp.args.JsonSave({**facts, "digest": digest_of(arrays)}),
        }
        metrics = None if rank is None else dict(zip(RANKS, rank, strict=True))
        if not self._manager.save(number, args=ocp.args.Composite(**items), metrics=metrics):
            raise RuntimeError(f"checkpoint {number} must come after {self._manager.latest_step()}")

    def last(self) -> Checkpoint | None:
        """The last checkpoint that is whole; those behind it are removed, which is logged. None if there is none."""
        for number in sorted(self._manager.all_steps(), reverse=True):
            checkpoint = self.at(number)
            if checkpoint is not None:
                return checkpoint
            shutil.rmtree(self._folder / str(number))  # else Orbax takes none before it
            self._manager.close()
            self._manager = self._open()
        return None

    def at(self, number: int) -> Checkpoint | None:
        """The checkpoint of a number; None, which is logged, if it is not there or not whole."""
        if number not in self._manager.all_steps():
            return None
        where = self._folder / str(number)
        items = {"state": ocp.args.StandardRestore(), "facts": ocp.args.JsonRestore()}
        try:
            restored = self._manager.restore(number, args=ocp.args.Composite(**items))
            arrays = {name: np.asarray(array) for name, array in restored.state.items()}
            facts = dict(restored.facts)
            reason = "" if facts.pop("digest") == digest_of(arrays) else "its digest is another"
        except Exception as error:  # a damaged file can raise anything
            reason = first_line(error)
        if reason:
            _log.warning("%s is damaged and is left out (%s)", where, reason)
            return None
        return Checkpoint(number, str(where), arrays, facts)

    def wait(self) -> None:
        """Waits until all is written."""
        self._manager.wait_until_finished()

    def _open(self) -> Any:
        """Orbax' manager, which reads some files of every checkpoint: one without them is removed before."""
        for place in self._folder.glob("[0-9]*"):
            if place.name.isdecimal() and not _is_described(place):
                _log.warning("%s is damaged and is left out (its description is broken)", place)
                shutil.rmtree(place)
        best = checkpoint_managers.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False)
        kept = checkpoint_managers.AnyPreservationPolicy([checkpoint_managers.LatestN(2), best])
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=kept, best_fn=_rank, best_mode="max", cleanup_tmp_directories=True
            ),
        )


def _is_described(place: Path) -> bool:
    """Whether Orbax can read the description and the metrics of a checkpoint, as it does when it opens their folder."""
    try:
        described: Any = ocp.path.step.standard_name_format().find_step(place.parent, int(place.name))
        _ = described.commit_timestamp
        metrics = place / "metrics" / "metrics"
        return not metrics.exists() or isinstance(json.loads(metrics.read_text(encoding="utf-8")), dict)
    except Exception:  # as in `at`
        return False


def _rank(metrics: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(metrics[name] for name in RANKS)
