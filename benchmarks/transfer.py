"""What a transfer gains over training from scratch: the same network, the same images, the same number of epochs.

    transfer.py [--glyphs DIR] [--sizes 100,500,2000] [--seeds 3] [--epochs N] [--rate R] [--report FILE.md] [--quick]

Two small networks of the studies are trained first: one on Fashion-MNIST, and one on letters in colour, if DIR holds
those that studies/glyphs.py renders. Then each learns other images, of which there are few: the MNIST sample, and
Fashion-MNIST. Compared are the whole network trained further by the recipe `transfer`, its classifier alone
(`--freeze`), and the same network from its initial weights by the recipe of the study, for as many epochs and for five
times as many. Validation (1,000 images) chooses the epoch, and the test split (1,500 and 5,000) judges. All in this
process, on whatever cores it may use.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from scalesearch.data.splits import load_splits
from scalesearch.scaling.cost.count import complexity
from scalesearch.study.load import load_study
from scalesearch.study.recipes import LONGER, recipe
from scalesearch.study.sections import DataSection, RuntimeSection, Study
from scalesearch.study.training import RecipeSection, TrainingSection
from scalesearch.trained.card import read_card
from scalesearch.trained.evaluation import evaluate
from scalesearch.trained.fit import fit
from scalesearch.trained.job import Job
from scalesearch.trained.labelled import labelled_images
from scalesearch.trained.model import read_model
from scalesearch.trained.transfer import transferred_weights
from scalesearch.trained.transfer_plan import plan_transfer
from scalesearch.trained.weights import read_folder

FASHION = "idx:/usr/share/datasets/fashion-mnist"
WAYS = ("fine-tuned", "frozen body", "from scratch", f"from scratch, {LONGER}× epochs")
_BATCH = 20
"""A batch is at most a twentieth of the images, but not below 16 of them."""


class Task(NamedTuple):
    """From which images to which: a study for the source, and the data of the target with their test images."""

    name: str
    source: Study
    target: str
    test: int


def tasks(glyphs: Path | None) -> Iterator[Task]:
    """The two transfers, or the first alone without the letters."""
    yield Task("Fashion-MNIST → MNIST sample", load_study("fashion_mnist"), "mnist-sample", 1500)
    if glyphs is not None:
        letters = load_study("glyphs", {"data.source": f"folder:{glyphs.absolute()}"})
        yield Task("letters in colour → Fashion-MNIST", letters, FASHION, 5000)


def train_source(study: Study, folder: Path, epochs: int) -> None:
    """Trains the baseline of a study on its images."""
    splits = load_splits(study.data)
    spec = study.resolved_baseline().spec
    section = RecipeSection(recipe="study", epochs=epochs)
    filled = recipe(study.training, len(splits.train), section=section)
    job = Job(name=study.name, digest=splits.digest, data=study.data, training=filled, spec=spec)
    fit(job, splits, folder, lambda event: None)


def train_target(task: Task, source: Path, folder: Path, way: str, images: int, seed: int, values: Any) -> Job:
    """Trains on `images` images of the target in one of `WAYS`."""
    batch_size = max(16, min(128, images // _BATCH))
    training = TrainingSection(
        epochs=values.epochs,
        batch_size=batch_size,
        learning_rate=task.source.training.learning_rate * (batch_size / task.source.training.batch_size) ** 0.5,
        weight_decay=task.source.training.weight_decay,
        ema_decay=values.ema,
        shift=0.06,
    )
    data = DataSection(source=task.target, train=images, validation=1000, test=task.test, split_seed=seed)
    section = RecipeSection(
        frozen=True if way == "frozen body" else None, seed=seed, learning_rate=values.rate, **values.recipe
    )
    job, splits, _ = plan_transfer(source, None, data, training, RuntimeSection(), section, None)
    if way.startswith("from scratch"):
        epochs = values.epochs * (LONGER if way != WAYS[2] else 1)
        own = recipe(training, images, section=RecipeSection(recipe="study", epochs=epochs, seed=seed))
        job = job.model_copy(update={"origin": None, "training": own})
        fit(job, splits, folder, lambda event: None)
        return job
    card, arrays = read_folder(source)

    def initial(fresh: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return transferred_weights(card, arrays, fresh, splits.classes)

    fit(job, splits, folder, lambda event: None, initial=initial)
    return job


def measured(task: Task, source: Path, way: str, images: int, seed: int, values: Any) -> dict[str, Any]:
    """A row of the results."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        job = train_target(task, source, Path(folder), way, images, seed, values)
        card = read_card(Path(folder))
        judged = evaluate(read_model(Path(folder)), labelled_images(card, None, "test"))
    return {
        "task": task.name,
        "way": way,
        "images": images,
        "seed": seed,
        "macs": complexity(job.spec).macs,
        "accuracy": judged.accuracy,
        "loss": judged.cross_entropy,
        "seconds": time.perf_counter() - started,
    }


def interval(values: Sequence[float]) -> str:
    """The mean and half the width of its 95 % interval (Student's t)."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count):.1f}"


def report(rows: Sequence[dict[str, Any]], command: str, seconds: float, epochs: int) -> str:
    """The tables, as Markdown."""
    lines = [
        "# What a transfer gains over training from scratch",
        "",
        (
            f"{date.today().isoformat()}, {processor()}, {len(os.sched_getaffinity(0))} cores, `{command}`, "
            f"{seconds / 60:.1f} min. Accuracy on the test split in %: mean over "
            f"{len({row['seed'] for row in rows})} seeds, each with other training images, ± half the 95 % interval; "
            f"{epochs} epochs."
        ),
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        lines += ["", f"## {task}, {of_task[0]['macs']:,} macs", ""]
        lines += [f"| training images | {' | '.join(WAYS)} | gain, seed by seed |", f"|{'---|' * (len(WAYS) + 2)}"]
        for images in sorted({row["images"] for row in of_task}):
            cells = {way: {} for way in WAYS}
            for row in of_task:
                if row["images"] == images:
                    cells[row["way"]][row["seed"]] = 100 * row["accuracy"]
            best = {seed: max(cells[way][seed] for way in WAYS[2:]) for seed in cells[WAYS[0]]}
            gains = [accuracy - best[seed] for seed, accuracy in cells[WAYS[0]].items()]
            shown = " | ".join(interval([*cells[way].values()]) for way in WAYS)
            lines.append(f"| {images:,} | {shown} | {interval(gains)} |")
    lines += ["", "The gain is that of the fine-tuned network over the better of the two from scratch."]
    return "\n".join(lines) + "\n"


def processor() -> str:
    """The name of the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Train, judge, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glyphs", type=Path, metavar="DIR")
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], default=[100, 500, 2000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, help="learning rate of the transfer (default: that of the recipe)")
    parser.add_argument("--ema", type=float, default=0.9)
    parser.add_argument("--recipe", type=json.loads, default={})
    parser.add_argument("--ways", type=lambda text: [WAYS[int(part)] for part in text.split(",")], default=WAYS)
    parser.add_argument("--sources", type=Path, metavar="DIR", help="keeps the networks that are transferred")
    parser.add_argument("--report", type=Path, metavar="FILE.md")
    parser.add_argument("--quick", action="store_true", help="one seed, the smallest size, two epochs")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sizes, arguments.seeds, arguments.epochs = arguments.sizes[:1], 1, 2

    started, rows = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as temporary:
        for task in tasks(arguments.glyphs):
            source = (arguments.sources or Path(temporary)) / task.source.name
            source.mkdir(parents=True, exist_ok=True)
            train_source(task.source, source, 2 if arguments.quick else 8)
            for images in arguments.sizes:
                for way in arguments.ways:
                    for seed in range(arguments.seeds):
                        row = measured(task, source, way, images, seed, arguments)
                        rows.append(row)
                        print(json.dumps(row), flush=True)
    seconds = time.perf_counter() - started
    text = report(rows, f"python benchmarks/transfer.py {' '.join(sys.argv[1:])}", seconds, arguments.epochs)
    print(text)
    if arguments.report:
        arguments.report.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
