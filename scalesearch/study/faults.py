"""The first fault of a validated document in one line: the key, what is allowed, the value."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from scalesearch.runtime.text import short
from scalesearch.scaling.stage import StageSpec, kind_of

# What a value must be, by pydantic's type of error. Braces name entries of the error's context; `table` is what the
# document's language calls an object.
_ALLOWED: Mapping[str, str] = {
    "bool_type": "be true or false",
    "dataclass_type": "be {table}",
    "finite_number": "be a finite number",
    "dict_type": "be {table}",
    "float_type": "be a number",
    "greater_than": "be greater than {gt}",
    "greater_than_equal": "be at least {ge}",
    "int_type": "be a whole number",
    "less_than": "be less than {lt}",
    "less_than_equal": "be at most {le}",
    "literal_error": "be {expected}",
    "model_attributes_type": "be {table}",
    "model_type": "be {table}",
    "string_pattern_mismatch": "match {pattern}",
    "string_too_long": "have at most {max_length} characters",
    "string_type": "be text",
    "too_long": "have at most {max_length} entries",
    "too_short": "not be empty",
    "tuple_type": "be a list",
}
# The types of error for a key that a model, or a dataclass, does not have.
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def first_fault(error: ValidationError, model: type[BaseModel], table: str = "an object") -> tuple[str, str]:
    """The key and the message of the first fault that validating a document as `model` raised.

    The key is dotted as in TOML (`baseline.stages[0].width`; empty for the whole document); `table` is what the
    document's language calls an object.
    """
    faults = error.errors(include_url=False)
    # An unknown key first: if one is missing too, the unknown key is probably its misspelling.
    first = next((fault for fault in faults if fault["type"] in _UNKNOWN), faults[0])
    key, section = _place(first["loc"], model)
    name = f"`{key}`" if key else "the document"
    context = first.get("ctx", {})
    match first["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return key, _unknown(key, section)
        case "missing":
            return key, f"missing key {name}"
        case "value_error":
            reason = str(context["error"])
            if key and reason.startswith("`"):
                return key, f"`{key}.{reason[1:]}"
            return key, f"[{key}] {reason}" if key else reason
        case "union_tag_not_found":
            return f"{key}.block", f"missing key `{key}.block`"
        case "union_tag_invalid":
            *others, last = context["expected_tags"].split(", ")
            expected = f"{', '.join(others)} or {last}"
            return f"{key}.block", f"`{key}.block` must be {expected}, but got {short(context['tag'])}"
    # A value that may be of several types has one fault for each.
    allowed = dict.fromkeys(_allowed(fault, table) for fault in faults if _place(fault["loc"], model)[0] == key)
    value = first["input"]
    shown = short(list(value) if isinstance(value, tuple) else value)
    return key, f"{name} must {', or '.join(allowed)}, but got {shown}"


def _allowed(fault: ErrorDetails, table: str) -> str:
    phrase = _ALLOWED.get(fault["type"])
    if phrase is None:
        return re.sub(r"^Input should ", "", fault["msg"])
    context = {"table": table, **fault.get("ctx", {})}
    return phrase.format(**{key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()})


def _place(location: tuple[int | str, ...], model: type) -> tuple[str, type]:
    """The dotted key of an error's location, and the section (a model or a dataclass) that holds its last part."""
    key, section = "", model
    inner: type | None = model
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        elif inner is StageSpec:  # the location goes on with the kind of the stage
            inner = kind_of(part)
        elif inner is None:  # the name of a type in a union
            break
        else:
            section = inner
            key += f".{part}" if key else part
            inner = _section_of(_fields(section).get(part))
    return key, section


def _fields(section: type) -> Mapping[str, Any]:
    """The keys of a section and their types."""
    if issubclass(section, BaseModel):
        return {name: field.annotation for name, field in section.model_fields.items()}
    hints = get_type_hints(section)
    return {field.name: hints[field.name] for field in dataclasses.fields(section)}  # type: ignore[arg-type]  # a dataclass


def _section_of(annotation: Any) -> type | None:
    """The section inside an annotation such as `tuple[Section, ...] | None`."""
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)):
        return annotation
    return next((section for inner in get_args(annotation) if (section := _section_of(inner))), None)


def _unknown(key: str, section: type) -> str:
    allowed = list(_fields(section))
    close = difflib.get_close_matches(key.rpartition(".")[2], allowed, n=1)
    hint = f" (did you mean `{close[0]}`?)" if close else ""
    return f"unknown key `{key}`{hint}; allowed here: {', '.join(allowed)}"
