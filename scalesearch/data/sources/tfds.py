"""Prepared data sets of TensorFlow Datasets, in ArrayRecord or TFRecord files, read without TensorFlow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scalesearch.data.encoded import read_rows
from scalesearch.data.examples import parse_example
from scalesearch.data.files import expanded
from scalesearch.data.images import DataError, Source
from scalesearch.data.records import ArrayRecords, Records, TFRecords
from scalesearch.data.row_facts import Row, Rows
from scalesearch.data.tables import USUAL_IMAGES, USUAL_LABELS, chosen_column, splits_by_role
from scalesearch.runtime.text import enumerated, short
from scalesearch.study.sections import DataSection

_INFO, _FEATURES = "dataset_info.json", "features.json"
_FORMATS: dict[str, type[Records]] = {"array_record": ArrayRecords, "tfrecord": TFRecords}
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_LARGEST_JSON = 64 * 2**20
_MOST_CLASSES = 1_000_000
_DEPTH = 2  # below DIR: the configuration and the version


def read(source: str, argument: str, section: DataSection) -> Source:
    """The splits of a data set that `download_and_prepare` of tensorflow-datasets wrote.

    Raises:
        DataError: there is no such folder, a file is broken, or no feature is an image or a label.
    """
    folder = _folder(source, argument)
    where = f"{source}: {folder / _INFO}"
    info = _read_json(source, folder / _INFO)
    features = _features(source, folder / _FEATURES)
    image, label = _columns(source, info, features, section)
    roles, notes = splits_by_role(where, _splits(where, info))
    records = {role: _records(source, folder, info, split) for role, split in roles.items()}
    rows = {role: _Examples(held, image, label) for role, held in records.items()}
    return read_rows(source, rows, _classes(source, folder, features[label], label), notes, section)


class _Examples(Rows):
    """The image and the label of each record. A label is a whole number or text."""

    def __init__(self, records: Records, image: str, label: str) -> None:
        self._records, self._image, self._label = records, image, label

    def __len__(self) -> int:
        return len(self._records)

    def row(self, place: int) -> Row:
        try:
            values = parse_example(self._records.record(place))
            (content,), (label,) = values[self._image], values[self._label]
            if not isinstance(content, bytes) or not isinstance(label, int | bytes):
                raise ValueError("holds values of other types than features.json says")
            return Row(content, label.decode() if isinstance(label, bytes) else label)
        except (KeyError, ValueError) as error:
            reason = f"has no feature {error}" if isinstance(error, KeyError) else error
            raise DataError(f"{self.name(place)}: {reason}") from None

    def name(self, place: int) -> str:
        return self._records.name(place)

    def files(self) -> Sequence[Path]:
        return self._records.paths

    def columns(self) -> tuple[str, str]:
        return self._image, self._label


def _folder(source: str, argument: str) -> Path:
    """The folder with dataset_info.json: the argument itself, the newest version in it, or that in TFDS's folder."""
    base = expanded(source, os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    name, _, version = argument.partition(":")  # as TFDS writes it: NAME/CONFIG:VERSION
    choices = (expanded(source, argument), expanded(source, str(base / name / version)))
    root = next((folder for folder in choices if folder.is_dir()), None)
    if root is None:
        raise DataError(
            f"{source}: must be a folder of a prepared TFDS data set or its name, but there is no folder "
            f"{choices[0]} or {choices[1]}"
        )
    found = [path.parent for depth in range(_DEPTH + 1) for path in root.glob("*/" * depth + _INFO)]
    if not found:
        held = enumerated(sorted(path.name for path in root.iterdir())[:6]) if any(root.iterdir()) else "nothing"
        raise DataError(f"{source}: {root} must hold {_INFO}, at most {_DEPTH} folders deep, but holds {held}")
    parents = {folder.parent for folder in found}
    if len(parents) > 1:
        names = sorted(str(parent.relative_to(root)) for parent in parents)
        raise DataError(f"{source}: {root} holds several data sets, {enumerated(names)}: name one of them")
    return max(found, key=lambda folder: [int(number) for number in re.findall(r"\d+", folder.name)])


def _read_json(where: str, path: Path) -> Mapping[str, Any]:
    """The content of a JSON file of usual size."""
    try:
        with path.open("rb") as stream:
            text = stream.read(_LARGEST_JSON + 1)
        if len(text) > _LARGEST_JSON:
            raise DataError(f"{where}: {path}: must be at most {_LARGEST_JSON:,} bytes long")
        content = json.loads(text)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{where}: {path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: {path}: not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{where}: {path}: must be an object, but got {short(content)}")
    return content


def _features(where: str, path: Path) -> Mapping[str, Any]:
    """The named features of the records, as TFDS 4.3 and later writes them."""
    content = _read_json(where, path)
    match content:
        case {"featuresDict": {"features": dict(features)}}:
            return {name: value for name, value in features.items() if isinstance(value, dict)}
    raise DataError(f"{where}: {path}: must list features by name (featuresDict), but got {short(content)}")


def _columns(where: str, info: Mapping[str, Any], features: Mapping[str, Any], section: DataSection) -> tuple[str, str]:
    """The features that hold the images and the labels: named by the study, by `supervisedKeys`, or found."""
    first = second = None
    match info:
        case {"supervisedKeys": {"tuple": {"items": [{"featureKey": str(one)}, {"featureKey": str(two)}]}}}:
            first, second = one, two
    images = [name for name, value in features.items() if _is_image(value)]
    classes = [name for name, value in features.items() if "classLabel" in value]
    others = [name for name, value in features.items() if "text" in value or _is_whole_number(value)]
    first, second = first if first in images else None, second if second in [*classes, *others] else None
    image = chosen_column(where, "image_column", section.image_column or first, images, (), USUAL_IMAGES)
    label = chosen_column(where, "label_column", section.label_column or second, classes, others, USUAL_LABELS)
    return image, label


def _is_image(feature: Mapping[str, Any]) -> bool:
    """Whether a feature holds encoded images of 8 or 16 bits: floats are stored as the bytes of a PNG file."""
    match feature:
        case {"image": {"dtype": str(dtype)}}:
            return dtype in ("uint8", "uint16")
    return "image" in feature


def _is_whole_number(feature: Mapping[str, Any]) -> bool:
    match feature:
        case {"tensor": {"dtype": str(dtype), **rest}}:
            shape = rest.get("shape") or {}
            return "int" in dtype and isinstance(shape, dict) and not shape.get("dimensions")
    return False


def _splits(where: str, info: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What dataset_info.json says of each split, by name."""
    splits = info.get("splits")
    if not isinstance(splits, list) or not splits:
        raise DataError(f"{where}: must list the splits of the data set, but got {short(splits)}")
    named: dict[str, Mapping[str, Any]] = {}
    for split in splits:
        match split:
            case {"name": str(name), "shardLengths": list(_)}:
                named[name] = split
            case _:
                raise DataError(f"{where}: a split must have a name and shardLengths, but got {short(split)}")
    return named


def _records(source: str, folder: Path, info: Mapping[str, Any], split: Mapping[str, Any]) -> Records:
    """The records of a split, whose files are named by a template."""
    where = f"{source}: {folder / _INFO}"
    kind = info.get("fileFormat", "tfrecord")
    if not isinstance(kind, str) or kind not in _FORMATS:
        raise DataError(f"{where}: fileFormat must be {enumerated(list(_FORMATS))}, but got {short(kind)}")
    try:
        lengths = [int(length) for length in split["shardLengths"]]
    except (TypeError, ValueError):
        lengths = [-1]
    template = split.get("filepathTemplate") or _TEMPLATE
    if not isinstance(template, str) or min(lengths, default=0) < 0:
        raise DataError(f"{where}: a split must name its files and their lengths, but got {short(split)}")
    paths = []
    for index in range(len(lengths)):
        parts = {
            "DATASET": info.get("name"),
            "SPLIT": split["name"],
            "FILEFORMAT": kind,
            "SHARD_INDEX": f"{index:05d}",
            "NUM_SHARDS": f"{len(lengths):05d}",
            "SHARD_X_OF_Y": f"{index:05d}-of-{len(lengths):05d}",
        }
        name = template
        for part, value in parts.items():
            name = name.replace(f"{{{part}}}", str(value))
        if Path(name).name != name:
            raise DataError(f"{where}: the files must be in this folder, but got {short(name)}")
        paths.append(folder / name)
    return _FORMATS[kind](source, paths, lengths)


def _classes(where: str, folder: Path, feature: Mapping[str, Any], label: str) -> tuple[str, ...]:
    """The names of the classes from LABEL.labels.txt, or their numbers; none if the labels are no ClassLabel."""
    if "classLabel" not in feature:
        return ()
    path = folder / f"{label}.labels.txt"
    if path.is_file():
        try:
            return tuple(path.read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError) as error:
            raise DataError(f"{where}: {path}: cannot be read ({error})") from None
    match feature["classLabel"]:
        case {"numClasses": str() | int() as count} if str(count).isdecimal() and int(count) <= _MOST_CLASSES:
            return tuple(map(str, range(int(count))))
    raise DataError(
        f"{where}: {folder / _FEATURES}: must give the number of classes, but got {short(feature['classLabel'])}"
    )
