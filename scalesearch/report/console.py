"""The console that everything is printed with."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console


class Output(Console):
    """Rich's console, except that it leaves a reader that has ended (`| head -1`) to the command line."""

    def on_broken_pipe(self) -> NoReturn:
        """Rich's own ends the process with exit code 1."""
        raise BrokenPipeError
