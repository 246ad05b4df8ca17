"""Examples run: those in docstrings, and the Python of the README."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import scalesearch
from scalesearch.study.load import shipped_studies

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "scalesearch"
WITH_EXAMPLES = [
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_of_docstrings(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)  # examples read studies/results
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    results = doctest.testmod(importlib.import_module(module), optionflags=options)
    assert results.attempted > 0
    assert results.failed == 0


def test_python_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    # The search and the training take minutes: their calls are checked, and the run is the stored one.
    stored = 'scalesearch.load("studies/results/mnist_sample")'
    for function, arguments, result in (("search", {"study": "mnist_sample"}, stored), ("train", {"phi": 2}, "None")):
        call = re.search(rf"scalesearch\.{function}\(.*?\)", code)
        assert call is not None
        bind = inspect.signature(getattr(scalesearch, function)).bind
        bound = eval(call.group().replace(f"scalesearch.{function}", "bind"), {"bind": bind, "run": None})
        assert arguments.items() <= bound.arguments.items()
        code = code.replace(call.group(), result)
    monkeypatch.chdir(REPOSITORY)
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["run"], scalesearch.Run)


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").split()) <= 700


@pytest.mark.parametrize("study", shipped_studies())
def test_study_files_say_what_they_are_for(study: str) -> None:
    text = (REPOSITORY / "studies" / f"{study}.toml").read_text(encoding="utf-8")
    tomllib.loads(text)
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert re.findall(r"^# (\w+):", head, flags=re.MULTILINE) == [
        "Question", "Source", "Data", "Command", "Time", "Result",
    ]  # fmt: skip
