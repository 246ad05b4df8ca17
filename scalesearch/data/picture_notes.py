"""What a reader of pictures says: which are broken, and what becomes of the values of others."""

from __future__ import annotations

from collections.abc import Sequence

from scalesearch.data.images import DataError
from scalesearch.runtime.text import plural

_NAMED = 3


def broken_notes(source: str, problems: Sequence[str], skipped: bool) -> tuple[str, ...]:
    """A note on broken pictures, if there are any. Raises `DataError` if they are not skipped.

    >>> broken_notes("folder:pets", ["dog/2.png: is empty"], skipped=True)
    ('1 broken picture left out: dog/2.png: is empty',)
    """
    if not problems:
        return ()
    if not skipped:
        others = f" (and {plural(len(problems) - 1, 'other')})" if len(problems) > 1 else ""
        raise DataError(f"{source}: {problems[0]}{others}; to leave out broken pictures, set `skip_broken` in [data]")
    more = "; …" if len(problems) > _NAMED else ""
    return (f"{plural(len(problems), 'broken picture')} left out: {'; '.join(problems[:_NAMED])}{more}",)


def conversion_notes(pictures: int, grey: int, deep: int, transparent: int) -> tuple[str, ...]:
    """Notes on pictures that are read in another form than they have.

    Args:
        pictures: all of them.
        grey: those without colour, beside others.
        deep: those of more than 8 bits a value.
        transparent: those with an alpha channel.

    >>> conversion_notes(pictures=9, grey=9, deep=0, transparent=1)
    ('1 picture with an alpha channel: shown on white',)
    """
    notes = (
        (grey % max(pictures, 1), "without colour", "read as red, green and blue, like the others"),
        (deep, "of more than 8 bits a value", "read with 8 bits"),
        (transparent, "with an alpha channel", "shown on white"),
    )
    return tuple(f"{plural(count, 'picture')} {what}: {then}" for count, what, then in notes if count)
