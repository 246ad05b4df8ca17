"""The kinds of data sources by name. `data.sources` has a reader for each, in a module of that name."""

from __future__ import annotations

SOURCES = {
    "mnist-sample": "",
    "folder": "DIR",
    "cifar10": "DIR",
    "cifar100": "DIR",
    "idx": "DIR",
    "npz": "FILE",
    "hf": "DIR_OR_NAME[:CONFIG]",
    "tfds": "DIR_OR_NAME",
}
"""By kind, what follows it and a colon: nothing, or a place. DIR and FILE are paths; `DIR_OR_NAME` may be one."""


def parse_source(source: str) -> tuple[str, str]:
    """The kind of a data source and its argument, "" if it takes none.

    Raises `ValueError` for an unknown kind, and for an argument too few or too many.

    >>> parse_source("idx:~/mnist"), parse_source("mnist-sample")
    (('idx', '~/mnist'), ('mnist-sample', ''))
    """
    kind, colon, argument = source.partition(":")
    if kind in SOURCES and bool(SOURCES[kind]) == bool(argument) and bool(colon) == bool(argument):
        return kind, argument
    *first, last = [f"{kind}:{argument}" if argument else kind for kind, argument in SOURCES.items()]
    raise ValueError(f"`source` must be {', '.join(first)} or {last}, but got {source!r}")
