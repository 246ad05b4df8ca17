"""Small pieces of text that every room needs: counted nouns and the first line of an error."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """A count and its noun.

    >>> plural(1, "candidate"), plural(1200, "candidate")
    ('1 candidate', '1,200 candidates')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def first_line(error: BaseException) -> str:
    r"""The first line of what the first cause of `error` said; the name of its type where it said nothing.

    >>> first_line(ValueError("too large\nhint: try less"))
    'too large'
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
