"""What compiling costs: over depth, and as a share of whole searches; and the memory of a search.

    compiling.py [--study FILE ...] [--only depth search memory] [--quick]

First the seconds that one process needs to trace and compile the training of a network (EfficientNet-like stages of
equal blocks) at depth × 1, 2 and 4, and its step, with equal blocks unrolled, as shipped, and as loops: medians of
rounds that take turns. Then `scalesearch run` on each study with no program kept, and again into another folder with
all programs kept: wall time, and the share of it that trials spent before they trained (their `compile_seconds` over
the workers). Last the largest resident memory of a search of one worker over that of a process that trains its largest
network alone, and the largest memory of all processes of a search of two workers (Pss, which counts shared pages
once). JSON lines.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from turns import family

import scalesearch
from scalesearch.results.records import TrialRecord
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.search.plan.design import make_plan
from scalesearch.study.load import load_study

HERE = Path(__file__).parent
STUDIES = HERE.parent / "studies"
DEPTHS = (1, 2, 4)


def deeper(spec: ArchitectureSpec, factor: int) -> ArchitectureSpec:
    """`spec` with `factor` times as many blocks in every stage."""
    stages = tuple(dataclasses.replace(stage, depth=stage.depth * factor) for stage in spec.stages)
    return dataclasses.replace(spec, stages=stages)


def step(spec: ArchitectureSpec, steps: int, unrolled: int | None) -> dict[str, Any]:
    """The line of `train_step.py`, with at most `unrolled` equal blocks unrolled."""
    limit = [] if unrolled is None else ["--max-unrolled", str(unrolled)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.json"
        path.write_text(json.dumps(spec.to_json()), encoding="utf-8")
        command = [sys.executable, HERE / "train_step.py", path, "--steps", str(steps), *limit]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def over_depth(study: Path, steps: int, rounds: int) -> dict[str, Any]:
    """Compile time and step of the study's baseline at several depths."""
    baseline = load_study(study).resolved_baseline().spec
    rows: dict[str, Any] = {}
    limits = {"as shipped": None, "as loops": 0}
    results = [
        {
            name: [step(deeper(baseline, factor), steps, unrolled) for factor in DEPTHS]
            for name, unrolled in limits.items()
        }
        for _ in range(rounds)
    ]
    for name in limits:
        lines = [result[name] for result in results]
        seconds = np.array([[line["compile_s"] for line in row] for row in lines])
        steps_ms = 1e3 * np.array([[line["step_s"] for line in row] for row in lines])
        rows[name] = {
            "compile_s": np.median(seconds, 0).round(2).tolist(),
            "step_ms": np.median(steps_ms, 0).round(2).tolist(),
            "compile_at_4_over_1": round(float(np.median(seconds[:, -1] / seconds[:, 0])), 2),
        }
    return {"what": "depth", "study": study.stem, "depths": DEPTHS, **rows}


def searches(study: Path, options: tuple[str, ...]) -> dict[str, Any]:
    """Wall time and share of compiling of a search with no program kept, then with all of them."""
    line: dict[str, Any] = {"what": "search", "study": study.stem}
    workers = load_study(study).runtime.workers
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            out = Path(folder) / name
            command = [sys.executable, "-m", "scalesearch", "run", "--study", study, "--out", out, *options]
            start = time.perf_counter()
            peak(command, Path(folder) / "programs")
            seconds = time.perf_counter() - start
            compiling = sum(record.compile_seconds for record in recorded(out)) / workers
            share = round(float(compiling) / seconds, 3)
            line[name] = {"wall_s": round(seconds, 1), "compiling_s": round(float(compiling), 1), "share": share}
    return line


def recorded(folder: Path) -> list[TrialRecord]:
    """All trials of a run, those of shorter trainings too."""
    run = scalesearch.load(folder)
    return [*run.records, *(record for records in run.rungs.values() for record in records)]


ALONE = """
import sys
from pathlib import Path
from scalesearch.study.load import load_study
from scalesearch.search.plan.design import make_plan
from scalesearch.data.splits import load_splits
from scalesearch.training.loop import train
from scalesearch.runtime import allocator
allocator.tune()  # as a search does
study = load_study(Path(sys.argv[1]), {"runtime.workers": 1, "training.epochs": 2})
specs = [trial.candidate.spec for trial in make_plan(study).distinct]
train(specs[int(sys.argv[2])], load_splits(study.data), study.training, study.runtime, (0,), lambda report: None)
"""


def memory(study: Path) -> dict[str, Any]:
    """Largest resident memory of a search of one worker, and of its trials each alone in a process, in MiB."""
    count = len(make_plan(load_study(study)).distinct)

    def search(workers: int, out: Path) -> list[Any]:
        options = ("--workers", workers, "--seeds", "1", "--epochs", "2", "--out", out)
        return [sys.executable, "-m", "scalesearch", "run", "--study", study, *options]

    with tempfile.TemporaryDirectory() as folder:
        whole = peak(search(1, Path(folder) / "run"), Path(folder) / "programs")
        two = peak_of_all(search(2, Path(folder) / "run of two"), Path(folder) / "programs of two")
        command = [sys.executable, "-c", ALONE, study]
        alone = max(peak([*command, str(place)], Path(folder) / f"alone-{place}") for place in range(count))
    return {
        "what": "memory",
        "study": study.stem,
        "search_mib": round(whole),
        "largest_trial_mib": round(alone),
        "ratio": round(whole / alone, 2),
        "two_workers_mib": round(two),
    }


def peak_of_all(command: list[Any], programs: Path) -> float:
    """The largest memory of a command and its children together in MiB, looked at every quarter of a second."""
    environment = {**os.environ, "SCALESEARCH_CACHE_DIR": str(programs)}
    nothing = subprocess.DEVNULL
    child = subprocess.Popen(list(map(str, command)), env=environment, stdout=nothing, stderr=nothing)
    most = 0.0
    while child.poll() is None:
        most = max(most, sum(map(_pss, family(child.pid))))
        time.sleep(0.25)
    if child.returncode:
        raise SystemExit(f"failed with {child.returncode}: {' '.join(map(str, command))}")
    return most


def _pss(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:  # it has ended
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def peak(command: list[Any], programs: Path) -> float:
    """The largest resident memory of a command in MiB, with kept programs in `programs`. Raises where it fails."""
    environment = {**os.environ, "SCALESEARCH_CACHE_DIR": str(programs)}
    nothing = subprocess.DEVNULL
    child = subprocess.Popen(list(map(str, command)), env=environment, stdout=nothing, stderr=nothing)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"failed with {os.waitstatus_to_exitcode(status)}: {' '.join(map(str, command))}")
    return usage.ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, nargs="*", default=[STUDIES / "mnist_sample.toml"])
    parser.add_argument("--only", choices=("depth", "search", "memory"), nargs="*")
    parser.add_argument("--quick", action="store_true", help="three candidates, one seed, few epochs")
    arguments = parser.parse_args()
    wanted = arguments.only or (("depth", "search") if arguments.quick else ("depth", "search", "memory"))
    options = ("--degree", "1", "--seeds", "1", "--epochs", "2") if arguments.quick else ()
    for study in arguments.study:
        if "depth" in wanted:
            print(json.dumps(over_depth(study, *((2, 1) if arguments.quick else (20, 5)))), flush=True)
        if "search" in wanted:
            print(json.dumps(searches(study, options)), flush=True)
        if "memory" in wanted:
            print(json.dumps(memory(study)), flush=True)


if __name__ == "__main__":
    main()
