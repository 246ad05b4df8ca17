"""json: the object of model.json. A rule by itself is written by `rule_json`."""

from __future__ import annotations

from pathlib import Path

from scalesearch.trained.card import ModelCard, NamedArrays, card_text


def export(card: ModelCard, arrays: NamedArrays | None, target: Path) -> None:
    """Writes the card; JSON holds no weights."""
    del arrays
    target.write_text(card_text(card), encoding="utf-8")
