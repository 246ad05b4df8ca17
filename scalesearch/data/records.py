"""Records in numbered files, ArrayRecord or TFRecord, read at any place without TensorFlow."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from scalesearch.data.images import DataError

_HEADER = struct.Struct("<QI")  # a record of a TFRecord file: its length, a checksum of that; after it a checksum
_CHECKSUM_BYTES = 4
_OPEN_FILES = 128
"""So many ArrayRecord files stay open: fewer than a process may open (1,024 on most systems)."""


class Records(ABC):
    """The records of a split, in several files. `record` is called from several threads.

    Args:
        where: the source, for messages.
        paths: the files in their order.
        lengths: how many records each of them must hold.

    Attributes:
        paths: the files.
    """

    def __init__(self, where: str, paths: Sequence[Path], lengths: Sequence[int]) -> None:
        self._where, self.paths = where, tuple(paths)
        for path, length in zip(paths, lengths, strict=True):
            try:
                held = self._count(path)
            except DataError:
                raise
            except (OSError, ValueError) as error:  # also a name that no file can have
                reason = getattr(error, "strerror", None) or error
                raise DataError(f"{where}: {path}: cannot be read ({reason})") from None
            if held != length:
                raise DataError(f"{where}: {path}: must hold {length:,} records, but holds {held:,}")
        self._ends = np.cumsum(np.array(lengths, np.int64))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def record(self, place: int) -> bytes:
        """The content of one record. Raises `DataError` if it cannot be read."""
        shard, index = self._locate(place)
        return self._read(self.paths[shard], index)

    def name(self, place: int) -> str:
        """The file and the number in it, for messages."""
        shard, index = self._locate(place)
        return f"{self.paths[shard]}: record {index}"

    def _locate(self, place: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._ends, place, side="right"))
        return shard, place - (int(self._ends[shard - 1]) if shard else 0)

    @abstractmethod
    def _count(self, path: Path) -> int:
        """The number of records of a file, after a check of its structure."""

    @abstractmethod
    def _read(self, path: Path, index: int) -> bytes: ...


class TFRecords(Records):
    """TFRecord files: each record follows its length (https://www.tensorflow.org/tutorials/load_data/tfrecord)."""

    def __init__(self, where: str, paths: Sequence[Path], lengths: Sequence[int]) -> None:
        self._spans: dict[Path, Int[np.ndarray, "n 2"]] = {}
        super().__init__(where, paths, lengths)

    def _count(self, path: Path) -> int:
        """Note where each record begins and ends. Only lengths are read, and each is checked."""
        size, position = path.stat().st_size, 0
        spans: list[tuple[int, int]] = []
        with path.open("rb") as stream:
            while position < size:
                header = stream.read(_HEADER.size)
                if len(header) < _HEADER.size:
                    raise DataError(f"{self._where}: {path}: truncated in record {len(spans)}")
                length, checksum = _HEADER.unpack(header)
                if masked_crc32c(header[:8]) != checksum:
                    raise DataError(
                        f"{self._where}: {path}: must be an uncompressed TFRecord file, but the length of record "
                        f"{len(spans)} does not match its checksum"
                    )
                start, position = position + _HEADER.size, position + _HEADER.size + length + _CHECKSUM_BYTES
                if position > size:
                    raise DataError(
                        f"{self._where}: {path}: truncated in record {len(spans)}: {length:,} bytes are promised, "
                        f"but {size - start:,} follow"
                    )
                spans.append((start, length))
                stream.seek(position)
        self._spans[path] = np.array(spans, np.int64).reshape(-1, 2)
        return len(spans)

    def _read(self, path: Path, index: int) -> bytes:
        start, length = self._spans[path][index].tolist()
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                return stream.read(length)
        except OSError as error:
            raise DataError(f"{self._where}: {path}: cannot be read ({error.strerror or error})") from None


class ArrayRecords(Records):
    """ArrayRecord files, read by the package array_record, which checks the hash of each chunk."""

    def __init__(self, where: str, paths: Sequence[Path], lengths: Sequence[int]) -> None:
        try:
            from array_record.python.array_record_module import ArrayRecordReader
        except ImportError:
            raise DataError(
                f'{where}: ArrayRecord files need the package array_record: pip install "scalesearch[tfds]"'
            ) from None

        def opened(path: Path) -> Any:
            try:
                reader = ArrayRecordReader(str(path), options="readahead_buffer_size:0", file_reader_buffer_size=32768)
                if not reader.ok():
                    reader.close()  # raises the reason
            except RuntimeError as error:
                raise DataError(f"{where}: {path}: must be an ArrayRecord file, but {error}") from None
            return reader

        self._opened = lru_cache(_OPEN_FILES)(opened)
        super().__init__(where, paths, lengths)

    def _count(self, path: Path) -> int:
        path.stat()  # raises OSError with the reason
        return int(self._opened(path).num_records())

    def _read(self, path: Path, index: int) -> bytes:
        try:
            content: bytes = self._opened(path).read([index])[0]
        except (RuntimeError, IndexError) as error:
            raise DataError(f"{self._where}: {path}: record {index} cannot be read ({error})") from None
        return content


def masked_crc32c(content: bytes) -> int:
    """The checksum of TFRecord files: CRC-32C (RFC 3720), rotated, plus a constant.

    >>> hex(masked_crc32c(b"123456789"))  # CRC-32C: 0xe3069283
    '0xc78ab0e5'
    """
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return (crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ 0x82F63B78 * (value & 1)
    return value


_CRC_TABLE = tuple(map(_crc_entry, range(256)))
