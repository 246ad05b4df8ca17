"""Study files: TOML into a validated study. A wrong file is one clear `StudyFileError` line."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scalesearch.errors import InputError
from scalesearch.study.faults import first_fault
from scalesearch.study.sections import Study

DEFAULT_STUDY = "mnist_sample"


class StudyFileError(InputError):
    """A study file or a setting in it is wrong."""


def default_study_path() -> Path:
    """The default study inside the package."""
    return Path(str(resources.files("scalesearch") / "studies" / f"{DEFAULT_STUDY}.toml"))


def load_study(path: Path, overrides: Mapping[str, Any] | None = None) -> Study:
    """The study of a TOML file, with `overrides` ("section.key" → value) from the command line laid over it.

    Raises `StudyFileError` for a file that is missing, not TOML, or has an unknown key or a wrong value.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyFileError(f"{path}: no such study file") from None
    except OSError as error:
        raise StudyFileError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:  # also text that is no UTF-8, and endless numbers or nesting
        raise StudyFileError(f"{path}: not valid TOML ({error})") from None
    changes = dict(overrides or {})
    for key, value in changes.items():
        section: Any = document
        *parents, last = key.split(".")
        for depth, parent in enumerate(parents, start=1):
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise StudyFileError(f"{path}: `{'.'.join(parents[:depth])}` must be a table, but got {section!r}")
        section[last] = value
    return _validated(document, str(path), changes)


def parse_study(document: Mapping[str, Any], where: str) -> Study:
    """The study of a parsed TOML or JSON document; `where` names it in errors. Raises `StudyFileError`."""
    return _validated(document, where, ())


def _validated(document: Mapping[str, Any], where: str, overridden: Collection[str]) -> Study:
    try:
        return Study.model_validate(_tuples(document))
    except ValidationError as error:
        fault = first_fault(error, Study)
        given = any(fault.key == key or fault.key.startswith((f"{key}[", f"{key}.")) for key in overridden)
        beside = [key for key in overridden if fault.key and key.rpartition(".")[0] == fault.key]
        told = ", ".join(f"`{key}`" for key in beside)
        note = " (on the command line)" if given else f" (with {told} from the command line)" if beside else ""
        raise StudyFileError(f"{where}: {fault.message}{note}") from None


def _tuples(value: Any) -> Any:
    """JSON's and TOML's lists as tuples, so that a strict section takes them."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
