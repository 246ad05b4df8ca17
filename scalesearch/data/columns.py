"""Columns of Arrow tables that may hold images or labels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalesearch.data.images import DataError
from scalesearch.data.tables import Label


def is_encoded(kind: pa.DataType) -> bool:
    """Whether a column may hold image files: their bytes, or a struct with them, as HuggingFace stores images."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and is_encoded(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def is_array(kind: pa.DataType) -> bool:
    """Whether a column may hold images as nested lists of grey levels, (H, W) or (H, W, C)."""
    kind, depth = _stored(kind), 0
    while _is_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth in (2, 3) and bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_label(kind: pa.DataType) -> bool:
    """Whether a column may hold labels: whole numbers, booleans or text."""
    types = pa.types
    return any(check(kind) for check in (types.is_integer, types.is_boolean, types.is_string, types.is_large_string))


def labels_of(column: pa.ChunkedArray) -> list[Label]:
    """The labels of a column; of booleans, 0 and 1."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    labels: list[Label] = column.to_pylist()
    return labels


def array_of(where: str, column: pa.ChunkedArray) -> np.ndarray:
    """Nested lists as one array. Raises `DataError` if their shapes differ."""
    parts = []
    shape: tuple[int, ...] | None = None
    for chunk in column.chunks:
        values, sides = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk, []
        rows = len(values)
        while _is_list(values.type):
            lengths = pc.list_value_length(values).unique().to_pylist()
            if len(lengths) != 1 or lengths[0] is None:
                raise DataError(f"{where}: all images must have one shape, but there are {len(lengths)} shapes")
            sides.append(lengths[0])
            values = values.flatten()
        if shape not in (None, tuple(sides)) or values.null_count:
            raise DataError(f"{where}: all images must have one shape and no gaps, but got {shape} and {tuple(sides)}")
        shape = tuple(sides)
        parts.append(values.to_numpy().reshape(rows, *shape))
    return np.concatenate(parts) if parts else np.empty((0, 1, 1), np.uint8)


def _stored(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
