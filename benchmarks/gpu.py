"""What one GPU says, in some ten minutes: `make bench-gpu`. On a machine without one, the same at a small size.

    gpu.py [--quick] [--output FILE.jsonl]

One JSON line each: the device and versions; every convolution form against a float64 reference, in float32 and
bfloat16; a training step of EfficientNet-B0 at 224 px (small: of the default baseline) in bfloat16 and of PyTorch
(autocast, channels-last, eager and compiled, where torch is installed); the default study's networks with 1 to 16 seeds
side by side; a whole small search, with nothing compiled before and with kept programs; the step in float32, with XLA's
own convolutions, whose losses are compared, and of two seeds side by side. Each measurement runs in a process of its
own. The last line holds the ratios that settings are chosen by. The exit code is 1 where anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scalesearch.baselines.published import baseline
from scalesearch.models.numerics import check_operations
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.search.plan.design import make_plan
from scalesearch.study.load import default_study_path, load_study

HERE = Path(__file__).parent
SEEDS = (1, 2, 4, 8, 16)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the measurements are."""

    network: ArchitectureSpec
    batch: int
    steps: int
    seeds: tuple[int, ...]
    search: tuple[str, ...]


STUDY = load_study(default_study_path())
BASELINE = STUDY.resolved_baseline().spec
B0 = baseline("efficientnet-b0").spec
LARGE = Sizes(B0, 128, 30, SEEDS, ("--degree", "1", "--seeds", "4"))
SMALL = Sizes(BASELINE, 16, 2, SEEDS[:2], ("--degree", "1", "--seeds", "1", "--epochs", "2"))


COMPARED = 2
"""Epochs whose losses by our operations and by XLA's are compared: rounding grows with the steps."""

TOLERANCE = 0.02
"""Of these losses, relative."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small size, on a GPU too")
    parser.add_argument("--output", type=Path, help="also write the lines there")
    arguments = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the processes share the device's memory
    large = jax.default_backend() != "cpu" and not arguments.quick
    failed = False
    with contextlib.ExitStack() as files:
        output = files.enter_context(arguments.output.open("w", encoding="utf-8")) if arguments.output else None
        for result in measure(LARGE if large else SMALL):
            failed |= "failed" in result or not result.get("passed", True)
            line = json.dumps(result)
            print(line, flush=True)
            if output is not None:
                output.write(line + "\n")
                output.flush()
    return int(failed)


def measure(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """One result after the other."""
    device, python = jax.devices()[0], sys.version.split()[0]
    yield {"what": "device", "device": device.device_kind, "jax": jax.__version__, "python": python}
    for check in (*check_operations("float32"), *check_operations("bfloat16")):
        yield {"what": "numerics", **dataclasses.asdict(check), "passed": check.passed}
    backend = jax.default_backend()
    common = ("--batch", str(sizes.batch), "--steps", str(sizes.steps))
    speeds: dict[str, float] = {}

    def ours(precision: str, convolutions: str, seeds: int = 1) -> dict[str, Any]:
        options = (
            *common,
            "--epochs",
            "3",
            "--precision",
            precision,
            "--convolutions",
            convolutions,
            "--seeds",
            str(seeds),
        )
        result = step("train_step.py", sizes.network, *options)
        speeds[f"ours {precision} {convolutions} {seeds}"] = result.get("images_per_s", 0.0)
        return {"what": "step", **result}

    auto = ours("bfloat16", "auto")
    yield auto
    torch_device = "cuda" if backend == "gpu" else "cpu"
    for options in ((), ("--compile",)):
        result = step("peer_torch.py", sizes.network, *common, "--device", torch_device, *options)
        speeds[f"torch {' '.join(options)}".strip()] = result.get("images_per_s", 0.0)
        yield {"what": "step of torch", **result}
    networks = {"baseline": BASELINE, "candidate": make_plan(STUDY).distinct[0].candidate.spec}
    gains: dict[str, dict[int, float]] = {}
    for name, spec in networks.items():
        for seeds in sizes.seeds:
            options = (
                "--batch",
                str(STUDY.training.batch_size),
                "--steps",
                str(2 * sizes.steps),
                "--seeds",
                str(seeds),
            )
            result = step("train_step.py", spec, *options)
            yield {"what": "seeds side by side", "network": name, **result}
            gains.setdefault(name, {})[seeds] = result.get("images_per_s", 0.0)
    yield {"what": "search", **search(sizes.search)}
    yield ours("float32", "auto")
    native = ours("bfloat16", "native")
    yield native
    losses = [np.array(result.get("losses", [np.nan])[:COMPARED]) for result in (auto, native)]
    worst = float(np.abs(losses[0] / losses[1] - 1).max())
    difference = worst if np.isfinite(worst) else None
    yield {"what": "losses by our operations and XLA's", "worst_difference": difference, "passed": worst <= TOLERANCE}
    yield ours("bfloat16", "auto", seeds=2)
    ours = max(speed for name, speed in speeds.items() if name.startswith("ours") and name.endswith(" 1"))
    theirs = max(speed for name, speed in speeds.items() if name.startswith("torch"))
    yield {
        "what": "ratios",
        "step_over_torch": round(ours / theirs, 2) if theirs else None,
        "images_per_s_of_steps": speeds,
        "side_by_side_over_one": {
            name: {seeds: round(speed / by_seeds[1], 2) for seeds, speed in by_seeds.items() if by_seeds[1]}
            for name, by_seeds in gains.items()
        },
    }


def step(script: str, spec: ArchitectureSpec, *options: str) -> dict[str, Any]:
    """The JSON line of a benchmark of one network, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.json"
        path.write_text(json.dumps(spec.to_json()), encoding="utf-8")
        command = [sys.executable, HERE / script, path, "--threads", str(os.cpu_count() or 1), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if last.startswith("skipped"):
        return {"options": options, "skipped": last}
    if done.returncode or not last.startswith("{"):
        error = done.stderr.strip().splitlines() or [last]
        return {"options": options, "failed": error[-1]}
    result: dict[str, Any] = json.loads(last)
    return result


def search(options: tuple[str, ...]) -> dict[str, Any]:
    """Seconds of a whole search, first with nothing compiled before and then again."""
    seconds: dict[str, Any] = {"options": options}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SCALESEARCH_CACHE_DIR": str(Path(folder) / "programs")}
        for name in ("cold_s", "warm_s"):
            command = [
                sys.executable,
                "-m",
                "scalesearch",
                "run",
                *options,
                "--workers",
                "1",
                "--out",
                Path(folder) / name,
            ]
            start = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            seconds[name] = round(time.perf_counter() - start, 1)
            if done.returncode:
                return {**seconds, "failed": (done.stderr.strip().splitlines() or [""])[-1]}
    return seconds


if __name__ == "__main__":
    sys.exit(main())
