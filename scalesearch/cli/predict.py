"""The command predict: the classes of pictures by a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scalesearch.cli.arguments import CKPT, add_json, count
from scalesearch.cli.output import print_json, say

if TYPE_CHECKING:
    import numpy as np

    from scalesearch.trained.model import Model

_TOP = 5
_AT_ONCE = 32
"""Pictures decoded and classified at a time."""
_MANY = 64
"""From so many pictures on there is a bar."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model and the pictures."""
    parser.add_argument("model", type=Path, metavar="CKPT", help=CKPT)
    pictures = "pictures, or folders whose pictures are all taken, at any depth"
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE|DIR", help=pictures)
    parser.add_argument(
        "--top", type=count, default=_TOP, metavar="K", help=f"the K most probable classes (default {_TOP})"
    )
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the classes of each picture. Pictures that cannot be read are named on stderr; then the exit code is 2."""
    from scalesearch.data.loose import picture_files
    from scalesearch.trained.opening import load_model

    model = load_model(arguments.model)
    files = picture_files(arguments.images)
    documents, unreadable = [], []
    silent = arguments.json or not sys.stdout.isatty()
    for path, row in _with_bar(_predictions(model, files), len(files), shown=silent and not arguments.quiet):
        if isinstance(row, str):
            say(row)
            unreadable.append({"image": path, "error": row})
            continue
        best = (-row).argsort(kind="stable")[: arguments.top].tolist()
        top = [(model.classes[label], float(row[label])) for label in best]
        if arguments.json:
            named = [{"class": name, "probability": probability} for name, probability in top]
            documents.append({"image": path, "classes": named})
        else:
            shown = ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in top)
            sys.stdout.write(f"{path}: {shown}\n")
    if arguments.json:
        print_json({"model": model.card.name, "images": documents, "unreadable": unreadable})
    return 2 if unreadable else 0


def _predictions(model: Model, files: Sequence[Path]) -> Iterator[tuple[str, np.ndarray | str]]:
    """Each file with its probabilities, or with why it cannot be read."""
    from scalesearch.data.picture_listing import printable

    for start in range(0, len(files), _AT_ONCE):
        part = files[start : start + _AT_ONCE]
        for file, result in zip(part, model.each(part), strict=True):
            yield printable(file), str(result) if isinstance(result, Exception) else result


def _with_bar(
    results: Iterator[tuple[str, np.ndarray | str]], total: int, *, shown: bool
) -> Iterator[tuple[str, np.ndarray | str]]:
    """The results, with a bar on stderr if there are many and nothing else shows how far they are."""
    if total < _MANY or not shown:
        yield from results
        return
    from scalesearch.report.bar import ImagesBar

    with ImagesBar("pictures", total) as bar:
        for done, result in enumerate(results, start=1):
            yield result
            bar(done, total)
