"""The entry point: what is imported, what is printed where, and how a command ends."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from scipy import stats

from scalesearch import errors
from scalesearch.cli.commands import COMMANDS, Command
from scalesearch.cli.main import main
from tests.cli.tiny import ROOT, complaint, environment, scalesearch


@pytest.mark.parametrize("arguments", [[], ["plane"], ["plan", "--colour"], ["scale"], ["worker"]])
def test_what_argparse_refuses_is_one_line_too(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    complaint(capsys, *arguments)


_IMPORTS = """
import sys
from scalesearch.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as leaving:
    code = leaving.code
loaded = {name.partition(".")[0] for name in sys.modules}
heavy = {"jax", "jaxlib", "flax", "optax", "optuna", "pandas", "scipy", "sklearn", "plotly"}
sys.stderr.write(",".join(sorted(loaded & heavy)))
sys.exit(code)
"""


@pytest.mark.parametrize(
    "command",
    [
        *("--help", "--version", "completion bash", "plan", "plan --json", "count", "scale", "export", "explain"),
        *(f"{name} --help" for name in COMMANDS),
    ],
)
def test_what_answers_at_once_imports_nothing_heavy(command: str, rule_file: Path) -> None:
    arguments = command.split()
    arguments += {
        "count": ["--baseline", "resnet-18"],
        "scale": [str(rule_file)],
        "export": [str(rule_file.parent)],
    }.get(command, [])
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def command(run: Callable[[], int]) -> Callable[[str], Command]:
    """A command that calls `run`, in place of any other."""

    class Stub:
        @staticmethod
        def add_arguments(parser: argparse.ArgumentParser) -> None:
            del parser

        @staticmethod
        def main(arguments: argparse.Namespace) -> int:
            del arguments
            return run()

    return lambda name: Stub


_MENDS = "raise the limit (`ulimit -v`, a container's), or close other programs"


def raising(error: BaseException) -> Callable[[str], Command]:
    def run() -> NoReturn:
        raise error

    return command(run)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.InputError("x must be 1"), 2, "x must be 1"),
        (errors.StudyMismatch("other data"), 3, "other data"),
        (errors.StorageError("gone"), 4, "gone"),
        (KeyError("x"), 1, "unexpected KeyError: 'x' (scalesearch --debug … shows where)"),
        (ValueError("two\n lines"), 1, "unexpected ValueError: two lines (scalesearch --debug … shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, f"the system refuses memory (MemoryError); {_MENDS}"),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"], raising(error)) == code
    assert capsys.readouterr() == ("", f"scalesearch: {line}\n")


def test_a_resumable_command_says_that_it_resumes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"], raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "scalesearch: interrupted; run the same command again to resume\n"


def test_an_interrupt_while_modules_are_imported_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    def load(name: str) -> NoReturn:
        raise KeyboardInterrupt

    assert main(["plan"], load) == 130
    assert capsys.readouterr().err == "scalesearch: interrupted\n"


CLOSED_TERMINAL = """
import contextlib, os, pty, signal, sys, time
from types import SimpleNamespace
from scalesearch.cli.main import main
from scalesearch.runtime import interrupts

def work(arguments):
    with contextlib.ExitStack() as stack:
        stack.callback(os.write, 1, b"the end of the progress")
        with interrupts.deferred("stopping"):
            while True:
                os.write(1, b"progress")
                time.sleep(0.01)

process, terminal = pty.fork()
if process == 0:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored under nohup
    os._exit(main(["run"], lambda name: SimpleNamespace(add_arguments=lambda parser: None, main=work)))
os.read(terminal, 8)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


def test_a_terminal_that_is_closed_interrupts() -> None:
    done = subprocess.run([sys.executable, "-c", CLOSED_TERMINAL], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "130\n"


@pytest.mark.parametrize("words", [["--debug", "plan"], ["plan", "--debug"]])
def test_debug_shows_the_traceback(words: list[str]) -> None:
    with pytest.raises(KeyError):
        main(words, raising(KeyError("x")))


def test_a_value_of_thousands_of_characters_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 5000
    for arguments in (["--budget", long], ["--baseline", long], ["--study", f"/{long}"]):
        assert 60 < len(complaint(capsys, "plan", *arguments)) < 600
    assert len(complaint(capsys, "plan", "--baseline", "x " * 2500)) < 2100


def test_what_a_terminal_would_obey_is_spelt_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no\\x1b[2J\\u202ename" in complaint(capsys, "scale", "no\x1b[2J\u202ename")


def warn_often() -> int:
    """As modules warn: on any thread, and while libraries change the filters."""

    def warn() -> None:
        warnings.warn("slow", stacklevel=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
        logging.getLogger("scalesearch.somewhere").info("a detail")

    for _ in range(3):
        threads = [threading.Thread(target=warn) for _ in range(2)]
        for thread in threads:
            thread.start()
            thread.join()
    return 0


def test_a_note_is_printed_once_and_a_detail_only_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def notes(*flags: str) -> list[str]:
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # not the tests' own filter, which raises
            assert main(["doctor", *flags], command(warn_often)) == 0
        return [line.removeprefix("scalesearch: note: ") for line in capsys.readouterr().err.splitlines()]

    assert notes() == ["slow"]
    assert notes("--quiet") == notes("-q") == []
    (version, *rest) = notes("-v")
    assert version.startswith("scalesearch ")
    assert rest == ["slow", "a detail"]


def test_warnings_of_libraries_are_details(capsys: pytest.CaptureFixture[str]) -> None:
    def compute() -> int:
        stats.pearsonr([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])  # SciPy accuses its caller
        np.float64(1.0) / np.float64(0.0)
        return 0

    def said(*flags: str) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            assert main(["doctor", *flags], command(compute)) == 0
        return capsys.readouterr().err

    assert said() == ""
    assert "An input array is constant" in (details := said("--verbose"))
    assert "divide by zero" in details


def test_flags_stand_before_the_command_or_behind_it(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    target = rule_file.with_name("out.json")
    for words in (["-q", "export"], ["export", "-q"]):
        assert main([*words, str(rule_file.parent), "--output", str(target)]) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "settings",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["ascii", "C locale"],
)
def test_output_that_is_not_utf_8_gets_replacements(settings: dict[str, str]) -> None:
    plain = {**environment(), **settings}
    command = [sys.executable, "-m", "scalesearch", "explain", "--phi", "0,1"]
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"efficientnet-b0, a = 1.200, b = 1.100, g = 1.150" in done.stdout
    assert b"1.952x" in done.stdout
    failed = subprocess.run(
        [*command[:3], "plan", "--study", "nowhere-α≥ω"], env=plain, capture_output=True, check=False
    )
    assert failed.returncode == 2
    if "PYTHONIOENCODING" in settings:  # in the C locale the argument itself is bytes
        assert b"nowhere-a>=\\u03c9: no such study file" in failed.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_flags_and_names(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in (*COMMANDS, "tolerance", "resnet-200", "fashion_mnist", "lattice"):
        assert word in script


def test_completion_offers_folders_for_a_run_and_its_readers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for place in ("run___out", "status_pos_0"):
        assert f"_shtab_scalesearch_{place}_COMPGEN=_shtab_compgen_dirs" in script


def test_completion_works_in_bash(tmp_path: Path) -> None:
    script = tmp_path / "completion.sh"
    script.write_text(scalesearch("completion", "bash").stdout, encoding="utf-8")
    ask = (
        'source "$1"; COMP_WORDS=(scalesearch plan --baseline mobile); COMP_CWORD=3; _shtab_scalesearch; '
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", ask, "bash", str(script)], capture_output=True, text=True, check=False)
    assert done.stdout.split()[:2] == ["mobilenet-v1", "mobilenet-v2"], done.stderr


@pytest.mark.parametrize("flags", [["--json"], []])
def test_a_reader_that_ends_early_ends_the_command_quietly(flags: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "scalesearch", "explain", *flags],
        cwd=ROOT, env=environment(), stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("flags", ["", "--json"])
def test_an_output_on_a_full_disk_is_one_line(flags: str) -> None:
    command = f"{sys.executable} -m scalesearch count --baseline efficientnet-b0 {flags} >/dev/full"
    done = subprocess.run(["sh", "-c", command], env=environment(), check=False, capture_output=True, text=True)
    told = "scalesearch: the output cannot be written (No space left on device)\n"
    assert (done.returncode, done.stderr) == (1, told)


@pytest.mark.parametrize(
    ("baseline", "redirected", "code"),
    [
        ("efficientnet-b0", ">&-", 0),
        ("efficientnet-b0", "2>&-", 0),
        ("efficientnet-b9", ">&-", 2),
        ("b9", "2>&-", 2),
        ("b9", "2>/dev/full", 2),
    ],
)
def test_closed_streams_change_no_exit_code(baseline: str, redirected: str, code: int) -> None:
    command = f"{sys.executable} -m scalesearch count --baseline {baseline} {redirected}"
    done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
