"""What of a study may grow while it stays the same study: its seeds, and the size of its design."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scalesearch.study.sections import Study

Extent = Mapping[str, Any]
"""How large a study is: the values of `GROWTH`'s keys, named as in `Study.identity`."""

GROWTH: Mapping[str, Callable[[Any, Any], Any]] = {
    "seeds": max,
    "design.degree": max,
    "design.size": max,
    "design.step": min,
    "design.band": max,
}
"""What may grow, and which of two values is the larger extent: a grid is larger with a smaller step."""


def extent_of(study: Study) -> Extent:
    """How large `study` is."""
    identity = study.identity()
    return {key: identity[key] for key in GROWTH}


def joined(extents: Iterable[Extent]) -> Extent:
    """The least extent that holds all of `extents`.

    >>> joined([{"seeds": 2, "design.degree": 6}, {"seeds": 3, "design.degree": 4}])
    {'seeds': 3, 'design.degree': 6}
    """
    largest: dict[str, Any] = {}
    for extent in extents:
        for key, value in extent.items():
            largest[key] = GROWTH[key](largest[key], value) if key in largest else value
    return largest


def with_extent(study: Study, extent: Extent) -> Study:
    """`study` with the values of `extent`."""
    section = {key.removeprefix("design."): value for key, value in extent.items() if key.startswith("design.")}
    design = study.design.model_copy(update=section)
    return study.model_copy(update={"seeds": extent.get("seeds", study.seeds), "design": design})
