"""The command report: tables, rule and report of the trials of a run so far, or the report of a trained model."""

from __future__ import annotations

import argparse
from pathlib import Path

from scalesearch.cli.arguments import add_json, add_storage, storage_of
from scalesearch.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run and where it is stored."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder of a run, or of a trained model")
    add_storage(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write the files of the run and print the result. Exit code 5 if trials failed, or if there is no rule."""
    from scalesearch.errors import InputError
    from scalesearch.report import terminal
    from scalesearch.results.load import load
    from scalesearch.results.save import finish
    from scalesearch.trained.card import CARD_FILE

    if (arguments.folder / CARD_FILE).is_file():
        return _report_model(arguments)
    storage = storage_of(arguments)
    run = load(arguments.folder, storage)
    try:
        finish(run, storage)
    except OSError as error:
        raise InputError(f"{arguments.folder}: cannot be written ({error.strerror})") from None
    if arguments.json:
        print_json(run.to_json())
    else:
        terminal.show_result(run, run.files())
    return 5 if run.failed or run.is_fruitless else 0


def _report_model(arguments: argparse.Namespace) -> int:
    """Evaluate a trained model, write its report, and print the evaluation."""
    from scalesearch.report import terminal
    from scalesearch.report.bar import ImagesBar
    from scalesearch.report.model_page import REPORT_FILE, write_model_report
    from scalesearch.runtime.modules import look_in

    folder = arguments.folder
    look_in(folder, Path.cwd())
    with ImagesBar("images", shown=not arguments.quiet) as bar:
        evaluation = write_model_report(folder, on_images=bar)
    if arguments.json:
        print_json(evaluation.to_json())
    else:
        terminal.show_evaluation(str(folder), evaluation, [folder / REPORT_FILE])
    return 0
