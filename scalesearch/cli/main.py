"""Entry point: parse, call the command, turn errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from scalesearch import __version__
from scalesearch.cli.commands import RESUMABLE, Command, build_parser, command_in, joined_values, load_command
from scalesearch.cli.output import notes, replace_what_cannot_be_encoded, say
from scalesearch.errors import ScalesearchError
from scalesearch.runtime import interrupts
from scalesearch.runtime.exhaustion import explained, is_exhausted

INTERRUPTED = 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None, load: Callable[[str], Command] = load_command) -> int:
    """Run the command of `argv` (default: the process's) and return its exit code; `load` gives a command's module."""
    words = sys.argv[1:] if argv is None else list(argv)
    name = command_in(words)
    interrupts.immediate()
    replace_what_cannot_be_encoded()
    try:
        arguments = build_parser((name,) if name else (), load).parse_args(joined_values(words))
        with notes(quiet=arguments.quiet, verbose=arguments.verbose):
            _log.info("scalesearch %s, Python %s, %s", __version__, platform.python_version(), platform.platform())
            code = load(arguments.command).main(arguments)
            _flush(sys.stdout)
        return code
    except KeyboardInterrupt:
        say("interrupted; run the same command again to resume" if name in RESUMABLE else "interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:  # no user sees a traceback unless asked for
        if "--debug" in words:
            raise
        if _follows_interrupt(error):
            return INTERRUPTED
        if isinstance(error, ScalesearchError):
            say(str(error))
            return error.exit_code
        if isinstance(error, OSError) and error.filename is None and error.errno in _FULL:
            say(f"the output cannot be written ({error.strerror})")
            return 1
        if is_exhausted(error):
            say(explained(error))
            return 1
        say(f"unexpected {type(error).__name__}: {error} (scalesearch --debug … shows where)")
        return 1


def _follows_interrupt(error: BaseException) -> bool:
    """Whether `error` came up while an interrupt ended the command: a terminal that is closed shows nothing more."""
    context = error.__context__
    return context is not None and (isinstance(context, KeyboardInterrupt) or _follows_interrupt(context))


def entry() -> NoReturn:
    """The console command. The process ends at once: threads of a library may still be running."""
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            _flush(stream)
    os._exit(code)


def _flush(stream: TextIO | None) -> None:
    if stream is not None:  # None if the process was started with the stream closed
        stream.flush()


if __name__ == "__main__":
    entry()
