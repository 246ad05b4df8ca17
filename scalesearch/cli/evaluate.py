"""The command evaluate: how good a trained model is on labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path

from scalesearch.cli.arguments import CKPT, add_json
from scalesearch.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model and the images."""
    parser.add_argument("model", type=Path, metavar="CKPT", help=CKPT)
    data = "labelled images: folder:DIR, npz:FILE, … (default: the data that it was trained on)"
    parser.add_argument("--data", metavar="SOURCE", help=data)
    splits = ("test", "validation", "train")
    split = "which images (default: test if there are any, else validation; of a source without sets, all)"
    parser.add_argument("--split", choices=splits, help=split)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Evaluate the model and show how good it is."""
    from scalesearch.report import terminal
    from scalesearch.report.bar import ImagesBar
    from scalesearch.trained.opening import evaluate, load_model

    model = load_model(arguments.model)
    with ImagesBar("images", shown=not arguments.quiet) as bar:
        evaluation = evaluate(model, arguments.data, arguments.split, on_images=bar)
    if arguments.json:
        print_json({"model": model.card.name, **evaluation.to_json()})
    else:
        terminal.show_evaluation(model.card.name, evaluation)
    return 0
