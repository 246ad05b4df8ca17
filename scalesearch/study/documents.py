"""Turns documents, such as JSON objects, into validated values: what all files that pydantic reads have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    Strict,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from scalesearch.errors import InputError
from scalesearch.runtime.modules import is_own
from scalesearch.scaling.architecture import NORM_EPSILON, Activation, ArchitectureSpec, Norm, Padding, StemSpec
from scalesearch.scaling.stage import StageSpec, kind_of, kinds
from scalesearch.study.faults import first_fault


class Section(BaseModel):
    """An object with exactly these keys, whose values have exactly these types; numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# Bounded so that a typing error gives an error message: array lengths and counts are 64-bit numbers.
Count = Annotated[int, Field(ge=1, le=100_000_000)]

Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


def _from_object(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    """A dataclass is also read from an object of its fields; pydantic's strict mode alone takes only instances."""
    schema = handler(source)
    cast("dict[str, Any]", handler.resolve_ref_schema(schema))["strict"] = False
    return schema


def _stage(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    """A stage has the fields of the kind that its `block` names, one of ours or of the user's own."""
    del source

    def read_stage(value: Any, ours: Callable[[Any], Any]) -> Any:
        block = value.get("block") if isinstance(value, Mapping) else getattr(value, "block", None)
        if not (isinstance(block, str) and is_own(block)):
            return ours(value)
        schema = GetPydanticSchema(lambda _, inner: _one_of({block: kind_of(block)}, inner))
        return TypeAdapter(Annotated[Any, schema], config=Section.model_config).validate_python(value)

    def write_stage(value: Any, ours: Callable[[Any], Any]) -> Any:
        return dataclasses.asdict(value) if is_own(value.block) else ours(value)

    written = core_schema.wrap_serializer_function_ser_schema(write_stage)
    return core_schema.no_info_wrap_validator_function(read_stage, _one_of(kinds(), handler), serialization=written)


def _one_of(choices: Mapping[str, type[StageSpec]], handler: GetCoreSchemaHandler) -> CoreSchema:
    """The kind among `choices` that `block` names."""
    schemas = {name: handler.generate_schema(Annotated[kind, FROM_OBJECT]) for name, kind in choices.items()}
    return core_schema.tagged_union_schema(schemas, discriminator="block")


def _spec(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    """A spec is read from its JSON object, or taken as it is."""
    del source

    def read_spec(value: Any, ours: Callable[[Any], Any]) -> Any:
        return value if isinstance(value, ArchitectureSpec) else ours(value)

    document = core_schema.no_info_after_validator_function(SpecDocument.spec, handler.generate_schema(SpecDocument))
    return core_schema.no_info_wrap_validator_function(read_spec, document)


# Marks a dataclass that is read from an object of its fields.
FROM_OBJECT = GetPydanticSchema(_from_object)
# Marks a tuple that is read from a list.
FROM_LIST = Strict(False)

Stem = Annotated[StemSpec, FROM_OBJECT]
Stages = Annotated[tuple[Annotated[StageSpec, GetPydanticSchema(_stage)], ...], FROM_LIST]


class SpecDocument(Section):
    """The JSON object of an `ArchitectureSpec`."""

    resolution: int
    in_channels: int
    num_classes: int
    stem: Stem
    stages: Stages
    head_width: int
    activation: Activation = "swish"
    final_norm: Norm = "none"
    hidden_width: int = 0
    module: str = ""
    norm_epsilon: float = NORM_EPSILON
    padding: Padding = "symmetric"

    def spec(self) -> ArchitectureSpec:
        """The spec. Raises `ValueError` for an impossible one."""
        return ArchitectureSpec(**dict(self))


Spec = Annotated[ArchitectureSpec, GetPydanticSchema(_spec)]


def read(model: type[Model], document: object, build: Callable[[Model], T], where: str) -> T:
    """The value that `build` makes of `document` once it is valid as `model`. `where` names the document in errors.

    Raises `InputError`: one line with the key, what is allowed, and the value.
    """
    try:
        return build(model.model_validate(document))
    except ValidationError as error:
        raise InputError(f"{where}: {first_fault(error, model)[1]}") from None
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def with_tuples(value: Any) -> Any:
    """JSON's and TOML's lists as tuples, so that a strict section takes them."""
    if isinstance(value, Mapping):
        return {key: with_tuples(item) for key, item in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def spec_from_json(document: Mapping[str, Any], where: str = "spec") -> ArchitectureSpec:
    """The spec of a JSON object, as `ArchitectureSpec.to_json` writes it. Raises `InputError` naming `where` and key.

    >>> from scalesearch.baselines.published import baseline
    >>> b0 = baseline("efficientnet-b0").spec
    >>> spec_from_json(b0.to_json()) == b0
    True
    """
    return read(SpecDocument, document, SpecDocument.spec, where)
