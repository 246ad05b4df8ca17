"""Data sets of HuggingFace: saved to disk, in Parquet files, as folders of pictures, or from the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scalesearch.data.arrays import Arrays, source_of_arrays
from scalesearch.data.columns import array_of, is_array, is_encoded, is_label, labels_of
from scalesearch.data.encoded import read_rows
from scalesearch.data.files import expanded
from scalesearch.data.images import DataError, Source
from scalesearch.data.picture_index import read_picture
from scalesearch.data.picture_listing import SUFFIXES
from scalesearch.data.row_facts import Row, Rows
from scalesearch.data.tables import (
    USUAL_IMAGES,
    USUAL_LABELS,
    Label,
    any_labels,
    checked_labels,
    chosen_column,
    splits_by_role,
    unlabelled,
)
from scalesearch.runtime.text import enumerated, first_line
from scalesearch.study.sections import DataSection

_SAVED = ("dataset_dict.json", "state.json")  # of a DatasetDict and a Dataset, by `save_to_disk`
_PARQUET = b"PAR1"
_LONGEST_REASON = 500
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def read(source: str, argument: str, section: DataSection) -> Source:
    """The splits of a data set, read by the library `datasets`.

    Parquet files and folders of pictures pass through that library's cache of Arrow files (HF_HOME). A name is looked
    up on the hub if there is no such file or folder. No code of a data set is executed.

    Raises:
        DataError: the library or the data set is not there, a file is broken, or no column holds images or labels.
    """
    where, splits = source, _load(source, argument)
    roles, notes = splits_by_role(where, splits)
    image, label, classes = _columns(where, roles, section)
    images, labels = {}, {}
    for role, split in roles.items():
        for name in (image, label):
            try:
                split.data.column(name).validate(full=True)  # broken offsets would be followed out of the file
            except pa.ArrowInvalid as error:
                raise DataError(f"{where}: split {role}: the column {name} is broken ({first_line(error)})") from None
        images[role], labels[role] = split.data.column(image), labels_of(split.data.column(label))
    if is_array(images["train"].type):
        return _source_of_arrays(where, images, labels, classes, notes, section)
    rows = {role: _Pictures(role, split, (image, label), labels[role]) for role, split in roles.items()}
    return read_rows(where, rows, classes, notes, section)


class _Pictures(Rows):
    """A column of encoded pictures, or of paths to them."""

    def __init__(self, role: str, split: Any, columns: tuple[str, str], labels: list[Label]) -> None:
        self._role, self._split, self._columns, self._labels = role, split, columns, labels
        self._column = split.data.column(columns[0])

    def __len__(self) -> int:
        return len(self._column)

    def row(self, place: int) -> Row:
        value = self._column[place].as_py()
        content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if content is None:
            if path is None:
                raise DataError(f"{self.name(place)}: holds no picture")
            content = read_picture(Path(), path, f"{self.name(place)}: {path}")
        return Row(content, self._labels[place])

    def name(self, place: int) -> str:
        return f"split {self._role}: row {place}"

    def files(self) -> Sequence[Path] | None:
        """The Arrow files, if they hold the pictures themselves."""
        kind = self._column.type
        content = pc.struct_field(self._column, "bytes") if pa.types.is_struct(kind) else self._column
        files = [Path(file["filename"]) for file in self._split.cache_files]
        return files if files and not content.null_count else None

    def columns(self) -> tuple[str, str]:
        return self._columns


def _source_of_arrays(
    where: str,
    images: Mapping[str, pa.ChunkedArray],
    labels: Mapping[str, list[Label]],
    classes: tuple[str, ...],
    notes: tuple[str, ...],
    section: DataSection,
) -> Source:
    """The source, if images are arrays in columns."""
    sets = {}
    for role, column in images.items():
        if role != "train" and not any_labels(labels[role]):
            notes += (unlabelled(role),)
            continue
        place = f"{where}: split {role}"
        numbers = checked_labels(where, f"split {role}: row {{}}".format, labels[role], classes)
        sets[role] = Arrays(array_of(place, column), numbers, place, place)
    return source_of_arrays(sets, section, classes, notes)


def _columns(where: str, splits: Mapping[str, Any], section: DataSection) -> tuple[str, str, tuple[str, ...]]:
    """The columns of images and of labels, and the names of the classes: the same in all splits."""
    import datasets

    features = splits["train"].features
    types = {name: splits["train"].data.schema.field(name).type for name in features}
    image = chosen_column(
        where,
        "image_column",
        section.image_column,
        [name for name, feature in features.items() if isinstance(feature, datasets.Image)],
        [name for name, kind in types.items() if is_encoded(kind) or is_array(kind)],
        USUAL_IMAGES,
    )
    label = chosen_column(
        where,
        "label_column",
        section.label_column,
        [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)],
        [name for name, kind in types.items() if is_label(kind) and name != image],
        USUAL_LABELS,
    )
    for role, split in splits.items():
        if any(split.features.get(name) != features[name] for name in (image, label)):
            raise DataError(f"{where}: the columns {image} and {label} of the split {role} must be those of train")
    names = features[label].names if isinstance(features[label], datasets.ClassLabel) else ()
    return image, label, tuple(names or ())


def _load(source: str, argument: str) -> Mapping[str, Any]:
    """The splits of the data set."""
    name, config = argument, ""
    if ":" in argument and not expanded(source, argument).exists():
        name, _, config = argument.rpartition(":")
    place = expanded(source, name)
    if place.is_dir() and config:
        if not (place / config).is_dir():
            folders = sorted(path.name for path in place.iterdir() if path.is_dir())[:6]
            raise DataError(f"{source}: {place} must have a folder {config}, but has {enumerated(folders or ['none'])}")
        place /= config
    if not place.exists() and not _HUB_NAME.fullmatch(name):
        raise DataError(f"{source}: must be a folder, a Parquet file or a name on the hub, but there is no {place}")
    with _quiet_library(source) as datasets:
        if not place.exists():
            failed = f"{source}: must be a folder, a Parquet file or a name on the hub; there is no folder {place}, and"
            return _splits_of(failed, partial(datasets.load_dataset, name, config or None))
        failed = f"{source}: {place} cannot be read:"
        if any((place / name).is_file() for name in _SAVED):
            return _splits_of(failed, partial(datasets.load_from_disk, str(place)))
        files = [place] if place.is_file() else sorted([*place.glob("*.parquet"), *place.glob("*/*.parquet")])
        for file in files:
            _check_parquet(f"{source}: {file}", file)
        if place.is_file():
            return _splits_of(failed, partial(datasets.load_dataset, "parquet", data_files={"train": [str(place)]}))
        if not files and not _has_pictures(place):
            raise DataError(
                f"{source}: {place} must hold a saved data set ({' or '.join(_SAVED)}), Parquet files, or pictures in "
                "a folder for each class, but holds none of them"
            )
        kind = "parquet" if files else "imagefolder"
        return _splits_of(failed, partial(datasets.load_dataset, kind, data_dir=str(place)))


def _has_pictures(folder: Path) -> bool:
    """Whether there are pictures in a folder or its sub-folders, those of classes below those of splits."""
    patterns = ("*.*", "*/*.*", "*/*/*.*")
    return any(path.suffix[1:].lower() in SUFFIXES for pattern in patterns for path in folder.glob(pattern))


def _check_parquet(where: str, path: Path) -> None:
    """Raises `DataError` if a file does not begin and end as Parquet files do."""
    try:
        with path.open("rb") as stream:
            first = stream.read(4)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 8))
            footer = stream.read(8)
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror or error})") from None
    if first != _PARQUET:
        raise DataError(f"{where}: must be a Parquet file, but it starts with {first.hex(' ') or 'nothing'}")
    if footer[4:] != _PARQUET or int.from_bytes(footer[:4], "little") > size - 12:
        raise DataError(f"{where}: must be a whole Parquet file, but its end is missing or broken")


def _splits_of(failed: str, call: Callable[[], Any]) -> Mapping[str, Any]:
    """The splits that the library returns: a dict of them, or one data set to train on."""
    try:
        loaded = call()
    except Exception as error:  # of many types, from many libraries
        reason = first_line(error) if error.__cause__ else " ".join(str(error).split())[:_LONGEST_REASON]
        raise DataError(f"{failed} {reason}") from None
    return loaded if isinstance(loaded, dict) else {"train": loaded}


@contextmanager
def _quiet_library(source: str) -> Iterator[Any]:
    """The library without progress bars, log messages and telemetry, if it is installed."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    try:
        import datasets
        import huggingface_hub
    except ImportError:
        raise DataError(f'{source}: needs the package datasets: pip install "scalesearch[huggingface]"') from None
    loggers = (datasets.logging, huggingface_hub.logging)
    levels, bars = [logger.get_verbosity() for logger in loggers], datasets.is_progress_bar_enabled()
    for logger in loggers:
        logger.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        yield datasets
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()
