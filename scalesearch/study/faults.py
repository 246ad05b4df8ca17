"""The first fault of a validated document in one line: which key, what is allowed, what it got."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

# What a value must be, by pydantic's type of error; the braces name entries of the error's context.
_ALLOWED: Mapping[str, str] = {
    "bool_type": "be true or false",
    "finite_number": "be a finite number",
    "float_type": "be a number",
    "greater_than": "be greater than {gt}",
    "greater_than_equal": "be at least {ge}",
    "int_type": "be a whole number",
    "less_than": "be less than {lt}",
    "less_than_equal": "be at most {le}",
    "literal_error": "be {expected}",
    "model_type": "be a table",
    "string_pattern_mismatch": "match {pattern}",
    "string_type": "be text",
    "tuple_type": "be a list",
}
_LONGEST_VALUE = 80


class Fault(NamedTuple):
    """`key` is dotted as in TOML (`baseline.stages[0].width`; empty for the whole document)."""

    key: str
    message: str


def first_fault(error: ValidationError, model: type[BaseModel]) -> Fault:
    """The first fault that validating a document as `model` raised."""
    faults = error.errors(include_url=False)
    # A key that is unknown first: where one is missing too, that is its misspelling.
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    key, section = _place(first["loc"], model)
    name = f"`{key}`" if key else "the document"
    match first["type"]:
        case "extra_forbidden":
            return Fault(key, _unknown(key, section))
        case "missing":
            return Fault(key, f"missing key {name}")
        case "value_error":
            reason = str(first["ctx"]["error"])
            if key and reason.startswith("`"):
                return Fault(key, f"`{key}.{reason[1:]}")
            return Fault(key, f"[{key}] {reason}" if key else reason)
    # A value that may be of several types has one fault for each.
    allowed = dict.fromkeys(_allowed(fault) for fault in faults if _place(fault["loc"], model)[0] == key)
    return Fault(key, f"{name} must {', or '.join(allowed)}, but got {_shown(first['input'])}")


def _allowed(fault: ErrorDetails) -> str:
    phrase = _ALLOWED.get(fault["type"])
    if phrase is None:
        return re.sub(r"^Input should ", "", fault["msg"])
    context = fault.get("ctx", {})
    return phrase.format(**{key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()})


def _place(location: tuple[int | str, ...], model: type[BaseModel]) -> tuple[str, type[BaseModel]]:
    """The dotted key of an error's location, and the section that holds its last part."""
    key, section = "", model
    inner: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
            continue
        if inner is None:  # the name of a type in a union
            break
        section = inner
        key += f".{part}" if key else part
        field = section.model_fields.get(part)
        inner = _section_of(field.annotation) if field else None
    return key, section


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section inside an annotation such as `tuple[Section, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section_of(inner))), None)


def _unknown(key: str, section: type[BaseModel]) -> str:
    allowed = list(section.model_fields)
    close = difflib.get_close_matches(key.rpartition(".")[2], allowed, n=1)
    hint = f" (did you mean `{close[0]}`?)" if close else ""
    return f"unknown key `{key}`{hint}; allowed here: {', '.join(allowed)}"


def _shown(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
