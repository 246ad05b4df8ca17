"""What a storage may hold instead of what we wrote: found where it is read, so that no other function meets it.

Rows that Optuna itself cannot read are found in `patience`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

from scalesearch.errors import InputError, StorageError
from scalesearch.results.records import candidate_from_json, record_from_json
from scalesearch.runtime.modules import is_own
from scalesearch.runtime.text import short
from scalesearch.search.queue.extension import EXTENDED
from scalesearch.search.queue.trials import BEAT, CANDIDATE, DEATHS, RECORD, SEEDS, WORKER
from scalesearch.study.extent import GROWTH

_BEATS = ([int, int], [int, float])


def check_trial(trial: FrozenTrial, number: int) -> None:
    """Raises `InputError` if the trial of this number is another one, or has attributes that we do not store."""
    if trial.number != number:
        raise InputError(f"its number is {short(trial.number)}: a row before it may be missing")
    attributes = trial.user_attrs
    if CANDIDATE in attributes:
        candidate_from_json(attributes[CANDIDATE])
        seeds = attributes.get(SEEDS)
        if not (isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds)):
            raise InputError(f"`{SEEDS}` must be a list of whole numbers, but got {short(seeds)}")
    if RECORD in attributes:
        record_from_json(attributes[RECORD])
    if not isinstance(attributes.get(WORKER, {}), dict):
        raise InputError(f"`{WORKER}` must be an object, but got {short(attributes[WORKER])}")
    beat = attributes.get(BEAT)
    if beat is not None and not (isinstance(beat, list) and [type(each) for each in beat] in _BEATS):
        raise InputError(f"`{BEAT}` must be a count and a fraction, but got {short(beat)}")
    deaths = attributes.get(DEATHS, [])
    if not (isinstance(deaths, list) and all(isinstance(death, str) for death in deaths)):
        raise InputError(f"`{DEATHS}` must be a list of texts, but got {short(deaths)}")


def check_types(attributes: Mapping[str, Any], where: str, types: Mapping[str, type]) -> None:
    """Raises `StorageError` if an attribute of a study is an empty object, or of another type than is stored there.

    Args:
        attributes: those of the study.
        where: the study, in errors.
        types: the type of each; those of extensions are known.
    """
    if not all(isinstance(key, str) for key in attributes):
        raise StorageError(f"{where} is damaged (an attribute has no name)")
    extensions = {key: dict for key in attributes if key.startswith(EXTENDED)}
    for key, kind in {**types, **extensions}.items():
        value = attributes.get(key)
        if key in attributes and (not isinstance(value, kind) or isinstance(value, bool) or value == {}):
            raise StorageError(f"{where} is damaged (`{key}` is {short(value)})")
        if isinstance(value, dict):
            sizes = {name: size for name, size in value.items() if name in GROWTH}
            if any(type(size) not in (int, float) for size in sizes.values()) or (key in extensions and sizes != value):
                raise StorageError(f"{where} is damaged (`{key}` is {short(value)})")


def has_own_code(value: object) -> bool:
    """Whether a study's document names code of the user's own somewhere in its baseline."""
    if isinstance(value, Mapping):
        return any(has_own_code(item) for key, item in value.items() if key != "data")
    if isinstance(value, list | tuple):
        return any(map(has_own_code, value))
    return isinstance(value, str) and is_own(value)
