"""Lays a table out for the width of a terminal: leaves out what other columns imply, wraps headings and networks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len
from rich.table import Table as Grid

from scalesearch.report.views.table import Table

_GAP = 2
# A text is wrapped to the first width before another column is left out for it, to the second one before headings are
# broken, and never to less than the third.
_WRAPPED, _READABLE, _NARROWEST = 24, 16, 12
# The pieces that stay whole. A text may be wrapped at spaces and behind dashes, but "at 224 px" and "2 ×" are one.
_TEXT = re.compile(r"at \d+ px|[^\s-]*-|[^\s-]+(?: ×)?|\s+")
_HEADING = re.compile(r"[=·÷φ] \S+|\S+(?: ×)?|\s+")
_WORDS, _WHOLE = re.compile(r"\S+|\s+"), re.compile(r".+")


def fit(table: Table, width: int) -> Table:
    """`table` without the optional columns that a terminal of `width` columns has no room for."""
    keys = list(table.optional)
    while keys and _total(_widths(table, _WHOLE, most=_WRAPPED)) > width:
        table = table.without(*keys.pop(0))
    return table


def render(table: Table, width: int) -> Grid:
    """`table`, all of it, for a terminal of `width` columns; see `fit`."""
    # Headings stay whole if there is room; otherwise they break into pieces, in the end into words.
    for pieces in (_WHOLE, _HEADING, _WORDS):
        widths = _widths(table, pieces)
        if _total(_widths(table, pieces, most=_READABLE)) <= width:
            break
    # The widest text gets what the others leave.
    texts = [place for place, column in enumerate(table.columns) if column.is_text]
    too_much = _total(widths) - width
    if texts and too_much > 0:
        widest = max(texts, key=widths.__getitem__)
        widths[widest] = max(widths[widest] - too_much, min(_NARROWEST, widths[widest]))
    grid = Grid(box=None, pad_edge=False, show_header=any(table.headings))
    for column, size in zip(table.columns, widths, strict=True):
        heading = wrap(column.heading, size, pieces)
        grid.add_column(heading, justify="left" if column.is_text else "right", width=size)
    for row in table.rows:
        grid.add_row(*(wrap(cell, size) for cell, size in zip(row, widths, strict=True)))
    return grid


def wrap(text: str, width: int, pieces: re.Pattern[str] = _TEXT) -> str:
    r"""`text` in lines of at most `width` columns, broken between `pieces` only.

    >>> wrap("1-2-2-3 × 16-24-40-80 at 224 px", 12)
    '1-2-2-3 ×\n16-24-40-80\nat 224 px'
    """
    if cell_len(text) <= width:
        return text
    lines = [""]
    for piece in pieces.findall(text):
        if lines[-1].strip() and cell_len((lines[-1] + piece).strip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.strip() for line in lines if line.strip())


def _widths(table: Table, pieces: re.Pattern[str], most: int | None = None) -> list[int]:
    """The width of each column, its heading broken into `pieces`; a text counts as at most `most`."""
    widths = []
    for place, column in enumerate(table.columns):
        cells = (*pieces.findall(column.heading), *(row[place] for row in table.rows))
        size = max(map(cell_len, cells))
        widths.append(min(size, most) if most is not None and column.is_text else size)
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * max(len(widths) - 1, 0)
