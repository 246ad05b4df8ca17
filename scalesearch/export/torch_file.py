"""PyTorch's .pth files, read without PyTorch and without calling anything that their pickles name."""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from scalesearch.data.plain_pickle import require_plain
from scalesearch.errors import InputError
from scalesearch.runtime.files import check_file
from scalesearch.trained.card import NamedArrays

_TYPES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_ZIP = b"PK\x03\x04"
_MAGIC = 0x1950A86A20F9469CFC6C  # of the format before the zip files, PyTorch < 1.6
_BEYOND_PLAIN = frozenset({"BINPERSID"})
"""What a state dict is written with that plain values are not."""


def read_torch_file(path: Path) -> NamedArrays:
    """The tensors of a state dict that `torch.save` wrote, in either of its formats, by their names.

    Raises `InputError` if it is not one: the pickle in it may name only tensors, their storages and dicts.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            read = _read_zip if file.read(4) == _ZIP else _read_legacy
            file.seek(0)
            return read(file, path.stat().st_size)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise InputError(f"{path}: not a state dict of PyTorch: it {error}") from None


def _read_zip(file: io.BufferedReader, size: int) -> NamedArrays:
    """The format of PyTorch ≥ 1.6: a pickle, and a member for each storage, none of them compressed."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename.partition("/")[2]: member for member in archive.infolist()}
            if any(m.compress_type != zipfile.ZIP_STORED or m.file_size > size for m in members.values()):
                raise ValueError("is a compressed archive, which `torch.save` does not write")
            if "data.pkl" not in members:
                raise ValueError("holds no data.pkl")
            if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
                raise ValueError("was written by a machine with the bytes of numbers the other way round")
            content = archive.read(members["data.pkl"])
            tensors = _state_dict(_unpickled(io.BytesIO(content), len(content)))

            def storage(name: str) -> bytes:
                if f"data/{name}" not in members:
                    raise ValueError(f"lacks the storage {name}")
                return archive.read(members[f"data/{name}"])

            return _arrays(tensors, storage)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError):
        raise ValueError("is a broken zip file") from None


def _read_legacy(file: io.BufferedReader, size: int) -> NamedArrays:
    """The format before: pickles of a magic number, a version, the machine, the dict and its storages' keys; bytes."""
    if file.read(1) != b"\x80":
        raise ValueError("is neither a zip file nor a pickle")
    file.seek(0)
    magic, version, _ = (_unpickled(file, size) for _ in range(3))
    if (magic, version) != (_MAGIC, 1001):
        raise ValueError("has not the beginning of PyTorch's files")
    tensors, keys, contents = _state_dict(_unpickled(file, size)), _unpickled(file, size), {}
    types = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    for key in keys if isinstance(keys, list) else ():
        header = file.read(8)
        if key not in types or len(header) != 8:
            raise ValueError("ends before its last storage, or holds one that no tensor uses")
        length = struct.unpack("<q", header)[0] * types[key].itemsize
        if not 0 <= length <= size:
            raise ValueError("ends before its last storage")
        contents[key] = file.read(length)
    if missing := types.keys() - contents.keys():
        raise ValueError(f"lacks the storage {min(missing)}")
    return _arrays(tensors, contents.__getitem__)


class _Storage(NamedTuple):
    """Where the numbers of tensors lie."""

    key: str
    dtype: np.dtype[Any]
    length: int


class _Tensor(NamedTuple):
    """A tensor: a view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _arrays(tensors: Mapping[str, _Tensor], read: Callable[[str], bytes]) -> NamedArrays:
    arrays = {}
    for name, (storage, offset, shape, strides) in tensors.items():
        values = np.frombuffer(read(storage.key), storage.dtype)
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        # As many numbers as the storage has at most: a stride of 0 would make any size of a few bytes.
        if len(values) < storage.length or last >= len(values) or math.prod(shape) > len(values):
            raise ValueError(f"ends before the numbers of `{name}`")
        steps = tuple(stride * values.itemsize for stride in strides)
        view = np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False)
        arrays[name] = np.ascontiguousarray(view).reshape(shape)
    return arrays


def _state_dict(value: Any) -> dict[str, _Tensor]:
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__} instead of a dict")
    for name, tensor in value.items():
        if not isinstance(tensor, _Tensor):
            raise ValueError(f"holds {name!r}, which is no tensor; save `model.state_dict()` alone")
    return value


class _Dict(dict[Any, Any]):
    """Stands in for `OrderedDict`, whose further attributes (`_metadata`) are dropped."""

    def __setstate__(self, state: Any) -> None:
        del state


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    sizes = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise ValueError("holds a broken tensor")
    if not all(type(size) is int and 0 <= size < 2**40 for size in sizes) or 0 in shape:
        raise ValueError("holds a tensor of an impossible size")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): np.dtype(code) for name, code in _TYPES.items()},
}


def _unpickled(file: IO[bytes], size: int) -> Any:
    """The value of the pickle that begins here. Raises `ValueError` for whatever a broken one leads Python to."""
    start = file.tell()
    try:
        require_plain(file, size, _BEYOND_PLAIN)
        file.seek(start)
        return _Unpickler(file).load()
    except ValueError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(str(error)) from None
    except Exception:
        raise ValueError("is broken") from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NAMES:
            return _NAMES[module, name]
        raise pickle.UnpicklingError(f"names {module}.{name}, but only tensors of numbers and dicts are read")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, length, *_ = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or type(key) is not str or type(length) is not int:
            raise pickle.UnpicklingError("holds a broken tensor")
        return _Storage(key, dtype, length)
