"""Studies from files: TOML into a validated `Study`. A wrong file gives one clear `StudyFileError` line."""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scalesearch.errors import InputError
from scalesearch.runtime.files import read_document
from scalesearch.runtime.modules import look_in
from scalesearch.study.documents import with_tuples
from scalesearch.study.faults import first_fault
from scalesearch.study.sections import DESIGNS_OF, DesignSection, Study
from scalesearch.study.sources import SOURCES, parse_source
from scalesearch.study.training import TrainingSection

DEFAULT_STUDY = "mnist_sample"
_log = logging.getLogger(__name__)


class StudyFileError(InputError):
    """A study file or a setting in it is wrong.

    Attributes:
        key: the wrong setting as "section.key", or a part of it such as `phi[0]`; empty if it is the file.
        fault: the message without the name of the file.
    """

    def __init__(self, message: str, key: str = "", fault: str = "") -> None:
        super().__init__(message)
        self.key, self.fault = key, fault

    def is_about(self, setting: str) -> bool:
        """Whether the wrong setting is `setting` or a part of it."""
        return _is_within(self.key, setting)


def shipped_studies() -> tuple[str, ...]:
    """The names of the studies inside the package."""
    return tuple(sorted(path.stem for path in _shipped_folder().glob("*.toml")))


def default_study_path() -> Path:
    """The file of the default study."""
    return _shipped_folder() / f"{DEFAULT_STUDY}.toml"


def _shipped_folder() -> Path:
    return Path(str(resources.files("scalesearch") / "studies"))


def load_study(source: str | Path, overrides: Mapping[str, Any] | None = None) -> Study:
    """The study of a TOML file, or a shipped study by its name.

    A path to data is relative to the folder of the file, or to the current folder if the study is a shipped one or the
    data are only there. Modules of the user's own are found in the same folders.

    Args:
        source: path of a study file, or one of `shipped_studies()`.
        overrides: values that replace those of the file, by "section.key".

    Raises:
        StudyFileError: there is no such study, it is not TOML, or it has an unknown key or a wrong value.

    >>> load_study("mnist_sample", {"training.epochs": 1}).training.epochs
    1
    """
    path, folders = _file_of(source)
    try:
        document = read_document(path, tomllib.loads)
    except FileNotFoundError:
        raise StudyFileError(f"{path}: no such study file{_hint(source)}") from None
    except OSError as error:
        raise StudyFileError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # also text that is not UTF-8, and endless numbers or nesting
        raise StudyFileError(f"{path}: not valid TOML ({error})") from None

    _note_unused(document.get("design"), path)
    look_in(*folders)
    changes = overrides or {}
    folders = (Path.cwd(),) if "data.source" in changes else folders
    _log.info("study file %s", path)
    return study_of_document(document, changes, folders, str(path))


def study_of_document(
    document: dict[str, Any], overrides: Mapping[str, Any], folders: Sequence[Path], where: str
) -> Study:
    """The study of a parsed document with some values replaced.

    Args:
        document: the document, which is changed.
        overrides: values that replace its own, by "section.key".
        folders: where a relative path to data is looked up, in this order.
        where: names the document in errors.

    Raises:
        StudyFileError: an unknown key or a wrong value.
    """
    if isinstance(document.get("baseline"), str):
        document["baseline"] = {"name": document["baseline"]}
    training = document.get("training")
    epochs_before = training.get("epochs") if isinstance(training, dict) else None
    for key, value in overrides.items():
        section: Any = document
        *parents, last = key.split(".")
        for depth, parent in enumerate(parents, start=1):
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise StudyFileError(f"{where}: `{'.'.join(parents[:depth])}` must be a table, but got {section!r}")
        section[last] = value
    _locate_data(document, folders)
    _fit_warm_up(document.get("training"), overrides, epochs_before)
    return _validated(document, where, overrides)


def parse_study(document: Mapping[str, Any], where: str) -> Study:
    """The study of a parsed TOML or JSON document; `where` names it in errors. Raises `StudyFileError`."""
    return _validated(document, where, ())


def _file_of(source: str | Path) -> tuple[Path, tuple[Path, ...]]:
    """The file of a study, and the folders in which its relative data paths are looked up, in that order."""
    if str(source) in shipped_studies():
        return _shipped_folder() / f"{source}.toml", (Path.cwd(),)
    path = Path(source)
    return path, (path.parent.absolute(), Path.cwd())


def _hint(source: str | Path) -> str:
    """What else a word that is not the path of a TOML file may have meant."""
    if Path(source).suffix or Path(source).name != str(source):
        return ""
    return f"; shipped studies are {', '.join(shipped_studies())}"


def _locate_data(document: dict[str, Any], folders: Sequence[Path]) -> None:
    """Make relative paths in `data.source` and `data.test_source` absolute."""
    data = document.get("data")
    if isinstance(data, dict):
        located = {key: located_source(data[key], folders) for key in ("source", "test_source") if key in data}
        document["data"] = {**data, **located}


def located_source(source: Any, folders: Sequence[Path]) -> Any:
    """`source` with a relative path made absolute: in the first of `folders` that holds it, else in the first.

    A function of the user's own gets the folder of its module before its name, if one of `folders` holds it.
    """
    try:
        kind, rest = parse_source(source)
    except (AttributeError, ValueError):  # said when the study is validated
        return source
    what = SOURCES[kind]
    if not what or rest.startswith("~") or Path(rest).is_absolute():
        return source
    if kind == "python":
        top = re.split(r"[.:]", rest)[0]
        holders = [
            folder
            for folder in folders
            if any((folder / name).is_file() for name in (f"{top}.py", f"{top}/__init__.py"))
        ]
        return f"{kind}:{holders[0] / rest if holders else rest}"
    path = rest if what in ("DIR", "FILE") else rest.partition(":")[0]
    folder = next((folder for folder in folders if (folder / path).exists()), None)
    if folder is None:
        if what not in ("DIR", "FILE"):
            return source  # a name
        folder = folders[0]
    return f"{kind}:{folder / rest}"


def _fit_warm_up(training: Any, changes: Mapping[str, Any], epochs_before: object) -> None:
    """Shorten a warm-up that new `training.epochs` leave no room for, in proportion as in a rung."""
    epochs = changes.get("training.epochs")
    if epochs is None or "training.warmup_epochs" in changes:
        return
    warm_up = training.get("warmup_epochs", TrainingSection.model_fields["warmup_epochs"].default)
    if all(type(value) in (int, float) for value in (epochs, epochs_before, warm_up)) and epochs <= warm_up:
        training["warmup_epochs"] = warm_up * epochs / epochs_before


def _note_unused(design: Any, path: Path) -> None:
    """Log which keys of the file's design its kind does not use; a default value may be there for completeness."""
    if not isinstance(design, dict):
        return
    kind = design.get("kind", DesignSection.model_fields["kind"].default)
    for key, kinds in DESIGNS_OF.items():
        if key in design and design[key] != DesignSection.model_fields[key].default and kind not in kinds:
            _log.warning(
                "%s: `design.%s` is ignored: it belongs to `kind` %s, but the design is %s",
                path, key, " or ".join(kinds), kind,
            )  # fmt: skip


def _validated(document: Mapping[str, Any], where: str, overridden: Collection[str]) -> Study:
    try:
        return Study.model_validate(with_tuples(document))
    except ValidationError as error:
        wrong, message = first_fault(error, Study, "a table")
        given = any(_is_within(wrong, key) for key in overridden)
        siblings = [key for key in overridden if wrong and key.rpartition(".")[0] == wrong]
        names = ", ".join(f"`{key}`" for key in siblings)
        note = " (given as an argument)" if given else f" (with {names} given as an argument)" if siblings else ""
        # A section is wrong because of the setting that its message begins with.
        named = re.match(r"`([\w.]+)`", message)
        raise StudyFileError(f"{where}: {message}{note}", named[1] if named else wrong, message) from None


def _is_within(key: str, whole: str) -> bool:
    """Whether `key` is `whole` or a part of it, such as `phi[0]` of `phi`."""
    return key == whole or key.startswith((f"{whole}[", f"{whole}."))
