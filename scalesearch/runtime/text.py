"""Small pieces of text that every room needs: counted nouns, percentages, short values, first lines of errors."""

from __future__ import annotations

from collections.abc import Sequence


def plural(count: int, noun: str, nouns: str = "") -> str:
    """A count and its noun; `nouns` is a plural that does not end in s alone.

    >>> plural(1, "candidate"), plural(1200, "candidate"), plural(2, "study", "studies")
    ('1 candidate', '1,200 candidates', '2 studies')
    """
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


def enumerated(words: Sequence[str], most: int = 10) -> str:
    """Words as a sentence lists them; of more than `most`, the first ones and the last.

    >>> enumerated(["a", "b", "c"]), enumerated(["1", "2", "3", "4", "5"], most=3)
    ('a, b and c', '1, 2, … and 5')
    """
    if len(words) > most:
        words = [*words[: most - 1], "…", words[-1]]
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def percent(fraction: float, digits: int = 3) -> str:
    """A fraction in percent, to so many significant digits and at most two decimals.

    >>> percent(0.05), percent(0.31729), percent(0.26198, 2), percent(0.999, 2)
    ('5 %', '31.7 %', '26 %', '100 %')
    """
    rounded = float(f"{100 * fraction:.{digits}g}")
    return f"{round(rounded, 2):g} %"


def short(value: object, longest: int = 80) -> str:
    """A value as Python writes it, in one line, cut after `longest` characters.

    >>> short("text"), short([1, 2, 3], longest=5)
    ("'text'", '[1, 2…')
    """
    text = " ".join(line.strip() for line in repr(value).splitlines())
    return text if len(text) <= longest else f"{text[:longest]}…"


def first_line(error: BaseException) -> str:
    r"""The first line of the message of the first cause of `error`; the name of its type if the message is empty.

    >>> first_line(ValueError("too large\nhint: try less"))
    'too large'
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
