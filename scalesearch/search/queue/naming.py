"""Under which names the parts of a study are stored: what was its whole schedule can become a rung of a longer one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from scalesearch.errors import StorageError, StudyMismatch
from scalesearch.search.plan.parts import Part, parts_of
from scalesearch.search.plan.reference import reference_study
from scalesearch.search.queue.extension import refusal
from scalesearch.search.queue.optuna_study import fingerprint, fingerprint_of, join_study, parts_in, study_of
from scalesearch.search.queue.storage import Storage, storage_errors, study_names
from scalesearch.study.extent import GROWTH
from scalesearch.study.load import parse_study
from scalesearch.study.sections import Study

_LENGTH = ("training.epochs", "training.warmup_epochs", "training.decay_epochs")
"""What may be another value in a longer schedule."""


@dataclass(frozen=True, slots=True)
class NamedParts:
    """The parts of a study and its reference, with the names of their stored studies.

    Attributes:
        parts: as `parts_of` gives them; the first is the full schedule at φ = 1.
        reference: the study that trains the baseline.
        note: why the study of the same name does not serve as a rung, a sentence; empty if it does, or need not.
    """

    parts: tuple[Part, ...]
    reference: Study
    note: str = ""

    @property
    def first(self) -> str:
        """The stored name of the full schedule at φ = 1."""
        return self.parts[0].study.name


@storage_errors()
def named_parts(storage: Storage, study: Study) -> NamedParts:
    """The parts of `study` under the names that they have, or will have, in `storage`.

    If `study` has 10 epochs and the rung 5, and the stored study of its name has 5, that one keeps its name. It is the
    rung if its schedule is exactly the rung's; else the rung is stored as NAME-epochs-5. The full schedule is
    NAME-epochs-10, and its levels and its reference begin with that name.
    """
    names = study_names(storage)
    before = _stored(storage, study.name) if study.name in names else None
    epochs, shorter = study.training.epochs, before and before.training.epochs
    longer = study.model_copy(update={"name": f"{study.name}-epochs-{epochs}"})
    # A run folder's copy of a shared storage may hold no earlier study.
    if shorter not in study.rungs and not (before is None and longer.name in names):
        return NamedParts(parts_of(study), reference_study(study))

    named, note = [], ""
    for part in parts_of(longer):
        name = part.study.name
        if part.rung:
            own = f"{study.name}-epochs-{part.rung}"  # or as a rung of another schedule
            candidates = [own, f"{own}-of-{epochs}"]
            if part.rung == shorter:
                candidates.insert(0, study.name)
            stored = {each: _stored(storage, each) for each in candidates if each in names}
            differences = {each: _differences(other, part.study) for each, other in stored.items() if other}
            name = next((each for each in candidates if not differences.get(each)), candidates[-1])
            if differences.get(study.name) and name not in names:
                note = (
                    f"the study {study.name!r} does not serve as the {part.label}, where {differences[study.name]}: "
                    f"that is trained anew, as {name!r}"
                )
        named.append(replace(part, study=part.study.model_copy(update={"name": name})))
    return NamedParts(tuple(named), reference_study(longer), note)


@storage_errors()
def stored_parts(storage: Storage, name: str) -> tuple[Study, NamedParts]:
    """The study whose full schedule is stored as `name`, and its parts as they are stored.

    Raises `StorageError` if the storage does not hold it.
    """
    first = join_study(storage, name)
    study = study_of(first)
    reference, *others = parts_in(first) or (None, name)
    parts = []
    for each in (study_of(join_study(storage, other)) for other in others):
        is_rung = each.training.epochs < study.training.epochs
        phi = 1.0 if is_rung else round(math.log(each.budget) / math.log(study.budget), 9)
        parts.append(Part(phi, each.training.epochs if is_rung else 0, each))
    phis = [part.phi for part in parts if not part.rung]
    rungs = [part.rung for part in parts if part.rung]
    document = {**study.model_dump(mode="json"), "phi": phis, "rungs": rungs}
    baseline = reference_study(study) if reference is None else study_of(join_study(storage, reference))
    return parse_study(document, f"study {name}"), NamedParts(tuple(parts), baseline)


@storage_errors()
def check_earlier(storage: Storage, named: NamedParts, study: Study, data_digest: str) -> None:
    """Raises `StudyMismatch` if the stored study of this name differs in more than its length from `study`."""
    if named.first == study.name:
        return
    before = fingerprint_of(join_study(storage, study.name))
    wanted = fingerprint(parts_of(study)[0].study, data_digest)
    changed = [key for key in {*before, *wanted} if before.get(key) != wanted.get(key)]
    if set(changed) - {*_LENGTH, *GROWTH}:
        raise StudyMismatch(f"the study {study.name!r} in {storage.name} {refusal(before, wanted, changed)}")


def _stored(storage: Storage, name: str) -> Study | None:
    """The settings of a stored study; None if it was cut short while it was made, or is another tool's."""
    with contextlib.suppress(StorageError):
        return study_of(join_study(storage, name))
    return None


def _schedule(study: Study) -> Mapping[str, Any]:
    identity = study.identity().items()
    return {key: value for key, value in identity if key.startswith("training.") or key == "prune"}


def _differences(stored: Study, rung: Study) -> str:
    """How the schedule of a rung differs from a stored one, in a clause; empty if it does not."""
    before, wanted = _schedule(stored), _schedule(rung)
    changed = (key for key in sorted({*before, *wanted}) if before.get(key) != wanted.get(key))
    pairs = ((key, wanted.get(key, "not set"), before.get(key, "not set")) for key in changed)
    return " and ".join(f"`{key}` is {now} instead of {then}" for key, now, then in pairs)
