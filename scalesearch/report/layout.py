"""Fits a table to the width of a terminal: leaves out what other columns imply, wraps headings and networks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len
from rich.table import Table as Grid

from scalesearch.report.views.table import Table

_GAP = 2
# Texts wider than this are wrapped before another column is left out for them; narrower than the other, never.
_WRAPPED, _NARROWEST = 24, 12
# Where a text may be wrapped: at spaces and behind dashes, but not within "at 224 px" nor before "×".
_PIECE = re.compile(r"at \d+ px|[^\s-]*-|[^\s-]+(?: ×)?|\s+")


def render(table: Table, width: int) -> Grid:
    """`table` for a terminal of `width` columns."""
    # Leave out optional columns, the first one first, while the rest is too wide.
    keys = [key for key in table.optional if key in {column.key for column in table.columns}]
    while keys and _total(_widths(table, most=_WRAPPED)) > width:
        table = table.without(keys.pop(0))
    # Then give headings as many lines as they have words, and wrap texts into what is left.
    widths = _widths(table)
    if _total(widths) > width:
        widths = _widths(table, headings_wrap=True)
    texts = [place for place, column in enumerate(table.columns) if column.is_text]
    too_much = _total(widths) - width
    if texts and too_much > 0:
        widest = max(texts, key=widths.__getitem__)
        widths[widest] = max(widths[widest] - too_much, min(_NARROWEST, widths[widest]))
    grid = Grid(box=None, pad_edge=False, show_header=any(table.headings))
    for column, size in zip(table.columns, widths, strict=True):
        grid.add_column(column.heading, justify="left" if column.is_text else "right", min_width=size)
    for row in table.rows:
        grid.add_row(*(wrap(cell, size) for cell, size in zip(row, widths, strict=True)))
    return grid


def wrap(text: str, width: int) -> str:
    r"""`text` in lines of at most `width` columns, broken at spaces and behind dashes only.

    >>> wrap("1-2-2-3 × 16-24-40-80 at 224 px", 12)
    '1-2-2-3 ×\n16-24-40-80\nat 224 px'
    """
    if cell_len(text) <= width:
        return text
    lines = [""]
    for piece in _PIECE.findall(text):
        if lines[-1].strip() and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.strip() for line in lines if line.strip())


def _widths(table: Table, most: int | None = None, headings_wrap: bool = False) -> list[int]:
    """The width of each column; texts count as at most `most`."""
    widths = []
    for place, column in enumerate(table.columns):
        words = column.heading.split() if headings_wrap else [column.heading]
        size = max((cell_len(cell) for cell in (*words, *(row[place] for row in table.rows))), default=0)
        widths.append(min(size, most) if most is not None and column.is_text else size)
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * max(len(widths) - 1, 0)
