"""What is fuzzed: for each reader a name, small real inputs of it, and the call that reads them."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from scalesearch.cli.output import shortened
from scalesearch.errors import ScalesearchError
from tests.fuzzing.mutate import Files, mutated


@dataclass(frozen=True, slots=True)
class Target:
    """A reader.

    Attributes:
        seeds: writes small real inputs, each into a folder of its own below the given one. Their files are mutated.
        read: reads what the folder holds as the command line would. It returns or raises a `ScalesearchError`.
        tokens: words of the format, which mutations insert.
        slow: a tenth as many inputs are tried, since each takes longer than 50 ms.
    """

    seeds: Callable[[Path], None]
    read: Callable[[Path], object]
    tokens: tuple[bytes, ...] = ()
    slow: bool = False


def seeds_of(target: Target, folder: Path) -> list[Files]:
    """The files of each real input, which `target.seeds` writes into the new folder `folder`."""
    folder.mkdir()
    target.seeds(folder)
    return [files_below(place) for place in sorted(folder.iterdir())]


def files_below(folder: Path) -> Files:
    """The content of all files below a folder, by their paths relative to it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_files(folder: Path, files: Files) -> None:
    """Writes an input; what cannot lie beside another file is left out."""
    for name, content in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(content)
        except OSError:
            continue


def input_of(name: str, number: int, seeds: Sequence[Files], tokens: Sequence[bytes]) -> Files:
    """The input of a number, whoever tries it."""
    random = Random(f"{name} {number}")
    return mutated(random, random.choice(seeds), tokens)


def outcome(target: Target, folder: Path) -> tuple[str, str]:
    """The exit code of reading an input, or "unexpected", and why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(folder)
    except ScalesearchError as error:
        text = shortened(str(error))  # as it is printed
        if error.exit_code not in (2, 3, 4) or len(text.splitlines()) != 1 or not text.isprintable():
            return "unexpected", f"{type(error).__name__} ({error.exit_code}): {text[:200]!r}"
        return str(error.exit_code), ""
    except BaseException as error:  # whatever it is
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(each.filename).name}:{each.lineno}" for each in frames if "/scalesearch/" in each.filename]
        return "unexpected", f"{type(error).__name__}: {str(error)[:120]} ({' '.join(ours[-2:])})"
    return "0", ""


def targets() -> Mapping[str, Target]:
    """All readers by their names. Another table joins here."""
    from tests.fuzzing import data, models, searches

    return {**data.TARGETS, **models.TARGETS, **searches.TARGETS}
