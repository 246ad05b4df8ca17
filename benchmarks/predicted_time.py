"""The constants of `scalesearch/search/timing.py`, fitted to what the trials of a run took.

    predicted_time.py RUN_FOLDER

One core a worker: run with as many workers as cores. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import scalesearch
from scalesearch.search.plan.timing import EVALUATION


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/mnist_sample"))
    parser.add_argument("--quick", action="store_true", help="skip where there is no run yet")
    arguments = parser.parse_args()
    if arguments.quick and not arguments.folder.is_dir():
        sys.stderr.write(f"{arguments.folder}: no run there yet\n")
        return
    run = scalesearch.load(arguments.folder)
    records = [record for record in run.records if record.failure is None]
    data, training = run.study.data, run.study.training
    images = training.epochs * (data.train + EVALUATION * data.validation)
    work = np.array([[r.candidate.complexity.macs, r.candidate.complexity.activations] for r in records], float)
    seconds = np.array([np.mean([seed.train_seconds for seed in r.seeds]) for r in records]) / images
    blocks = np.array([[1.0, sum(r.candidate.spec.depths)] for r in records])
    compiling = np.array([r.compile_seconds for r in records])
    # All candidates cost the same macs, so the two terms cannot be told apart: activations, which predict the time
    # of convolutions better (arXiv:2103.06877), take all of it.
    per_activation = float(work[:, 1] @ seconds / (work[:, 1] @ work[:, 1]))
    fixed, per_block = np.linalg.lstsq(blocks, compiling, rcond=None)[0].tolist()
    error = np.abs(work[:, 1] * per_activation / seconds - 1)
    print(
        json.dumps(
            {
                "device": records[0].device,
                "seconds_per_activation": per_activation,
                "median_relative_error": float(np.median(error)),
                "compile_seconds": fixed,
                "compile_seconds_per_block": per_block,
                "images_per_second": float(np.median(1 / seconds)),
            }
        )
    )


if __name__ == "__main__":
    main()
