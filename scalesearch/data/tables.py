"""Data sets of named splits, whose rows have named columns: which split is which, and which column is what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
from jaxtyping import Shaped

from scalesearch.data.images import DataError
from scalesearch.runtime.text import enumerated, short

T = TypeVar("T")
Label: TypeAlias = int | str | None
"""A label as a row holds it; None if it has none."""

USUAL_IMAGES = ("image", "img")
USUAL_LABELS = ("label", "labels", "fine_label")
_LONGEST_LABEL = 200
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


def any_labels(labels: Sequence[Label]) -> bool:
    """Whether a split has labels: a test set whose labels are kept secret has none, or −1 in each row."""
    return not labels or any(label not in (None, -1) for label in labels)


def unlabelled(role: str) -> str:
    """The note on a split without labels."""
    return f"the {role} set has no labels, and is left out"


def checked_labels(
    where: str, name: Callable[[int], str], labels: Sequence[Label], classes: Sequence[str]
) -> Shaped[np.ndarray, " n"]:
    """Labels as an array of whole numbers or strings. If classes are named, each label must be the place of a name.

    Args:
        where: the source, for messages.
        name: where a row is, for messages.
        labels: the label of each row.
        classes: the names of the classes, or none.

    Raises:
        DataError: a label is missing, of another type than others, or names no class.
    """
    for place, label in enumerate(labels):
        if isinstance(label, str) and len(label) > _LONGEST_LABEL:
            raise DataError(f"{where}: {name(place)}: the label must have at most {_LONGEST_LABEL} characters")
        if label is None:
            raise DataError(f"{where}: {name(place)}: must have a label")
        if type(label) is not type(labels[0]):
            raise DataError(f"{where}: labels must be all whole numbers or all text, but got {labels[0]!r}, {label!r}")
        if classes and not (isinstance(label, int) and 0 <= label < len(classes)):
            allowed = f"0 to {len(classes) - 1:,}"
            raise DataError(f"{where}: {name(place)}: the label must be {allowed}, but is {short(label)}")
    return np.array(labels, dtype=str if isinstance(labels[0], str) else np.int64) if labels else np.empty(0, np.int64)
