"""The kinds of data sources by name. `data.sources` has a reader for each, in a module of that name."""

from __future__ import annotations

import re

from scalesearch.errors import InputError

SOURCES = {
    "mnist-sample": "",
    "folder": "DIR",
    "cifar10": "DIR",
    "cifar100": "DIR",
    "idx": "DIR",
    "npz": "FILE",
    "hf": "DIR_OR_NAME[:CONFIG]",
    "tfds": "DIR_OR_NAME",
    "python": "MODULE:FUNCTION",
}
"""By kind, what follows it and a colon: nothing, or a place. DIR and FILE are paths; `DIR_OR_NAME` may be one."""

FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""A function of the user's own, package.module:function; the kind before it may be left out."""


def parse_source(source: str) -> tuple[str, str]:
    """The kind of a data source and its argument, "" if it takes none.

    Raises `InputError` for an unknown kind, and for an argument too few or too many.

    >>> parse_source("idx:~/mnist"), parse_source("mnist-sample"), parse_source("my_data:load")
    (('idx', '~/mnist'), ('mnist-sample', ''), ('python', 'my_data:load'))
    """
    kind, colon, argument = source.partition(":")
    if kind in SOURCES and bool(SOURCES[kind]) == bool(argument) and bool(colon) == bool(argument):
        return kind, argument
    if kind not in SOURCES and FUNCTION.fullmatch(source):
        return "python", source
    raise InputError(f"`source` must be {known_sources()}, but got {source!r}")


def known_sources() -> str:
    """All kinds of sources with what follows them, for messages."""
    *first, last = [f"{kind}:{argument}" if argument else kind for kind, argument in SOURCES.items()]
    return f"{', '.join(first)} or {last}"
