"""Pickled dicts of plain values and numpy arrays, read without calling anything that a pickle names."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from typing import IO, Any, NoReturn

import numpy as np

_OPCODES = re.compile(
    "PROTO|FRAME|STOP|MARK|GLOBAL|STACK_GLOBAL|REDUCE|BUILD|MEMOIZE|(LONG_)?(BIN)?(PUT|GET)|NONE|NEWTRUE|NEWFALSE|"
    "(BIN)?INT|BININT[12]|LONG|LONG1|(BIN)?FLOAT|(BIN|SHORT_BIN)?STRING|(BIN|SHORT_BIN)BYTES|BINBYTES8|"
    "(BIN|SHORT_BIN)?UNICODE|BINUNICODE8|EMPTY_DICT|DICT|SETITEMS?|EMPTY_LIST|LIST|APPENDS?|EMPTY_TUPLE|TUPLE[123]?"
)
"""What plain values and arrays are written with."""

_TYPES = re.compile("[iu][1248]")


def read_plain_pickle(content: bytes) -> dict[Any, Any]:
    """The dict of a pickle: lists, numbers, text, bytes, and arrays of whole numbers, by name.

    Text of Python 2 is bytes. Names in the pickle stand for functions of this module, never for what they name.

    Raises:
        ValueError: it is no pickle, or one of anything else.

    >>> read_plain_pickle(pickle.dumps({"labels": [1, 2], "data": np.arange(3, dtype=np.uint8)}, protocol=2))
    {'labels': [1, 2], 'data': array([0, 1, 2], dtype=uint8)}
    """
    try:
        require_plain(content, len(content))
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except ValueError as error:
        raise ValueError(_reason(error)) from None
    except pickle.UnpicklingError as error:
        raise ValueError(str(error)) from None
    except Exception:  # a broken pickle leads Python to whatever
        raise ValueError("is broken") from None
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__} instead of a dict")
    return {key: item.value if isinstance(item, _Array) else item for key, item in value.items()}


def require_plain(content: bytes | IO[bytes], size: int, further: frozenset[str] = frozenset()) -> None:
    """Raises `ValueError` unless a pickle is written with what plain values need, and with the `further` opcodes.

    `size` bounds the places at which values are kept; a file is read up to the end of the pickle.
    """
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if not _OPCODES.fullmatch(opcode.name) and opcode.name not in further:
                raise ValueError(f"uses {opcode.name}, which plain values do not need")
            # The memo is an array as long as its largest place.
            if "PUT" in opcode.name and isinstance(argument, int) and argument > size:
                raise ValueError("keeps a value at a place beyond its end")
    except ValueError as error:
        raise ValueError(_reason(error)) from None


def _reason(error: ValueError) -> str:
    """What `pickletools` finds wrong, without its details."""
    return str(error) if str(error).startswith(("uses ", "keeps ", "holds ")) else "is broken or cut short"


class _Array:
    """Stands in for `numpy.ndarray`; its state is checked, and read as numbers."""

    value: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        sizes_fit = all(isinstance(size, int) and size >= 0 for size in shape)
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or not sizes_fit:
            raise ValueError("holds an array of something else than whole numbers")
        if math.prod(shape) * dtype.value.itemsize != len(data):
            raise ValueError(f"holds an array of shape {shape} in {len(data):,} bytes")
        self.value = np.frombuffer(data, dtype.value).reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Stands in for `numpy.dtype`, of whole numbers."""

    def __init__(self, name: Any, *_: Any) -> None:
        text = name.decode("latin1") if isinstance(name, bytes) else name
        if not isinstance(text, str) or not _TYPES.fullmatch(text):
            raise ValueError("holds an array of something else than whole numbers")
        self.value = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        if state[1] in (">", b">"):
            self.value = self.value.newbyteorder(">")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise ValueError("holds text of an unknown encoding")
    return text.encode("latin1")


_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NAMES:
            return _NAMES[module, name]
        raise pickle.UnpicklingError(f"names {module}.{name}: only numpy arrays and plain values are read")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("names a value outside it")
