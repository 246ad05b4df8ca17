"""What the command line prints besides tables: JSON, notes and errors, on any terminal."""

from __future__ import annotations

import codecs
import contextlib
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

from scalesearch.runtime.notes import is_note

_LONGEST_WORD, _LONGEST_MESSAGE = 250, 2_000
# Error handlers of streams that would raise, or print numbers; Python uses the last one in the C locale.
_UNFIT = ("strict", "backslashreplace", "surrogateescape")
_PLAIN = {
    "α": "a",
    "β": "b",
    "γ": "g",
    "φ": "phi",
    "²": "2",
    "…": "...",
    "×": "x",
    "·": "*",
    "÷": "/",
    "±": "+-",
    "≥": ">=",
    "≤": "<=",
}
"""Replacements of characters that an output cannot encode; any other becomes its number, as `\\u03c3`."""


def print_json(document: object) -> None:
    """Print one JSON document on stdout."""
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


def say(message: str) -> None:
    """Print a message on stderr, if there is one, as one line."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # its disk is full, or its reader has ended: the exit code remains
            sys.stderr.write(f"scalesearch: {shortened(message)}\n")


def shortened(message: str) -> str:
    """`message` as one line; words and messages that are too long to read, such as a huge value, lose their middle."""
    words = " ".join(message.split())
    plain = "".join(each if each.isprintable() else repr(each)[1:-1] for each in words)  # no commands to the terminal
    line = re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda match: _cut(match[0], 60), plain)
    return _cut(line, _LONGEST_MESSAGE // 2) if len(line) > _LONGEST_MESSAGE else line


def _cut(text: str, kept: int) -> str:
    return f"{text[:kept]}…{text[-kept:]}"


def replace_what_cannot_be_encoded() -> None:
    """Let stdout and stderr replace characters that they cannot encode: a terminal or pipe may not be UTF-8."""
    codecs.register_error("scalesearch", _replacement)
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in _UNFIT and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="scalesearch")


def _replacement(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    plain = (_PLAIN.get(each) or each.encode("ascii", "backslashreplace").decode() for each in text)
    return "".join(plain), error.end


@contextlib.contextmanager
def notes(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Print our warnings on stderr, each text once; with `quiet` nothing.

    With `verbose` also those of installed libraries, and what modules log.
    """
    said: set[str] = set()

    def say_once(text: str) -> None:
        if text not in said and not quiet:
            said.add(text)
            say(f"note: {text}")

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        del filename, lineno, file, line  # of no use to a reader
        if is_note(category) or verbose:
            say_once(str(message))

    class Log(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say_once(record.getMessage())

    handler, log = Log(), logging.getLogger("scalesearch")
    level = log.level
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        # Python's filters tell texts apart by module, and forget what they showed whenever a library changes a filter.
        warnings.filterwarnings("always", module="scalesearch")
        log.addHandler(handler)
        log.setLevel(logging.INFO if verbose else level)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)
