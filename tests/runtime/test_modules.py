"""Modules of the user's own: where they are found, and one line for whatever is wrong with them."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from scalesearch.errors import InputError
from scalesearch.runtime import modules


def write(folder: Path, name: str, text: str) -> str:
    """A module in `folder`, with a name that no other test uses; returns that name."""
    folder.mkdir(exist_ok=True)
    name = f"{name}_{re.sub(r'[^a-z0-9]', '_', str(folder).lower())}"
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    modules.look_in(folder)
    return name


def fault(name: str) -> str:
    with pytest.raises(InputError) as caught:
        modules.load(name, "`baseline`")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("`baseline` ")
    return message


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    assert fault("my nets:Net") == "`baseline` must be of the form MODULE:NAME, but got 'my nets:Net'"
    assert fault("nets:") == "`baseline` must be of the form MODULE:NAME, but got 'nets:'"
    good = write(tmp_path, "good", "Net = 3\n")
    assert modules.load(f"{good}:Net", "`baseline`") == 3
    assert fault(f"{good}:Other") == (
        f"`baseline` names {good}:Other, but `{good}` ({tmp_path / good}.py) has no `Other`"
    )
    assert fault("no_such:Net") == (
        f"`baseline` names no_such:Net, but there is no module `no_such` in {tmp_path}, and none is installed"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("x ==", "SyntaxError: invalid syntax"),
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_error(tmp_path: Path, text: str, reason: str) -> None:
    name = write(tmp_path, "broken", text)
    assert fault(f"{name}:Net").startswith(f"`baseline` names {name}:Net, but importing `{name}` raised {reason}")


def test_a_module_named_as_one_of_pythons_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("Net = 3\n", encoding="utf-8")
    modules.look_in(tmp_path)
    assert fault("random:Net") == f"`baseline` names random:Net, but `random` ({random.__file__}) has no `Net`"


def test_the_first_folder_is_looked_in_first_and_another_file_of_the_name_is_refused(tmp_path: Path) -> None:
    names = [write(tmp_path / folder, "nets", f"Net = '{folder}'\n") for folder in ("a", "b")]
    same = names[0]
    (tmp_path / "b" / f"{same}.py").write_text("Net = 'b'\n", encoding="utf-8")
    modules.look_in(tmp_path / "b", tmp_path / "a")
    assert modules.load(f"{same}:Net", "`name`") == "b"
    files = modules.files_of({f"{same}:Net": "`name`"})
    assert files == {same: tmp_path / "b" / f"{same}.py"}
    assert modules.folders_of(files) == [str(tmp_path / "b")]

    modules.look_in(tmp_path / "a")
    with pytest.raises(InputError, match=f"a/{same}.py is not what this process imported from .*b/{same}.py: start"):
        modules.files_of({f"{same}:Net": "`name`"})


def test_a_file_that_changed_after_its_import_is_refused(tmp_path: Path) -> None:
    name = write(tmp_path, "nets", "Net = 3\n")
    modules.load(f"{name}:Net", "`name`")
    before = modules.digest_of(modules.files_of({f"{name}:Net": "`name`"}).values())
    (tmp_path / f"{name}.py").write_text("Net = 4\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"{name}\.py is not what this process imported: start Python again"):
        modules.files_of({f"{name}:Net": "`name`"})
    assert modules.digest_of([tmp_path / f"{name}.py"]) != before


def test_modules_of_a_package_are_found_without_being_imported(tmp_path: Path) -> None:
    package = write(tmp_path / "own", "__init__", "").removeprefix("__init__")
    folder = tmp_path / f"package{package}"
    folder.mkdir()
    (folder / "__init__.py").write_text("", encoding="utf-8")
    (folder / "nets.py").write_text("1 / 0\n", encoding="utf-8")
    modules.look_in(tmp_path)
    files = modules.files_of({f"{folder.name}.nets:Net": "`module`"})
    assert files == {f"{folder.name}.nets": folder / "nets.py"}
    assert modules.folders_of(files) == [str(tmp_path)]
    with pytest.raises(InputError, match=r"^`module` names no_such\.nets:Net, but there is no module `no_such\.nets`"):
        modules.files_of({"no_such.nets:Net": "`module`"})
