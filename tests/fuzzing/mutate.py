"""Changes files at random, bytes and structure alike, with sums and lengths made right again.

A format is opened into parts, a part is changed, and the parts are put together: so a change within a compressed member
of an archive gets past its checksum. What a change is depends on the `Random` alone.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickletools
import re
import sqlite3
import struct
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

import tomli_w

from scalesearch.data.records import masked_crc32c

Files = dict[str, bytes]
"""The files of an input by their names. A name that ends in a slash is an empty folder."""
Parts = list[tuple[str, bytes]]
"""Named parts of a file, in their order."""

_NUMBERS = (
    -1,
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    65_535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
)
_TEXTS = ("", "0", "-1", "1e999", "nan", "~nobody/x", "..", "/", "a\0b", "\ud800", "é", "x" * 5000, "\n", "{0}", "%s")
_VALUES: tuple[Any, ...] = (None, True, False, 0.5, -0.0, 1e300, float("inf"), [], {}, [[]], *_NUMBERS, *_TEXTS)
_LONG_RUN = 2**26
_LARGEST = 2**27  # of a packed file that is opened


class Format(NamedTuple):
    """A file as parts. `parts` returns None for what is not of this format; `whole` puts parts together."""

    parts: Callable[[str, bytes], Parts | None]
    whole: Callable[[Parts], bytes]
    packed: bool = False


def mutated(random: Random, files: Files, tokens: Sequence[bytes] = ()) -> Files:
    """The files with one to four changes. `tokens` are words of their formats."""
    files = dict(files)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        if files and random.randrange(12):
            name = random.choice(sorted(files))
            files[name] = mutated_content(random, name, files[name], tokens)
        else:
            _change_names(random, files)
    return files


def _change_names(random: Random, files: Files) -> None:
    """A file is missing, empty, a folder, or holds what another should."""
    names = sorted(files)
    if not names:
        return
    name, other = random.choice(names), random.choice(names)
    match random.randrange(5):
        case 0:
            del files[name]
        case 1:
            files[name] = b""
        case 2:
            files[f"{name.rstrip('/')}/"] = files.pop(name)
        case 3:
            files[name], files[other] = files[other], files[name]
        case _:
            files[f"{name.rstrip('/')}{random.choice(('.1', '~', '.gz', ' copy'))}"] = files[other]


def mutated_content(random: Random, name: str, content: bytes, tokens: Sequence[bytes] = (), depth: int = 0) -> bytes:
    """A file's content with one change."""
    if depth < 5 and random.randrange(4):
        if (value := _document(name, content)) is not None:
            return value[1](_changed_value(random, value[0]))
        for form in _FORMATS:
            parts = form.parts(name, content)
            if parts is not None:
                return _written(form, _changed_parts(random, parts, tokens, depth, form.packed), content)
    return _changed_bytes(random, content, tokens)


def _written(form: Format, parts: Parts, content: bytes) -> bytes:
    try:
        return form.whole(parts)
    except (ValueError, OverflowError, struct.error, OSError):  # a part that no longer fits in
        return content[: len(content) // 2]


def _changed_parts(random: Random, parts: Parts, tokens: Sequence[bytes], depth: int, packed: bool) -> Parts:
    parts = list(parts)
    if not parts:
        return parts
    place, other = random.randrange(len(parts)), random.randrange(len(parts))
    name, content = parts[place]
    match random.randrange(12):
        case 0:
            del parts[place]
        case 1:
            parts.insert(other, parts[place])
        case 2:
            parts[place], parts[other] = parts[other], parts[place]
        case 3:
            parts[place] = (parts[other][0], content)
        case 4 if packed and not random.randrange(20):
            parts[place] = (name, content + bytes(_LONG_RUN))
        case _:
            parts[place] = (name, mutated_content(random, name, content, tokens, depth + 1))
    return parts


def _changed_bytes(random: Random, content: bytes, tokens: Sequence[bytes]) -> bytes:
    data = bytearray(content)
    place = random.randrange(len(data) + 1)
    until = min(len(data), place + random.choice((1, 1, 2, 4, 8, 16, 64, 1000)))
    numbers = list(re.finditer(rb"\d+", content[:100_000]))
    match random.randrange(11):
        case 0 if data:
            data[place % len(data)] ^= 1 << random.randrange(8)
        case 1 if data:
            data[place % len(data)] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
        case 2:
            del data[place:until]
        case 3:
            data[place:place] = data[place:until] * random.choice((1, 2, 100))
        case 4:
            del data[place:]
        case 5:
            data[place:place] = bytes(random.randrange(256) for _ in range(random.choice((1, 2, 4, 8))))
        case 6 | 7:
            size = random.choice((1, 2, 4, 8))
            number = random.choice(_NUMBERS) % 2 ** (8 * size)
            data[place : place + size] = number.to_bytes(size, random.choice(("little", "big")))
        case 8 if numbers:
            found = random.choice(numbers)
            data[found.start() : found.end()] = str(random.choice(_NUMBERS)).encode()
        case 9 if tokens:
            token = random.choice(tokens)
            data[place : place + random.choice((0, len(token)))] = token
        case _:
            text = random.choice(_TEXTS).encode("utf-8", "surrogatepass")
            data[place : place + random.choice((0, len(text)))] = text
    return bytes(data)


# Documents, changed as values.


def _document(name: str, content: bytes) -> tuple[Any, Callable[[Any], bytes]] | None:
    """The value of a JSON or TOML file, and what writes it again."""
    if content[:1] in (b"{", b"[") and len(content) < 1_000_000:
        try:
            return json.loads(content), _json
        except (ValueError, RecursionError):
            return None
    if name.endswith(".toml"):
        try:
            return tomllib.loads(content.decode()), _toml
        except (ValueError, RecursionError):
            return None
    return None


def _json(value: Any) -> bytes:
    text = json.dumps(value)
    return text.replace('"__deep__"', "[" * 5000 + "]" * 5000).encode("utf-8", "surrogatepass")


def _toml(value: Any) -> bytes:
    try:
        return tomli_w.dumps(value).replace('"__deep__"', "[" * 500 + "]" * 500).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, AttributeError):  # no TOML holds it
        return json.dumps(value).encode()


def _changed_value(random: Random, value: Any) -> Any:
    """The value with one change somewhere in it."""
    if isinstance(value, (dict, list)) and value and random.randrange(8):
        copy: Any = value.copy()
        key = random.choice(sorted(copy)) if isinstance(copy, dict) else random.randrange(len(copy))
        match random.randrange(10):
            case 0:
                del copy[key]
            case 1 if isinstance(copy, dict):
                copy[random.choice((*_TEXTS, f"{key}x"))] = copy.pop(key)
            case 1:
                copy.insert(0, copy[key])
            case 2 if isinstance(copy, list):
                copy.extend(copy * random.choice((1, 10, 100)))
            case _:
                copy[key] = _changed_value(random, copy[key])
        return copy
    if isinstance(value, str) and value.startswith("{") and random.randrange(8):  # a document within a document
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(_changed_value(random, json.loads(value)))
    if isinstance(value, (int, float)) and not isinstance(value, bool) and random.randrange(3):
        return random.choice((value + 1, -value, value * 2, value * 1000, float(value), str(value), *_NUMBERS))
    if not random.randrange(20):
        return "__deep__"
    return random.choice(_VALUES)


# Formats, opened into parts.


def _gzip_parts(name: str, content: bytes) -> Parts | None:
    del name
    if not content.startswith(b"\x1f\x8b"):
        return None
    try:
        return [("content", zlib.decompressobj(31).decompress(content, _LARGEST))]
    except zlib.error:
        return None


def _zip_parts(name: str, content: bytes) -> Parts | None:
    """The members, each named by its compression and its name."""
    del name
    if not content.startswith(b"PK\3\4"):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > _LARGEST:
                return None
            return [(f"{info.compress_type} {info.filename}", archive.read(info)) for info in infos]
    except Exception:  # a damaged archive
        return None


def _zip_whole(parts: Parts) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in parts:
            method, _, member = name.partition(" ")
            info = zipfile.ZipInfo(member)  # no warning of names that are there twice
            archive.NameToInfo.pop(member, None)
            archive.writestr(info, content, int(method))
    return stream.getvalue()


def _tar_parts(name: str, content: bytes) -> Parts | None:
    del name
    if content[257:262] != b"ustar":
        return None
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            return [
                (member.name, file.read()) for member in archive if (file := archive.extractfile(member)) is not None
            ]
    except (tarfile.TarError, OSError, ValueError):
        return None


def _tar_whole(parts: Parts) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in parts:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _png_parts(name: str, content: bytes) -> Parts | None:
    """The chunks; pixels unpacked are named `pixels`."""
    del name
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    parts, place = [], 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        parts.append((content[place + 4 : place + 8].decode("latin1"), content[place + 8 : place + 8 + length]))
        place += 12 + length
    return parts


def _png_whole(parts: Parts) -> bytes:
    chunks = [b"\x89PNG\r\n\x1a\n"]
    for name, content in parts:
        kind = name.encode("latin1")
        chunks += [struct.pack(">I", len(content)), kind, content, struct.pack(">I", zlib.crc32(kind + content))]
    return b"".join(chunks)


def _sqlite_parts(name: str, content: bytes) -> Parts | None:
    """The tables' definitions, and each value, named by its table, row and column."""
    del name
    if not content.startswith(b"SQLite format 3\0"):
        return None
    try:
        with contextlib.closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(content)
            made = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
            parts = [("schema", ";".join(sql for _, sql in made).encode())]
            for table, _ in made:
                rows = database.execute(f"SELECT rowid, * FROM {table}")
                columns = [column for column, *_ in rows.description][1:]
                for number, *values in rows:
                    named = zip(columns, values, strict=True)
                    parts += [(f"{table} {number} {key}", str(v).encode()) for key, v in named if v is not None]
            return parts
    except (sqlite3.Error, ValueError):
        return None


def _sqlite_whole(parts: Parts) -> bytes:
    """The columns' types make numbers of texts again."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    schema = ""
    for name, content in parts:
        text = content.decode("utf-8", "replace")
        if name == "schema":
            schema = text
        else:
            table, number, column = name.split(" ")
            rows.setdefault((table, number), {})[column] = text
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        with contextlib.suppress(sqlite3.Error, sqlite3.Warning):
            database.executescript(schema)
        for (table, _), row in rows.items():
            places = ", ".join("?" * len(row))
            with contextlib.suppress(sqlite3.Error):
                database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", list(row.values()))
        database.commit()
        try:
            return database.serialize()
        except sqlite3.Error:  # no table was made: there is no page
            return b""


def _tfrecord_parts(name: str, content: bytes) -> Parts | None:
    if ".tfrecord" not in name:
        return None
    parts, place = [], 0
    while place + 16 <= len(content):
        length = int.from_bytes(content[place : place + 8], "little")
        parts.append(("record", content[place + 12 : place + 12 + length]))
        place += 16 + length
    return parts


def _tfrecord_whole(parts: Parts) -> bytes:
    records = []
    for _, content in parts:
        length = struct.pack("<Q", len(content))
        sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, content))
        records += [length, next(sums), content, next(sums)]
    return b"".join(records)


def _headed_parts(name: str, content: bytes) -> Parts | None:
    """A safetensors file: a JSON header of a length that comes first, and the numbers."""
    if not name.endswith(".safetensors") or len(content) < 8:
        return None
    end = 8 + int.from_bytes(content[:8], "little")
    return [("header.json", content[8:end]), ("numbers", content[end:])]


def _headed_whole(parts: Parts) -> bytes:
    header = parts[0][1] if parts else b""
    return struct.pack("<Q", len(header)) + b"".join(content for _, content in parts)


def _npy_parts(name: str, content: bytes) -> Parts | None:
    del name
    if content[:8] != b"\x93NUMPY\1\0":
        return None
    end = 10 + int.from_bytes(content[8:10], "little")
    return [("header", content[10:end]), ("numbers", content[end:])]


def _npy_whole(parts: Parts) -> bytes:
    header = parts[0][1] if parts else b""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + b"".join(content for _, content in parts)


def _pickle_parts(name: str, content: bytes) -> Parts | None:
    """The operations of a pickle, and what follows it."""
    if content[:1] != b"\x80" or name.endswith(".toml"):
        return None
    parts, last = [], 0
    try:
        for _, _, place in pickletools.genops(content):
            if place:
                parts.append(("operation", content[last:place]))
            last = place or 0
        return [*parts, ("end", content[last : last + 1]), ("rest", content[last + 1 :])]
    except Exception:  # a damaged pickle
        return None


def _joined(parts: Parts) -> bytes:
    return b"".join(content for _, content in parts)


def _lines_parts(name: str, content: bytes) -> Parts | None:
    """The lines and cells of a table."""
    if not name.endswith((".csv", ".txt", ".labels.txt")):
        return None
    return [("cell", cell) for cell in re.split(rb"(?<=[,\n])", content)]


_FORMATS = (
    Format(_gzip_parts, lambda parts: gzip.compress(_joined(parts), 1, mtime=0), packed=True),
    Format(_zip_parts, _zip_whole, packed=True),
    Format(_tar_parts, _tar_whole),
    Format(_png_parts, _png_whole),
    Format(_tfrecord_parts, _tfrecord_whole),
    Format(_sqlite_parts, _sqlite_whole),
    Format(_headed_parts, _headed_whole),
    Format(_npy_parts, _npy_whole),
    Format(_pickle_parts, _joined),
    Format(_lines_parts, _joined),
)
