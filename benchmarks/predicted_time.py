"""The predicted time of a search against a short real one, and the constants of the prediction fitted to a run.

    predicted_time.py [--study FILE] [--candidates 4] [--epochs 4] [--seeds 1] [--quick]
    predicted_time.py --fit RUN_FOLDER

The first form compiles and trains some candidates of the study one after the other, in this process, with no program
kept, and divides the time by `search.plan.timing.predicted_seconds` of the same. Aim: a ratio between 0.5 and 2 on two
cores of an otherwise idle machine. The second fits the constants of `timing.py` to the trials of a run that had as many
workers as cores and no kept programs. Each prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import scalesearch
from scalesearch.search.plan.design import make_plan
from scalesearch.search.plan.timing import CORES, DEVICE, EVALUATION, predicted_seconds
from scalesearch.study.load import default_study_path, load_study

AIM = 2.0


def compare(study_file: Path, count: int, epochs: int, seeds: int) -> dict[str, Any]:
    """Predicted and measured seconds of compiling and training some candidates."""
    if hasattr(os, "sched_setaffinity"):  # before jax starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    from scalesearch.data.splits import load_splits
    from scalesearch.runtime.cores import usable_cores
    from scalesearch.training.loop import train
    from scalesearch.training.memory import release

    study = load_study(study_file, {"training.epochs": epochs, "seeds": seeds, "runtime.workers": 1})
    trials = make_plan(study).distinct
    places = np.linspace(0, len(trials) - 1, min(count, len(trials))).round().astype(int)
    candidates = [trials[place].candidate for place in places]
    predicted = predicted_seconds(study, candidates)
    if predicted is None:
        raise SystemExit(f"{study_file}: its time cannot be predicted; set `data.train`, and choose a planned design")
    splits = load_splits(study.data)
    start, compiling = time.perf_counter(), 0.0
    for candidate in candidates:
        result = train(candidate.spec, splits, study.training, study.runtime, tuple(range(seeds)), lambda report: None)
        compiling += result.compile_seconds
        release()
    seconds = time.perf_counter() - start
    return {
        "study": study.name,
        "device": result.device,
        "cores": len(usable_cores()),
        "predicted_for": DEVICE,
        "candidates": len(candidates),
        "predicted_s": round(predicted, 1),
        "measured_s": round(seconds, 1),
        "compiling_s": round(compiling, 1),
        "measured_over_predicted": round(seconds / predicted, 2),
        "aim_met": 1 / AIM <= seconds / predicted <= AIM,
    }


def fit(folder: Path) -> dict[str, Any]:
    """The constants that predict the trials of a run best."""
    run = scalesearch.load(folder)
    records = [record for record in run.records if record.failure is None]
    data, training = run.study.data, run.study.training
    images = training.epochs * (data.train + EVALUATION * data.validation)
    activations = np.array([record.candidate.complexity.activations for record in records], float)
    seconds = np.array([np.mean([seed.train_seconds for seed in record.seeds]) for record in records]) / images
    blocks = np.array([[1.0, sum(record.candidate.spec.depths)] for record in records])
    compiling = np.array([record.compile_seconds for record in records])
    # All candidates cost the same macs, so that macs and activations cannot be told apart: activations, which predict
    # the time of convolutions better (arXiv:2103.06877), take all of it.
    per_activation = float(activations @ seconds / (activations @ activations))
    fixed, per_block = np.linalg.lstsq(blocks, compiling, rcond=None)[0].tolist()
    error = np.abs(activations * per_activation / seconds - 1)
    return {
        "device": records[0].device,
        "seconds_per_activation": per_activation,
        "median_relative_error": float(np.median(error)),
        "compile_seconds": fixed,
        "compile_seconds_per_block": per_block,
        "images_per_second": float(np.median(1 / seconds)),
    }


def main() -> None:
    """Measure or fit, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=default_study_path())
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--fit", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--quick", action="store_true", help="two candidates, two epochs")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.fit is not None:
        print(json.dumps(fit(arguments.fit)))
        return
    count, epochs = (2, 2) if arguments.quick else (arguments.candidates, arguments.epochs)
    print(json.dumps(compare(arguments.study, count, epochs, arguments.seeds)))


if __name__ == "__main__":
    main()
