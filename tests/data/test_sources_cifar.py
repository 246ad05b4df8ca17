from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalesearch.data.packed_files import read_archive
from scalesearch.data.sources import DataError, Source, read_source
from scalesearch.study.sections import DataSection

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PLANES = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32)).astype(np.uint8)
LABELS = np.arange(12) % 10
IMAGES = PLANES.transpose(0, 2, 3, 1)


def read(path: Path, kind: str = "cifar10") -> Source:
    return read_source(DataSection(source=f"{kind}:{path}"))


def python2(value: dict[bytes, Any]) -> bytes:
    """A pickle as Python 2 and its numpy wrote them: text is a byte string, an array is rebuilt by two calls."""

    def one(item: Any) -> bytes:
        if isinstance(item, bytes):
            return b"T" + struct.pack("<I", len(item)) + item
        if isinstance(item, int):
            return b"J" + struct.pack("<i", item)
        if isinstance(item, list):
            return b"](" + b"".join(map(one, item)) + b"e"
        assert isinstance(item, np.ndarray)
        made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR"
        dtype = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        shape = one(item.shape[0]) + one(item.shape[1]) + b"\x86"
        return made + b"(K\x01" + shape + dtype + b"\x89" + one(item.tobytes()) + b"tb"

    return b"\x80\x02}(" + b"".join(one(key) + one(item) for key, item in value.items()) + b"u."


def python3(value: dict[bytes, Any]) -> bytes:
    return pickle.dumps({key.decode(): item for key, item in value.items()}, protocol=2)


def cifar10(dump: Callable[[dict[bytes, Any]], bytes] | None) -> dict[str, bytes]:
    """The files of CIFAR-10: two images a training batch, two to test on. Binary without `dump`."""
    files = {}
    for place, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        part = slice(2 * place, 2 * place + 2)
        pixels, labels = PLANES[part].reshape(2, -1), LABELS[part]
        if dump is None:
            table = np.concatenate([labels[:, None].astype(np.uint8), pixels], 1)
            files[f"cifar-10-batches-bin/{name}.bin"] = table.tobytes()
        else:
            files[f"cifar-10-batches-py/{name}"] = dump({b"data": pixels, b"labels": labels.tolist()})
    if dump is None:
        files["cifar-10-batches-bin/batches.meta.txt"] = ("\n".join(NAMES) + "\n\n").encode()
    else:
        listed = {b"num_vis": 3072, b"label_names": [name.encode() for name in NAMES]}
        files["cifar-10-batches-py/batches.meta"] = dump(listed)
    return files


def cifar100(dump: Callable[[dict[bytes, Any]], bytes] | None) -> dict[str, bytes]:
    names = [f"thing {place:02d}" for place in range(100)]
    fine, files = LABELS * 11, {}
    for name, part in (("train", slice(0, 10)), ("test", slice(10, 12))):
        pixels = PLANES[part].reshape(-1, 3072)
        if dump is None:
            labels = np.stack([fine[part] // 5, fine[part]], 1).astype(np.uint8)
            files[f"cifar-100-binary/{name}.bin"] = np.concatenate([labels, pixels], 1).tobytes()
        else:
            labels = {b"fine_labels": fine[part].tolist(), b"coarse_labels": (fine[part] // 5).tolist()}
            files[f"cifar-100-python/{name}"] = dump({b"data": pixels, **labels})
    if dump is None:
        files["cifar-100-binary/fine_label_names.txt"] = "\n".join(names).encode()
    else:
        files["cifar-100-python/meta"] = dump({b"fine_label_names": [name.encode() for name in names]})
    return files


def unpack(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tar(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in members:
            archive.addfile(info)
    return stream.getvalue()


DUMPS = pytest.mark.parametrize("dump", [None, python2, python3])


@DUMPS
@pytest.mark.parametrize("place", ["holder", "folder", "archive", "archive in a folder", "plain tar"])
def test_cifar10_in_every_published_form(tmp_path: Path, dump: Any, place: str) -> None:
    files = cifar10(dump)
    (top,) = {name.partition("/")[0] for name in files}
    if place in ("holder", "folder"):
        path = unpack(tmp_path, files) / (top if place == "folder" else "")
    else:
        path = tmp_path / f"cifar-10-{'binary' if dump is None else 'python'}.tar.gz"
        path.write_bytes(tar(files) if place == "plain tar" else gzip.compress(tar(files), 1))
        path = tmp_path if place == "archive in a folder" else path
    before = sorted(tmp_path.rglob("*"))
    source = read(path)
    np.testing.assert_array_equal(source.train.images, IMAGES[:10])
    assert source.train.labels.tolist() == LABELS[:10].tolist()
    assert source.test is not None
    np.testing.assert_array_equal(source.test.images, IMAGES[10:])
    assert source.test.labels.tolist() == [0, 1]
    assert (source.classes, source.validation, source.notes) == (NAMES, None, ())
    assert sorted(tmp_path.rglob("*")) == before


@DUMPS
def test_cifar100_has_its_fine_classes(tmp_path: Path, dump: Any) -> None:
    source = read(unpack(tmp_path, cifar100(dump)), "cifar100")
    np.testing.assert_array_equal(source.train.images, IMAGES[:10])
    assert source.train.labels.tolist() == [11 * place for place in range(10)]
    assert len(source.classes) == 100
    assert source.classes[11] == "thing 11"


class Call:
    """What a pickle of an attacker holds."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("called",)


BATCH = "cifar-10-batches-py/data_batch_2"
DATA = PLANES[:2].reshape(2, -1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "but is broken or cut short"),
        (lambda: b"\x80\x02K\x01K\x02a.", "but is broken"),  # appends to a number
        (lambda: b"<html>", "but is broken or cut short"),
        (lambda: cifar10(python2)[BATCH][:-50], "but is broken or cut short"),
        (lambda: pickle.dumps({"data": Call()}), r"but names (posix|nt)\.mkdir: only numpy arrays and plain values"),
        (lambda: b"cos\nmkdir\n(S'called'\ntR.", r"but names os\.mkdir: only numpy arrays and plain values are read"),
        (lambda: b"(S'called'\nios\nmkdir\n.", "but uses INST, which plain values do not need"),
        (lambda: b"cbuiltins\neval\n(S'1'\ntR.", r"but names builtins\.eval"),
        (lambda: b"cnumpy\nload\n(S'x'\ntR.", r"but names numpy\.load"),
        (lambda: pickle.dumps({"data": DATA.astype(object)}), "array of something else than whole numbers"),
        (lambda: pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}), "something else than whole numbers"),
        (lambda: python2({b"data": DATA, b"labels": [0, 1]}).replace(b"J\2\0\0\0", b"J\xff\xff\xff\x7f", 1), "6,144 b"),
        (lambda: b"\x80\x02}r\xff\xff\xff\x7f.", "but keeps a value at a place beyond its end"),
        (lambda: pickle.dumps([1, 2]), "but holds a list instead of a dict"),
        (lambda: pickle.dumps({}), "`data` must be uint8 of shape .N, 3072., but got NoneType|labels must be a list"),
        (lambda: python2({b"data": DATA[:, :9], b"labels": [0, 1]}), r"but got uint8 \(2, 9\)"),
        (lambda: python2({b"data": DATA, b"labels": [0]}), r"`labels` must be 2 whole numbers, but got int64 \(1,\)"),
        (lambda: python2({b"data": DATA, b"labels": [0, 10]}), "labels must be from 0 to 9, but got 10"),
        (lambda: python2({b"data": DATA, b"labels": [b"a", b"b"]}), "labels must be a list of whole numbers"),
    ],
)  # fmt: skip
def test_a_broken_pickle_calls_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Callable[[], bytes], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    unpack(tmp_path / "set", {**cifar10(python2), BATCH: content()})
    with pytest.raises(DataError, match=rf"cifar-10-batches-py: data_batch_2: .*{message}") as caught:
        read(tmp_path / "set")
    assert str(caught.value).count(str(tmp_path)) == 1
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_batch_3.bin": None, "test_batch.bin": None}, "but lacks data_batch_3.bin and test_batch.bin"),
        ({"data_batch_3.bin": b""}, "data_batch_3.bin: must be records of 3,073 bytes, but has 0 bytes"),
        ({"data_batch_3.bin": b"<html>"}, "data_batch_3.bin: must be records of 3,073 bytes, but has 6 bytes"),
        ({"test_batch.bin": b"\x0a" * 3073}, "test_batch.bin: labels must be from 0 to 9, but got 10"),
        ({"batches.meta.txt": b"a\nb\n"}, "batches.meta.txt: must hold 10 names of classes, but holds 2"),
    ],
)
def test_broken_binary_files(tmp_path: Path, changes: dict[str, bytes | None], message: str) -> None:
    folder = unpack(tmp_path, cifar10(None)) / "cifar-10-batches-bin"
    for name, content in changes.items():
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(folder)
    assert str(caught.value).count(str(folder)) == 1


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("cifar-10-batches-bin/link")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def huge() -> bytes:
    info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    info.size = 2**40
    return info.tobuf()


def test_an_archive_is_read_no_further_than_its_limit(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 10**7  # a header
    (tmp_path / "set.tar").write_bytes(gzip.compress(info.tobuf() + bytes(info.size), 1))
    with pytest.raises(DataError, match="^here: must hold at most 1,000 bytes$"):
        read_archive("here", tmp_path / "set.tar", [], largest=1000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "must hold data_batch_1.bin and data_batch_1, but holds neither|whole tar archive"),
        (lambda: b"<html>" * 200, "must be a whole tar archive, but cannot be read"),
        (lambda: gzip.compress(tar(cifar10(None)))[:-5000], "cannot be read|whole tar archive"),
        (lambda: tar(cifar10(None))[:-30_000], "must be a whole tar archive, but cannot be read"),
        (lambda: tar({"a.txt": b"x"}), "must hold data_batch_1.bin and data_batch_1, but holds neither"),
        (lambda: tar({"../../data_batch_1.bin": b"x"}), "must hold no path out of its folder, but has '../../data"),
        (lambda: tar({"/tmp/data_batch_1.bin": b"x"}), "must hold no path out of its folder, but has '/tmp/data"),
        (
            lambda: tar({}, link(tarfile.SYMTYPE)),
            "must hold files and folders only, but 'cifar-10-batches-bin/link' is",
        ),
        (lambda: tar({}, link(tarfile.LNKTYPE)), "must hold files and folders only"),
        (lambda: tar({}, link(tarfile.CHRTYPE)), "must hold files and folders only"),
        (huge, "must hold at most 268,435,456 bytes"),
    ],
)
def test_broken_archives(tmp_path: Path, content: Callable[[], bytes], message: str) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(content())
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"cifar10:{tmp_path}: {path.name}: ")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_of_the_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: must be a folder or .* but there is no file or folder of that name"):
        read(tmp_path / "absent")
    looked = "cifar-100-binary, cifar-100-binary.tar.gz, cifar-100-python and cifar-100-python.tar.gz"
    with pytest.raises(DataError, match=f"must hold one of {looked}, but holds nothing"):
        read(tmp_path, "cifar100")
