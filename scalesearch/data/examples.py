"""`tf.train.Example`, the record of TFDS files, without TensorFlow."""

from __future__ import annotations

from functools import cache
from typing import Any

# Message, field, number and type (github.com/tensorflow/tensorflow, tensorflow/core/example/feature.proto).
_FIELDS = (
    ("BytesList", "value", 1, "bytes"),
    ("FloatList", "value", 1, "float"),
    ("Int64List", "value", 1, "int64"),
    ("Feature", "bytes_list", 1, "BytesList"),
    ("Feature", "float_list", 2, "FloatList"),
    ("Feature", "int64_list", 3, "Int64List"),
    ("Entry", "key", 1, "string"),
    ("Entry", "value", 2, "Feature"),
    ("Features", "feature", 1, "Entry"),
    ("Example", "features", 1, "Features"),
)


def parse_example(record: bytes) -> dict[str, list[Any]]:
    """The values of each feature of an `Example`: bytes, floats or whole numbers. Raises `ValueError` if it is none."""
    from google.protobuf.message import DecodeError

    try:
        example = _example_class().FromString(record)
    except DecodeError:
        raise ValueError("is no tf.train.Example") from None
    values: dict[str, list[Any]] = {}
    for entry in example.features.feature:
        kind = entry.value.WhichOneof("kind")
        values[entry.key] = list(getattr(entry.value, kind).value) if kind else []
    return values


@cache
def _example_class() -> Any:
    """The class of the message `Example`, in a pool of its own: TensorFlow's, if imported, stays untouched."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    file = FileDescriptorProto(name="example.proto", package="scalesearch", syntax="proto3")
    repeated = {"BytesList", "FloatList", "Int64List", "Features"}
    messages = {name: file.message_type.add(name=name) for name in dict.fromkeys(field[0] for field in _FIELDS)}
    messages["Feature"].oneof_decl.add(name="kind")
    for message, name, number, kind in _FIELDS:
        label = "LABEL_REPEATED" if message in repeated else "LABEL_OPTIONAL"
        field = messages[message].field.add(name=name, number=number, label=FieldDescriptorProto.Label.Value(label))
        if kind in messages:
            field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".scalesearch.{kind}"
        else:
            field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
        if message == "Feature":
            field.oneof_index = 0
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("scalesearch.Example"))
