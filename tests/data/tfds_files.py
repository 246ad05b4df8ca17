"""A prepared TFDS folder, as `download_and_prepare` writes it, made without tensorflow-datasets."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scalesearch.data.records import masked_crc32c

Example = Mapping[str, bytes | int]
FEATURES = {"image": {"image": {"dtype": "uint8"}}, "label": {"classLabel": {"numClasses": "3"}}, "id": {"text": {}}}
CLASSES = ("cat", "dog", "owl")


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that holds bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def serialised(example: Example) -> bytes:
    """tensorflow/core/example/feature.proto, by hand."""
    entries = b""
    for key, value in example.items():
        feature = field(1, field(1, value)) if isinstance(value, bytes) else field(3, field(1, varint(value)))
        entries += field(1, field(1, key.encode()) + field(2, feature))
    return field(1, entries)


def tfrecord(records: Sequence[bytes]) -> bytes:
    """https://www.tensorflow.org/tutorials/load_data/tfrecord"""
    parts = []
    for record in records:
        length = struct.pack("<Q", len(record))
        checksums = (struct.pack("<I", masked_crc32c(part)) for part in (length, record))
        parts += [length, next(checksums), record, next(checksums)]
    return b"".join(parts)


def write_records(path: Path, kind: str, records: Sequence[bytes]) -> None:
    if kind == "tfrecord":
        path.write_bytes(tfrecord(records))
        return
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def write_tfds(
    folder: Path,
    splits: Mapping[str, Sequence[Sequence[Example | bytes]]],
    kind: str = "tfrecord",
    *,
    features: Mapping[str, Any] = FEATURES,
    supervised: tuple[str, str] | None = ("image", "label"),
) -> Path:
    """A version folder: each split is a list of files, each a list of records."""
    folder.mkdir(parents=True)
    described = []
    for split, files in splits.items():
        for index, examples in enumerate(files):
            name = f"tiny-{split}.{kind}-{index:05d}-of-{len(files):05d}"
            records = [example if isinstance(example, bytes) else serialised(example) for example in examples]
            write_records(folder / name, kind, records)
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        lengths = [str(len(examples)) for examples in files]
        described.append({"filepathTemplate": template, "name": split, "shardLengths": lengths})
    info: dict[str, Any] = {"fileFormat": kind, "name": "tiny", "version": "1.0.0", "splits": described}
    if supervised:
        info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": key} for key in supervised]}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    class_name = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    (folder / "features.json").write_text(
        json.dumps({"featuresDict": {"features": features}, "pythonClassName": class_name})
    )
    (folder / "label.labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return folder
