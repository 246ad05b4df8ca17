"""The readers of data."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scalesearch.data.checks import check_signal
from scalesearch.data.decoding import decode_in_parts
from scalesearch.data.images import DataError, Pictures
from scalesearch.data.splits import load_splits
from scalesearch.study.sections import DataSection
from tests.data.test_sources_cifar import cifar10, cifar100, python2, python3, tar, unpack
from tests.data.tfds_files import encoded, write_tfds
from tests.fuzzing.targets import Target

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 2, 0, 1], np.uint8)


def splits(source: str, **settings: Any) -> None:
    """Reads a source as a search does: all splits, what is odd about them, and the pixels of pictures."""
    read = load_splits(DataSection(source=source, **settings))
    with contextlib.suppress(DataError):  # so few images rarely teach anything
        check_signal(read)
    for split in (read.train, read.validation, read.test):
        if isinstance(split.images, Pictures):
            for _ in decode_in_parts(split.images, 8):
                pass


def of_folder(kind: str, place: str = "") -> Callable[[Path], None]:
    """Reads the folder, or the file `place` in it, as a source of that kind."""
    return lambda folder: splits(f"{kind}:{folder / place}")


# IDX and NPZ.


def idx(array: np.ndarray) -> bytes:
    kinds = {"|u1": 8, ">i4": 12, ">f4": 13}
    return struct.pack(f">2xBB{array.ndim}I", kinds[array.dtype.str], array.ndim, *array.shape) + array.tobytes()


def idx_folders(folder: Path) -> None:
    for packed in (False, True):
        for number, (images, labels) in enumerate(((GREY, LABELS), (COLOUR.astype(">f4"), LABELS.astype(">i4")))):
            place = folder / f"{packed:d}{number}"
            place.mkdir()
            for name in ("train", "t10k"):
                for what, array in (("images-idx3", images), ("labels-idx1", labels)):
                    content = idx(array)
                    path = place / f"{name}-{what}-ubyte{'.gz' if packed else ''}"
                    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)


def npz_files(folder: Path) -> None:
    kinds: tuple[tuple[Any, Any], ...] = (
        (GREY, LABELS),
        (COLOUR / 255, np.eye(3)[LABELS]),
        (COLOUR.astype(">u2"), np.array(["a", "b", "é", "a", "b", "é"])),
        (GREY, LABELS.astype("M8[D]")),
        (GREY.astype(object), LABELS),
        (GREY.view([("r", "u1"), ("g", "u1")]), LABELS),
        (GREY, np.array([b"a", b"b"] * 3)),
        (np.asfortranarray(GREY), (LABELS.astype(np.int64) << 31)[:, None]),
    )
    for number, (images, labels) in enumerate(kinds):
        for save in (np.savez, np.savez_compressed):
            place = folder / f"{number}{save.__name__}"
            place.mkdir()
            save(place / "set.npz", x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2])


# CIFAR.


def cifar_folders(make: Callable[[Any], dict[str, bytes]], folder: Path) -> None:
    for name, dump in (("2", python2), ("3", python3), ("binary", None)):
        unpack(folder / name, make(dump))
        packed = f"{next(iter(make(dump))).partition('/')[0]}.tar.gz".replace("batches-bin", "binary")
        packed = packed.replace("batches-py", "python").replace("100-binary", "100-binary")
        (folder / f"{name} tar").mkdir()
        (folder / f"{name} tar" / packed).write_bytes(gzip.compress(tar(make(dump)), 1, mtime=0))


# Records, tables and pictures.


def pictures() -> list[tuple[str, bytes]]:
    """Pictures in many formats and modes, with their suffixes."""
    found = []
    for kind, mode, more in (
        ("PNG", "RGB", {}), ("PNG", "P", {}), ("PNG", "I;16", {}), ("PNG", "LA", {}), ("JPEG", "RGB", {}),
        ("JPEG", "CMYK", {}), ("WEBP", "RGB", {}), ("BMP", "RGB", {}), ("TIFF", "RGB", {}), ("TIFF", "F", {}),
        ("TIFF", "L", {"compression": "tiff_lzw"}), ("GIF", "P", {}), ("PPM", "L", {}),
    ):  # fmt: skip
        stream = io.BytesIO()
        Image.fromarray(COLOUR[0]).resize((9, 8)).convert(mode if mode != "I;16" else "L").convert(mode).save(
            stream, kind, **more
        )
        found.append((kind.lower(), stream.getvalue()))
    return found


def picture_folders(folder: Path) -> None:
    for number, (suffix, content) in enumerate(pictures()):
        for name in ("a", "b"):
            for place in range(2):
                path = folder / f"{number:02}" / ("train" if number % 2 else "") / name / f"{place}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content if place else encoded(GREY[0]))


def tfds_folders(kind: str, folder: Path) -> None:
    examples = [
        {"image": encoded(image), "label": int(label), "id": b"x"} for image, label in zip(COLOUR, LABELS, strict=True)
    ]
    write_tfds(folder / "whole", {"train": [examples[:2], examples[2:]], "test": [examples[:1]]}, kind)
    write_tfds(
        folder / "text",
        {"train": [[{**each, "label": b"abc"[each["label"] :]} for each in examples]]},
        kind,
        features={"image": {"image": {}}, "label": {"text": {}}},
    )


def hf_library() -> Any:
    """The library `datasets`, offline. Its cache is where HF_HOME says."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import datasets

    return datasets


def hf_tables(library: Any) -> dict[str, Any]:
    names = library.ClassLabel(names=["cat", "dog", "owl"])
    files = [{"bytes": encoded(image), "path": None} for image in COLOUR]
    labels = LABELS.tolist()
    typed = {"image": library.Image(), "label": names}
    arrays = {"image": library.Array3D((5, 4, 3), "uint8"), "label": library.Value("int64")}
    return {
        "typed": library.Dataset.from_dict({"image": files, "label": labels}, features=library.Features(typed)),
        "array": library.Dataset.from_dict({"image": COLOUR.tolist(), "label": labels}, library.Features(arrays)),
        "lists": library.Dataset.from_dict({"img": GREY.tolist(), "labels": ["a", "b", "c"] * 2}),
        "nulls": library.Dataset.from_dict({"image": [*files[:5], None], "label": [*labels[:5], None]}),
    }


def hf_saved(folder: Path) -> None:
    library = hf_library()
    library.disable_progress_bars()
    for name, table in hf_tables(library).items():
        table.save_to_disk(folder / name)


def hf_parquet(folder: Path) -> None:
    library = hf_library()
    library.disable_progress_bars()
    for name, table in hf_tables(library).items():
        (folder / name).mkdir()
        table.to_parquet(folder / name / "train-00000-of-00001.parquet")


def read_hf(folder: Path) -> None:
    hf_library()
    splits(f"hf:{folder}")


TARGETS = {
    "idx": Target(idx_folders, of_folder("idx")),
    "npz": Target(npz_files, of_folder("npz", "set.npz"), (b"'<M8[D]'", b"'|O'", b"'<f4'", b"(6, 4, 4)", b"True")),
    "cifar10": Target(partial(cifar_folders, cifar10), of_folder("cifar10")),
    "cifar100": Target(partial(cifar_folders, cifar100), of_folder("cifar100")),
    "folder": Target(picture_folders, of_folder("folder")),
    "tfrecord": Target(partial(tfds_folders, "tfrecord"), of_folder("tfds"), (b"tfrecord", b"array_record", b"label")),
    "array_record": Target(partial(tfds_folders, "array_record"), of_folder("tfds"), (b"tfrecord", b"array_record")),
    "hf_saved": Target(hf_saved, read_hf, (b"label", b"image"), slow=True),
    "hf_parquet": Target(hf_parquet, read_hf, (b"label", b"image"), slow=True),
}
