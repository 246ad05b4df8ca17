"""A function of the user's own that returns images and labels."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scalesearch.data.arrays import Arrays, source_of_arrays
from scalesearch.data.images import DataError, Source
from scalesearch.data.items import is_indexable, source_of_items
from scalesearch.errors import InputError
from scalesearch.runtime import modules
from scalesearch.runtime.text import first_line, short
from scalesearch.study.sections import DataSection
from scalesearch.study.sources import FUNCTION, known_sources

_ROLES = {"train": "train", "training": "train", "validation": "validation", "val": "validation", "test": "test"}
_CLASSES = "classes"


def read(source: str, argument: str, section: DataSection) -> Source:
    """What a function returns: a set, three of them, or a dict of sets.

    The function takes no arguments. A set is a pair of arrays, images and labels, or any object with a length whose
    items are pairs, an image and its label. A dict has the keys `train`, and `validation`, `test` and `classes` (the
    names of the classes, if labels are their places) if there are.

    Args:
        source: the source, for messages.
        argument: `package.module:function`, and before it the folder of the module and a slash, if it is known.
        section: says where the channels are, and how images are made square.

    Raises:
        DataError: there is no such function, it raises an error, or returns something else.
    """
    sets, classes = _sets(source, _called(source, argument))
    if all(is_indexable(value) for value in sets.values()):
        return source_of_items(source, sets, section, classes)
    arrays = {role: _arrays(f"{source}: {role}", value) for role, value in sets.items()}
    read = source_of_arrays(arrays, section, classes)
    for role, split in zip(("train", "validation", "test"), (read.train, read.validation, read.test), strict=True):
        if classes and split is not None:
            _check_places(f"{source}: {role}", split.labels, classes)
    return read


def _called(source: str, argument: str) -> Any:
    """The result of the function. What it prints goes to stderr: stdout belongs to the command."""
    place, slash, name = argument.rpartition("/")
    if not FUNCTION.fullmatch(name):
        raise DataError(f"{source}: must be of the form package.module:function")
    if slash:
        modules.look_in(Path(place or "/"), Path.cwd())
    with contextlib.redirect_stdout(sys.stderr):
        try:
            function = modules.load(name, "`data.source`")
        except InputError as error:
            others = "" if slash else f"; other sources are {known_sources()}"
            raise DataError(f"{error}{others}") from None
        if not callable(function):
            raise DataError(f"{source}: must be a function, but got {short(function)}")
        try:
            return function()
        except (Exception, SystemExit) as error:
            raise DataError(f"{source}: raised {raised(error, function)}") from None


def raised(error: BaseException, function: Callable[..., Any]) -> str:
    """An error of a user's function as one line, with the line of the user's file that led to it."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f" ({Path(file).name}, line {lines[-1]})" if file and lines else ""
    return f"{type(error).__name__}: {first_line(error)}{where}"


def _sets(source: str, result: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The sets by role, and the names of the classes."""
    if isinstance(result, Mapping):
        unknown = [key for key in result if key not in (*_ROLES, _CLASSES)]
        if unknown:
            raise DataError(f"{source}: keys must be train, validation, test and classes, but got {short(unknown[0])}")
        sets = {_ROLES[key]: value for key, value in result.items() if key in _ROLES and value is not None}
        names = result.get(_CLASSES) or ()
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{source}: `classes` must be a list of names, but got {short(names)}")
        if "train" not in sets:
            raise DataError(f"{source}: must return a set called train, but returned {short(list(result))}")
        return sets, tuple(names)
    if isinstance(result, tuple) and len(result) == 3:
        sets = dict(zip(("train", "validation", "test"), result, strict=True))
        if sets["train"] is not None:
            return {role: value for role, value in sets.items() if value is not None}, ()
    if isinstance(result, tuple) and len(result) == 2 and any(isinstance(each, tuple) for each in result):
        raise DataError(f"{source}: must return two sets by name, as a dict of train and validation or test")
    return {"train": result}, ()


def _arrays(where: str, value: Any) -> Arrays:
    """Images and labels as arrays."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        kind = "None" if value is None else f"{type(value).__name__} {short(value, 40)}"
        raise DataError(
            f"{where}: must be a pair of arrays (images, labels) or an object with a length and items, but got {kind}"
        )
    try:
        images, labels = (np.asarray(each) for each in value)
    except Exception as error:  # whatever the user's objects raise
        raise DataError(f"{where}: must be a pair of arrays, but cannot be made one ({first_line(error)})") from None
    return Arrays(images, labels, f"{where} images", f"{where} labels")


def _check_places(where: str, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """Raises `DataError` if labels are no places of the names of classes."""
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(f"{where}: labels must be from 0 to {len(classes) - 1}, the places of `classes`")
