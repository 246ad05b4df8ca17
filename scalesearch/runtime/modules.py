"""Code of the user's own: names such as `my_nets:TinyNet`, where their modules are found, and what their files hold."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from scalesearch.errors import InputError
from scalesearch.runtime.text import first_line, short

# Like `sys.path` and `sys.modules`, which they add to, these belong to the process.
_folders: list[str] = []  # where modules are found besides Python's own places, the first one first
_added: list[str] = []  # those that are on `sys.path` because of that
_imported: dict[str, str] = {}  # digest of a module's file when it was imported


def is_own(name: str) -> bool:
    """Whether a name is of the form "module:attribute", which names code of the user's own.

    >>> is_own("my_nets:TinyNet"), is_own("efficientnet-b0")
    (True, False)
    """
    return ":" in name


def look_in(*folders: Path) -> None:
    """From now on, modules of the user's own are found in `folders`, in this order.

    Python's own and installed modules come first: a `random.py` in a folder replaces nothing.
    """
    _folders[:] = dict.fromkeys(str(folder.absolute()) for folder in folders)


def load(name: str, where: str) -> Any:
    """The object that `name` names.

    Args:
        name: "module:attribute".
        where: what holds the name, in errors.

    Raises:
        InputError: one line. There is no such module or attribute, or the module raises an error.

    >>> load("math:tau", "`number`") > 6
    True
    """
    module_name, attribute = _split(name, where)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _broken(name, where, module_name, error) from error
        raise _missing(name, where, error.name) from None
    except (Exception, SystemExit) as error:
        raise _broken(name, where, module_name, error) from error
    file = getattr(module, "__file__", None)
    if file is not None and module_name not in _imported:
        _imported[module_name] = _digest(Path(file))
    if not hasattr(module, attribute):
        raise InputError(f"{where} names {name}, but `{module_name}` ({file or 'built in'}) has no `{attribute}`")
    return getattr(module, attribute)


def files_of(names: Mapping[str, str]) -> dict[str, Path]:
    """The files of the modules that `names` (name → what holds it, in errors) name, by module. None is imported.

    Raises `InputError` if there is no such module, or if its file is another one than this process has imported.
    """
    files = {}
    for name, where in names.items():
        module_name, _ = _split(name, where)
        try:
            # a module of a package imports the package; that of a folder is looked up whether it is imported or not
            nested = "." in module_name
            spec = importlib.util.find_spec(module_name) if nested else PathFinder.find_spec(module_name, sys.path)
        except ModuleNotFoundError:
            spec = None
        if spec is None or spec.origin is None or not Path(spec.origin).is_file():
            raise _missing(name, where, module_name)
        files[module_name] = path = Path(spec.origin)
        if _imported.get(module_name, digest := _digest(path)) != digest:
            before = getattr(sys.modules.get(module_name), "__file__", None)
            raise InputError(
                f"{where} names {name}, but {path} is not what this process imported"
                f"{'' if before == str(path) else f' from {before}'}: start Python again"
            )
    return files


def digest_of(files: Iterable[Path]) -> str:
    """A digest of the contents of `files`, whatever their folders."""
    return hashlib.sha256("".join(sorted(map(_digest, files))).encode()).hexdigest()


def folders_of(files: Mapping[str, Path]) -> list[str]:
    """The folders in which Python finds the modules of `files_of`."""
    folders = (path.parents[name.count(".") + (path.stem == "__init__")] for name, path in files.items())
    return list(dict.fromkeys(map(str, folders)))


def _split(name: str, where: str) -> tuple[str, str]:
    """The module and the attribute, and the folders of `look_in` on Python's path."""
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise InputError(f"{where} must be of the form MODULE:NAME, but got {short(name)}")
    others = [entry for entry in sys.path if entry not in _added]
    fresh = [folder for folder in _folders if folder not in others]
    wanted = [*fresh, *(folder for folder in _added if folder not in fresh)]
    if wanted != _added:
        sys.path[:], _added[:] = [*others, *wanted], wanted
        importlib.invalidate_caches()
    return module_name, attribute


def _missing(name: str, where: str, module_name: str) -> InputError:
    places = f" in {' or '.join(_folders)}" if _folders else ""
    return InputError(f"{where} names {name}, but there is no module `{module_name}`{places}, and none is installed")


def _broken(name: str, where: str, module_name: str, error: BaseException) -> InputError:
    reason = f"{type(error).__name__}: {first_line(error)}"
    return InputError(f"{where} names {name}, but importing `{module_name}` raised {reason}")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
