"""What a transfer gains over training from scratch: the same network, the same images, as many epochs.

    transfer.py [--glyphs DIR] [--sizes 100,500,2000] [--seeds 3] [--report FILE.md] [--quick]

The small networks of two studies are trained first: on Fashion-MNIST, and on letters in colour if DIR holds those that
studies/glyphs.py renders. Then each learns other images, of which there are few: the MNIST sample, and Fashion-MNIST.
Compared are the whole network trained further and its classifier alone (`train --from`, `--freeze`), both by the recipe
`transfer`, and the same network from initial weights by the recipe `study`, for as many epochs and for three times
as many. Each seed has other training images. What is judged is the last epoch, on images that nothing was chosen by.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats

from scalesearch.data.feed import standardised_by
from scalesearch.data.splits import Splits, load_splits
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.count import complexity
from scalesearch.study.load import load_study
from scalesearch.study.recipes import recipe
from scalesearch.study.sections import DataSection, RuntimeSection, Study
from scalesearch.study.training import RecipeSection, TrainingSection, TrainSection
from scalesearch.trained.card import ModelCard, NamedArrays, Preprocessing
from scalesearch.trained.names import StateNames
from scalesearch.trained.transfer import Standard, transferred_spec, transferred_standard, transferred_weights
from scalesearch.training.compile import Program, compile_program
from scalesearch.training.draws import draws_of_epoch
from scalesearch.training.prepare import prepare_training, settings_of_jax
from scalesearch.training.state import TrainState, evaluated_weights

FASHION = "idx:/usr/share/datasets/fashion-mnist"
TUNED, FROZEN, SCRATCH, LONG = "fine-tuned", "classifier alone", "from scratch", "from scratch, 3 × the epochs"
WAYS = (TUNED, FROZEN, SCRATCH, LONG)


class Task(NamedTuple):
    """From which images to which others, and how many of them judge."""

    name: str
    source: Study
    target: str
    judged: int


def tasks(glyphs: Path | None) -> Iterator[Task]:
    """The two transfers, or the first alone without the letters."""
    yield Task("Fashion-MNIST → MNIST sample", load_study("fashion_mnist"), "mnist-sample", 2_500)
    if glyphs is not None:
        letters = load_study("glyphs", {"data.source": f"folder:{glyphs.absolute()}"})
        yield Task("letters in colour → Fashion-MNIST", letters, FASHION, 5_000)


class Trainer:
    """Trains networks of one shape; each is compiled once for all seeds."""

    def __init__(self) -> None:
        self._programs: dict[Any, Program] = {}

    def __call__(
        self,
        spec: ArchitectureSpec,
        splits: Splits,
        training: TrainSection,
        origin: tuple[ModelCard, NamedArrays] | None = None,
        standard: Standard | None = None,
    ) -> tuple[NamedArrays, float, Standard]:
        """The weights at the end, their accuracy on the validation split, and what images are standardised by."""
        key = (spec, len(splits.train), training.model_copy(update={"seed": 0, "epochs": 1}).model_dump_json())

        def compiler(*arguments: Any, **options: Any) -> Program:
            if key not in self._programs:
                self._programs[key] = compile_program(*arguments, **options)
            return self._programs[key]

        prepared = prepare_training(spec, splits, training, RuntimeSection(), (training.seed,), compiler=compiler)
        if standard is not None:
            prepared = replace(prepared, data=standardised_by(prepared.data, *standard))
        names, program, data = StateNames(spec), prepared.program, prepared.data
        seed = np.uint32(training.seed)
        with settings_of_jax():
            state = program.init(seed)
            if origin is not None:
                fresh = jax.device_get(state.weights)
                named = transferred_weights(*origin, names.weights(fresh), splits.classes)
                weights = jax.tree.map(jax.numpy.array, names.packed(named, fresh, "weights"))
                state = TrainState(state.step, weights, state.optimizer, state.average)
            for epoch in range(training.epochs):
                draws = draws_of_epoch(seed, epoch, training, images=len(splits.train))
                state, _ = program.epoch(state, data, draws, prepared.schedule)
            accuracy = float(program.evaluate(state, data)[1])
            arrays = names.weights(jax.device_get(evaluated_weights(state)))
        used = Standard(*(tuple(np.asarray(each).tolist()) for each in (data.mean, data.std)))
        return arrays, accuracy, used


def source_of(task: Task, train: Trainer, *, quick: bool) -> tuple[ModelCard, NamedArrays]:
    """The network of the task's study, trained."""
    study = task.source
    splits, spec = load_splits(study.data), study.resolved_baseline().spec
    section = RecipeSection(recipe="study", epochs=1 if quick else 8)
    arrays, accuracy, (mean, std) = train(spec, splits, recipe(study.training, len(splits.train), section=section))
    print(json.dumps({"source": study.name, "accuracy": accuracy}), flush=True)
    how = Preprocessing(resolution=spec.resolution, mean=mean, std=std)
    return ModelCard(name=study.name, spec=spec, preprocessing=how, classes=splits.classes), arrays


def trained(
    task: Task, origin: tuple[ModelCard, NamedArrays], train: Trainer, way: str, images: int, seed: int, *, quick: bool
) -> dict[str, Any]:
    """Trains on `images` images of the target in one of `WAYS`: a row of the results."""
    splits = load_splits(DataSection(source=task.target, train=images, validation=task.judged, split_seed=seed))
    card, study = origin[0], task.source.training
    spec = transferred_spec(card, splits.in_channels, splits.num_classes, None)
    batch_size = max(16, min(study.batch_size, images // 20))
    training = TrainingSection(
        epochs=study.epochs,
        batch_size=batch_size,
        learning_rate=study.learning_rate * (batch_size / study.batch_size) ** 0.5,
        weight_decay=study.weight_decay,
        ema_decay=0.98,
        shift=study.shift,
    )
    asked = {"seed": seed, **({"epochs": 1} if quick else {})}
    tuned = recipe(training, images, section=RecipeSection(recipe="transfer", frozen=way == FROZEN or None, **asked))
    if way in (TUNED, FROZEN):
        _, accuracy, _ = train(spec, splits, tuned, origin, transferred_standard(card, spec.in_channels))
    else:
        asked["epochs"] = tuned.epochs * (3 if way == LONG else 1)
        scratch = recipe(training, images, section=RecipeSection(recipe="study", warmup_epochs=0.5, **asked))
        _, accuracy, _ = train(spec, splits, scratch)
    return {
        "task": task.name,
        "way": way,
        "images": images,
        "seed": seed,
        "epochs": tuned.epochs,
        "macs": complexity(spec).macs,
        "accuracy": accuracy,
    }


def interval(values: Sequence[float]) -> str:
    """The mean and half the width of its 95 % interval (Student's t)."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count):.1f}"


def report(rows: Sequence[dict[str, Any]], command: str, seconds: float) -> str:
    """The tables, as Markdown."""
    lines = [
        "# What a transfer gains over training from scratch",
        "",
        (
            f"{date.today().isoformat()}, {processor()}, `{command}`, {seconds / 60:.1f} min of its time. Accuracy "
            f"in %: mean over {len({row['seed'] for row in rows})} seeds, each with other training images, ± half the "
            "95 % interval. The gain is that of the fine-tuned network over the better one from scratch, seed by seed."
        ),
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        lines += ["", f"## {task}, {of_task[0]['macs']:,} macs", ""]
        lines += [f"| images | epochs | {' | '.join(WAYS)} | gain |", f"|{'---|' * (len(WAYS) + 3)}"]
        for images in sorted({row["images"] for row in of_task}):
            cells: dict[str, list[float]] = {way: [] for way in WAYS}
            for row in of_task:
                if row["images"] == images:
                    cells[row["way"]].append(100 * row["accuracy"])
                    epochs = row["epochs"]
            gains = np.array(cells[TUNED]) - np.maximum(cells[SCRATCH], cells[LONG])
            shown = " | ".join(interval(cells[way]) for way in WAYS)
            lines.append(f"| {images:,} | {epochs} | {shown} | {interval(gains.tolist())} |")
    return "\n".join(lines) + "\n"


def processor() -> str:
    """The processor, and how many of its cores may be used."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{len(os.sched_getaffinity(0))} core(s) of an {name}"


def main() -> None:
    """Train, judge, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glyphs", type=Path, metavar="DIR")
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], default=[100, 500, 2000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", type=Path, metavar="FILE.md")
    parser.add_argument("--quick", action="store_true", help="one seed, the smallest size, one epoch")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sizes, arguments.seeds = arguments.sizes[:1], 1
    warnings.filterwarnings("ignore", message="some candidates see images above")

    rows = []
    for task in tasks(arguments.glyphs):
        train = Trainer()
        origin = source_of(task, train, quick=arguments.quick)
        for images in arguments.sizes:
            for way in WAYS:
                for seed in range(arguments.seeds):
                    rows.append(trained(task, origin, train, way, images, seed, quick=arguments.quick))
                    print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    text = report(rows, f"python benchmarks/transfer.py {' '.join(sys.argv[1:])}".rstrip(), time.process_time())
    print(text)
    if arguments.report:
        arguments.report.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
