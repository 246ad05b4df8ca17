"""Kills a training again and again, and compares what it ends with to a training that nobody disturbs.

Run: python benchmarks/kill_training.py [--random N]

The worker of `scalesearch train` is killed (SIGKILL) at chosen points (while it compiles, within an epoch, while a
checkpoint is written, while the weights are written) and at random times. After the last kill it trains to the end. The
weights, the arrays of the last checkpoint and the curves but for their times must be the same bits. Prints JSON.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scalesearch.data.splits import load_splits
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage
from scalesearch.study.sections import DataSection
from scalesearch.study.training import TrainSection
from scalesearch.trained.checkpoint import FOLDER, Checkpoints
from scalesearch.trained.job import Job
from scalesearch.trained.worker import MODULE

SPEC = ArchitectureSpec(
    8, 1, 10, StemSpec(4, 3, 1),
    (
        make_stage("mbconv", kernel_size=3, stride=2, expand_ratio=2, width=6, depth=3, se_ratio=0.25),
        make_stage("mbconv", kernel_size=3, stride=2, expand_ratio=2, width=8, depth=1, se_ratio=0.25),
    ),
    16,
)  # fmt: skip
TRAINING = TrainSection(
    epochs=12, batch_size=16, optimizer="rmsprop", learning_rate=0.002, weight_decay=1e-5, ema_decay=0.99,
    dropout=0.1, shift=0.1, label_smoothing=0.1,
)  # fmt: skip
# Within each epoch some ten parts, with a checkpoint after each.
SETTINGS = {"checkpoint_seconds": 0.0, "part_seconds": 0.05}
CHOSEN = ("compiling", "checkpoint", "weights", "epoch") * 3


def job() -> Job:
    """The training."""
    data = DataSection(source="mnist-sample", train=3000, validation=500)
    return Job(name="killed", digest=load_splits(data).digest, data=data, training=TRAINING, spec=SPEC)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The worker, at work."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    instruction = {"job": job().to_json(), "folder": str(folder), "settings": SETTINGS}
    process.stdin.write(json.dumps(instruction).encode() + b"\n")
    process.stdin.flush()
    return process


def finish(process: subprocess.Popen[bytes]) -> int:
    """Waits until the worker ends, which it is asked to when its input ends; its exit code."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.read()
    code = process.wait()
    process.stdin.close()
    process.stdout.close()
    return code


def reported(process: subprocess.Popen[bytes], *kinds: str) -> bool:
    """Waits until the worker reports one of `kinds`; False if it ends before."""
    assert process.stdout is not None
    return any(kind in json.loads(line) for line in process.stdout if line.startswith(b"{") for kind in kinds)


def seen(process: subprocess.Popen[bytes], folder: Path, pattern: str) -> bool:
    """Waits until there is a file of `pattern`; False if the worker ends before."""
    while process.poll() is None:
        if next(folder.glob(pattern), None) is not None:
            return True
    return False


def point(name: str, process: subprocess.Popen[bytes], folder: Path, rng: random.Random) -> bool:
    """Waits for the moment to kill; False if the training ended before."""
    moments: dict[str, Callable[[], bool]] = {
        "compiling": lambda: time.sleep(rng.uniform(1.5, 3.0)) is None,
        "epoch": lambda: all(reported(process, "part") for _ in range(rng.randint(3, 25))),
        "checkpoint": lambda: reported(process, "started") and seen(process, folder, f"{FOLDER}/*tmp*"),
        "weights": lambda: reported(process, "started") and seen(process, folder, ".weights.safetensors.*"),
        "random": lambda: time.sleep(rng.uniform(0.5, 9.0)) is None,
    }
    return moments[name]() and process.poll() is None


def outcome(folder: Path) -> dict[str, Any]:
    """What must be the same after each way to the end."""
    with Checkpoints(folder) as checkpoints:
        last = checkpoints.last()
    assert last is not None
    digest = hashlib.sha256()
    for name, array in sorted(last.arrays.items()):
        digest.update(name.encode() + array.tobytes())
    with (folder / "curves.csv").open(encoding="utf-8") as file:
        rows = [{**row, "images_per_second": "", "seconds": ""} for row in csv.DictReader(file)]
    weights = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    return {"weights": weights, "checkpoint": digest.hexdigest(), "number": last.number, "curves": rows}


def main() -> None:
    """Train in peace, then train while killing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=8, help="kills at random times")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    plan = [*CHOSEN, *["random"] * arguments.random]
    rng.shuffle(plan)
    with tempfile.TemporaryDirectory() as parent:
        undisturbed, disturbed = Path(parent, "undisturbed"), Path(parent, "disturbed")
        for folder in (undisturbed, disturbed):
            folder.mkdir()
        if finish(start(undisturbed)):
            raise SystemExit("the undisturbed training failed")
        kills: list[dict[str, Any]] = []
        for name in plan:
            process = start(disturbed)
            if point(name, process, disturbed, rng):
                process.send_signal(signal.SIGKILL)
                left = [path.name for path in (disturbed / FOLDER).glob("*")] if (disturbed / FOLDER).exists() else []
                kills.append({"point": name, "checkpoints": sorted(left)})
                print(kills[-1], file=sys.stderr, flush=True)
            if finish(process) == 0:
                break
        else:
            if finish(start(disturbed)):
                raise SystemExit("the disturbed training failed")
        expected, got = outcome(undisturbed), outcome(disturbed)
    counts = {name: sum(kill["point"] == name for kill in kills) for name in sorted(set(plan))}
    print(
        json.dumps(
            {
                "kills": len(kills), "by_point": counts, "identical": got == expected,
                "differs": [key for key in expected if expected[key] != got[key]],
                "epochs": TRAINING.epochs, "machine": platform.machine(), "date": time.strftime("%Y-%m-%d"),
            },
            indent=2,
        )
    )  # fmt: skip
    if got != expected:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
