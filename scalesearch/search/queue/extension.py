"""Extensions of a stored study: more seeds and larger designs, each stored by one write.

Each extension has an attribute of its own, and the study is as large as all of them together. So machines that extend
it at once cannot undo what another did, and a process that dies leaves it extended or as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from scalesearch.study.extent import GROWTH, Extent, joined

EXTENDED = "extended to "
"""How the names of these attributes begin."""

HINT = "only more `seeds`, a larger `design` of the same kind, levels (`phi`) and `rungs` extend a study"

_WAY_OUT = "use another run folder (`out`) or study name, or the same settings"


def extend(optuna_study: optuna.Study, extent: Extent) -> None:
    """Store that the study is as large as `extent`, a whole one, from now on."""
    name = ", ".join(f"{key} {value}" for key, value in extent.items())
    optuna_study.set_user_attr(f"{EXTENDED}{name}", dict(extent))


def extensions_in(attributes: Mapping[str, Any]) -> list[Extent]:
    """The extents that a study with these attributes was given after it was made."""
    return [value for key, value in attributes.items() if key.startswith(EXTENDED)]


def refusal(before: Mapping[str, Any], wanted: Mapping[str, Any], changed: Sequence[str]) -> str:
    """Why a study with the fingerprint `before` cannot grow to the fingerprint `wanted`; empty if it can.

    Args:
        before: as it is stored.
        wanted: that of the settings that are asked for.
        changed: the keys in which they differ.
    """
    differences = ", ".join(
        f"`{key}` was {_short(before.get(key))}, now {_short(wanted.get(key))}" for key in sorted(changed)
    )
    if any(key not in GROWTH or key not in before for key in changed):
        hint = HINT
        epochs = before.get("training.epochs", 0), wanted["training.epochs"]
        if epochs[0] < epochs[1]:
            hint = f"{hint} (a longer schedule with the shorter one as a rung: --epochs {epochs[0]},{epochs[1]})"
        return f"was made with other settings: {differences}; {hint}; {_WAY_OUT}"
    smaller = [key for key in sorted(changed) if joined(({key: before[key]}, {key: wanted[key]}))[key] != wanted[key]]
    if smaller:
        least = ", ".join(f"`{key}` {_short(before[key])}" for key in smaller)
        return f"is larger than what is asked for: {differences}; it can grow but not shrink: ask for at least {least}"
    if wanted.get("prune"):
        return (
            f"prunes, so it cannot be extended: {differences}; its candidates were judged after parts of these seeds' "
            f"epochs, which would no longer be the same; {_WAY_OUT}"
        )
    return ""


def _short(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
