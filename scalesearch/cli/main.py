"""Entry point: parse, call the command, turn errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn, TextIO

from scalesearch.runtime import interrupts
from scalesearch.runtime.text import first_line

INTERRUPTED = 130

_COMMANDS = {
    "plan": "scaling",
    "count": "scaling",
    "scale": "scaling",
    "export": "scaling",
    "explain": "explain",
    "run": "search",
    "worker": "search",
    "status": "search",
    "report": "search",
    "dashboard": "dashboard",
    "validate": "validate",
    "doctor": "doctor",
}

# By name, so that looking an error up does not import the module (and jax) that defines it.
_EXIT_CODES = {
    "InputError": 2,
    "InfeasibleBudget": 2,
    "StudyMismatch": 3,
    "StorageError": 4,
    "StorageInternalError": 4,  # optuna's: the storage went away while it was used
    "SQLAlchemyError": 4,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of `argv` (default: the process's) and return its exit code."""
    interrupts.immediate()
    warnings.showwarning = _note
    warnings.filterwarnings("once", module="scalesearch")
    words, resumes = sys.argv[1:] if argv is None else argv, False
    try:
        from scalesearch.cli.arguments import build_parser, words_of  # where an interrupt is one line

        arguments = build_parser().parse_args(words_of(words))
        arguments.owns_process = argv is None
        resumes = arguments.command in ("run", "validate")
        module = importlib.import_module(f"scalesearch.cli.{_COMMANDS[arguments.command]}")
        code: int = getattr(module, arguments.command)(arguments)
        _flush(sys.stdout)
        return code
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # stderr may be closed by the same signal
            _say("interrupted; run the same command again to resume" if resumes else "interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the one place that catches: no user sees a traceback unless asked for
        names = {kind.__name__ for kind in type(error).__mro__}
        code = next((code for name, code in _EXIT_CODES.items() if name in names), 1)
        if "--debug" in words:
            raise
        if code == 1:
            _say(f"unexpected {type(error).__name__}: {_line(error)} (scalesearch --debug … shows where)")
        elif code == 4 and "StorageError" not in names:
            _say(f"the storage failed while it was used ({first_line(error)}); run the same command again to resume")
        else:
            _say(_line(error))
        return code


def entry() -> NoReturn:
    """The console command. The process ends at once: jax and what it compiled take a second or more to take down.

    And in an interrupted one threads of a library may still be at work.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            _flush(stream)
    os._exit(code)


def _flush(stream: TextIO | None) -> None:
    if stream is not None:  # as it is where the process began with it closed
        stream.flush()


def _note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as one line, without the place in the code."""
    del category, filename, lineno, file, line
    _say(f"note: {' '.join(str(message).split())}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _say(message: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"scalesearch: {message}\n")


if __name__ == "__main__":
    entry()
