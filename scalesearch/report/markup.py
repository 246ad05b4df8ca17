"""How an object shows itself in a notebook: a title, a small table and sentences as HTML, every string escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def markup(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *sentences: str) -> str:
    """`title` in bold, a table (without a heading row where `header` is empty), and `sentences` below it."""
    head = [_row("th", header)] if header else []
    table = "".join([*head, *(_row("td", row) for row in rows)])
    told = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences if sentence)
    return f"<b>{escape(title)}</b>" + (f"<table>{table}</table>" if table else "") + told


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
