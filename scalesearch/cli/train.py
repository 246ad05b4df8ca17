"""The command train: one network, of a rule's family or trained before, from its data to a model's folder."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from scalesearch.cli.arguments import CKPT, add_json, count, folder, number
from scalesearch.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The network, its data, and what changes the recipe."""
    flag = parser.add_argument
    flag("rule", type=Path, nargs="?", metavar="RULE", help="coefficients.json, or the run folder that holds it")
    flag("--phi", type=number, metavar="PHI", help="which member of the family")
    flag("--from", dest="origin", metavar="CKPT", help=f"begin with the weights of {CKPT}; then RULE may be left out")
    flag("--data", metavar="SOURCE", help="images instead of the study's (folder:DIR, npz:FILE, …)")
    flag("--study", metavar="FILE", help="study file that gives data and recipe (default: the run's)")
    flag("--out", type=folder, metavar="DIR", help="the model's folder (default: runs/NAME-phiPHI)")
    flag("--resolution", type=count, metavar="PX", help="with --from: of the images (default: that of the network)")
    flag("--max-resolution", type=count, metavar="PX", help="largest resolution that the network may have")
    recipe = "paper (EfficientNet's), study (the study's, longer), transfer, or auto: what suits network and data"
    flag("--recipe", choices=("auto", "paper", "study", "transfer"), help=recipe)
    flag("--epochs", type=count, metavar="N", help="length of the training")
    flag("--batch-size", type=count, metavar="N", help="images of a step")
    flag("--learning-rate", type=number, metavar="R", help="largest learning rate")
    flag("--seed", type=int, metavar="N", help="of initial weights, order and augmentation")
    flag("--freeze", dest="frozen", action="store_const", const=True, help="train the classifier alone")
    layers = "factor of the learning rate from each part of the network to the one before it (0.8)"
    flag("--layer-rate", type=number, metavar="R", help=layers)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Train, or go on with the training that the folder holds, and show the result."""
    from scalesearch.cli.caveats import say_caveats
    from scalesearch.export.rule_json import read_rule
    from scalesearch.report.training import TrainingProgress
    from scalesearch.trained.engine import train

    if arguments.rule is not None:
        say_caveats(read_rule(arguments.rule), quiet=arguments.quiet)
    keys = ("recipe", "epochs", "batch_size", "learning_rate", "seed", "frozen", "layer_rate")
    recipe = {key: value for key in keys if (value := getattr(arguments, key)) is not None}
    with contextlib.nullcontext() if arguments.quiet else TrainingProgress() as progress:
        trained = train(
            arguments.rule,
            arguments.phi,
            origin=arguments.origin,
            data=arguments.data,
            study=arguments.study,
            out=arguments.out,
            resolution=arguments.resolution,
            max_resolution=arguments.max_resolution,
            events=progress or (lambda event: None),
            **recipe,
        )
    if arguments.json:
        print_json(trained.to_json())
    else:
        from scalesearch.report import terminal

        terminal.show_trained(trained)
    return 0
