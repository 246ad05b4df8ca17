"""Data sets of named splits, whose rows have named columns: which split is which, and which column holds what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from scalesearch.data.images import DataError
from scalesearch.runtime.text import enumerated

T = TypeVar("T")

USUAL_IMAGES = ("image", "img")
USUAL_LABELS = ("label", "labels", "fine_label")
_ROLES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def splits_by_role(where: str, splits: Mapping[str, T]) -> tuple[dict[str, T], tuple[str, ...]]:
    """The splits named train, validation and test, whichever there are, and a note on those left out.

    The only split of a set is its training set, whatever its name. Raises `DataError` without a training set.

    >>> splits_by_role("hf:x", {"train": 1, "val": 2, "extra": 3})
    ({'train': 1, 'validation': 2}, ('the split extra is left out',))
    """
    names = {role: name for role, usual in _ROLES.items() for name in reversed(usual) if name in splits}
    if len(splits) == 1:
        names = {"train": next(iter(splits))}
    if "train" not in names:
        held = f"the splits {enumerated(list(splits))}" if splits else "no splits"
        raise DataError(f"{where}: must have a split named train, but has {held}")
    others = [name for name in splits if name not in names.values()]
    word = "split" if len(others) == 1 else "splits"
    notes = (f"the {word} {enumerated(others)} {'is' if len(others) == 1 else 'are'} left out",) if others else ()
    return {role: splits[name] for role, name in names.items()}, notes


def chosen_column(
    where: str, key: str, given: str | None, typed: Collection[str], possible: Collection[str], usual: Collection[str]
) -> str:
    """The column that holds the images or the labels.

    Args:
        where: the source, for messages.
        key: the key of the study that names the column, `image_column` or `label_column`.
        given: the name that the study or the data set gives, if one does.
        typed: the columns whose type says that they hold it.
        possible: the columns whose type allows it.
        usual: names that such columns usually have, the most usual first.

    Raises:
        DataError: the column given cannot be used, or none or several columns may be meant.

    >>> chosen_column("hf:x", "label_column", None, ["coarse_label", "fine_label"], [], USUAL_LABELS)
    'fine_label'
    """
    what = "images" if key == "image_column" else "labels"
    usable = list(dict.fromkeys([*typed, *possible]))
    if given is not None:
        if given not in usable:
            allowed = f"one of {', '.join(usable)}" if usable else f"a column of {what}, of which there is none"
            raise DataError(f"{where}: `{key}` must be {allowed}, but got {given!r}")
        return given
    candidates = list(typed) or [name for name in usual if name in possible]
    if len(candidates) == 1:
        return candidates[0]
    if named := [name for name in usual if name in candidates]:
        return named[0]
    if candidates:
        raise DataError(f"{where}: has several columns of {what}, {enumerated(candidates)}: set `{key}` to one of them")
    if not usable:
        raise DataError(f"{where}: must have a column of {what}, but has none")
    raise DataError(
        f"{where}: no column of {what} is found: set `{key}` to one of {', '.join(usable)} (found by itself: "
        f"{', '.join(usual)})"
    )
