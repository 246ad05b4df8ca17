"""A study of seconds, the command in a process, and the one line of a command that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scalesearch.cli.main import main

ROOT = Path(__file__).parents[2]
TINY = """
name = "tiny"
budget = 2.0
tolerance = 0.1
seeds = 2

[baseline]
name = "tiny"
resolution = 6
in_channels = 1
num_classes = 10
head_width = 0
stem = { width = 4, kernel_size = 3, stride = 1 }
stages = [
    { block = "separable", kernel_size = 3, stride = 1, width = 4, depth = 1 },
    { block = "separable", kernel_size = 3, stride = 2, width = 8, depth = 1 },
]

[rounding]
width_divisor = 1

[design]
kind = "lattice"
degree = 1

[data]
source = "mnist-sample"
train = 200
validation = 100
test = 100

[training]
epochs = 2
batch_size = 50
learning_rate = 0.01
"""

# A SIGINT that is ignored, as in a job in the background, would be inherited.
HEEDS_INTERRUPTS = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from scalesearch.cli.main import entry; entry()"
)


def scalesearch(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "scalesearch", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=cwd or ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return {**inherited, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", "COLUMNS": "80"}


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """The one line on stderr of a command that fails with `code`."""
    try:
        exit_code: object = main([str(argument) for argument in arguments])
    except SystemExit as leaving:  # argparse
        exit_code = leaving.code
    out, err = capsys.readouterr()
    assert exit_code == code, err
    assert err.startswith("scalesearch"), err
    assert (err.count("\n"), err[-1]) == (1, "\n"), err
    assert "Traceback" not in out + err
    return err


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON on stdout of a command that succeeds."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)
