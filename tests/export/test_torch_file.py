"""PyTorch's files are read without it, and nothing that their pickles name is called."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalesearch.errors import InputError
from scalesearch.export.torch_file import read_torch_file

# Both written by PyTorch 2.13: tensors, views of one storage, a parameter, a half and the buffers of a BatchNorm1d.
GOLDEN = Path(__file__).parents[1] / "golden" / "torch"
FILES = ("tiny.pth", "tiny_legacy.pth")
WHOLE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize("name", FILES)
def test_both_formats_are_read(name: str) -> None:
    arrays = read_torch_file(GOLDEN / name)
    expected: dict[str, Any] = {
        "weight": np.ones(3, np.float32),
        "bias": np.zeros(3, np.float32),
        "running_mean": np.zeros(3, np.float32),
        "running_var": np.ones(3, np.float32),
        "num_batches_tracked": np.int64(0),
        "whole": WHOLE,
        "turned": WHOLE.transpose(2, 0, 1),
        "part": WHOLE[1, 1:],
        "half": np.array([0.5, 1.5], np.float16),
        "parameter": np.array([2], np.float32),
    }
    assert list(arrays) == list(expected)
    for key, value in expected.items():
        assert arrays[key].dtype == value.dtype
        np.testing.assert_array_equal(arrays[key], value)
        assert arrays[key].flags.c_contiguous


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_is_one_line(name: str, tmp_path: Path) -> None:
    content, path = (GOLDEN / name).read_bytes(), tmp_path / "cut.pth"
    for length in range(0, len(content) - 1, 37):
        path.write_bytes(content[:length])
        with pytest.raises(InputError) as caught:
            read_torch_file(path)
        assert str(caught.value).startswith(f"{path}: not a state dict of PyTorch: it ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_a_wrong_byte_is_read_or_refused(name: str, tmp_path: Path) -> None:
    content, path = (GOLDEN / name).read_bytes(), tmp_path / "wrong.pth"
    for place in range(0, len(content), 17):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            read_torch_file(path)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


class Called:
    """Pickled as a call of `os.mkdir`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_what_only_ends_like_a_zip_file_is_one_line(tmp_path: Path) -> None:
    content = (GOLDEN / "tiny.pth").read_bytes()
    for place in range(len(content) - 100, len(content)):  # its last records say where the others are
        (tmp_path / "a.pth").write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        try:
            read_torch_file(tmp_path / "a.pth")
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


def zipped(path: Path, content: bytes, **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", content)
    return path


def test_what_a_pickle_names_is_not_called(tmp_path: Path) -> None:
    target = tmp_path / "made"
    content = pickle.dumps({"weight": Called(target)}, protocol=2)
    (tmp_path / "plain.pth").write_bytes(content)
    for path in (zipped(tmp_path / "zip.pth", content), tmp_path / "plain.pth"):
        with pytest.raises(InputError, match=r"names (posix|nt)\.mkdir, but only tensors of numbers"):
            read_torch_file(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps([1]), "holds a list instead of a dict"),
        (pickle.dumps({"epoch": 3}), "holds 'epoch', which is no tensor; save `model.state_dict()` alone"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "keeps a value at a place beyond its end"),
        (b"\x80\x02}(", "is broken or cut short"),
        (pickle.dumps({"a": {1, 2}}, protocol=4), "uses EMPTY_SET, which plain values do not need"),
    ],
)
def test_other_pickles_are_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_torch_file(zipped(tmp_path / "a.pth", content))
    assert str(caught.value) == f"{tmp_path / 'a.pth'}: not a state dict of PyTorch: it {reason}"


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps({"a": "b" * 1_000_000})
    with pytest.raises(InputError, match="it is a compressed archive"):
        read_torch_file(zipped(tmp_path / "a.pth", content, compression=zipfile.ZIP_DEFLATED))


def test_a_stride_of_zero_makes_no_more_numbers_than_there_are(tmp_path: Path) -> None:
    with zipfile.ZipFile(GOLDEN / "tiny.pth") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    # the shape (2, 3, 4) with strides (12, 4, 1) becomes (2, 3, 200) with strides (0, 0, 0)
    before, after = (b"K\x02K\x03K\x04\x87", b"K\x0cK\x04K\x01\x87"), (b"K\x02K\x03K\xc8\x87", b"K\x00K\x00K\x00\x87")
    for old, new in zip(before, after, strict=True):
        assert old in members[name]
        members[name] = members[name].replace(old, new)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    (tmp_path / "a.pth").write_bytes(target.getvalue())
    with pytest.raises(InputError, match="it ends before the numbers of `whole`"):
        read_torch_file(tmp_path / "a.pth")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{tmp_path / 'a.pth'}: no such file$"):
        read_torch_file(tmp_path / "a.pth")
