"""The paper's question on real data: the rule's family against depth, width and resolution alone, at equal real cost.

    ladders.py [RUN] [--study FILE] [--phi 1,2,3] [--seeds 3] [--epochs N] [--out DIR] [--report FILE.md]
               [--chart FILE.png] [--quick]

RUN is the folder of a finished search, or a coefficients.json with its study. Each ladder spends B^φ by its own shares,
and `scalesearch train` trains each of its networks for each seed by the recipe of the run's study, on one core each, as
many at once as there are cores. The test split judges the weights of the best epoch (`scalesearch evaluate`). Run
again, it goes on where it stopped. What it writes: a table of mean accuracies with 95 % intervals (Student's t over the
seeds), the differences from the rule seed by seed, and a chart of errors over macs. `--quick`: one seed, two epochs,
φ = 0 and 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import plotly.graph_objects as go
from scipy import stats

from scalesearch.export.rule_json import read_rule, rule_text
from scalesearch.scaling.coefficients import coefficients_of
from scalesearch.scaling.rule import ScalingRule
from scalesearch.scaling.simplex import Shares

CORNERS = {"depth": Shares(1, 0, 0), "width": Shares(0, 1, 0), "resolution": Shares(0, 0, 1)}
RULE = "rule"
_STUDIES = Path(__file__).parent.parent / "studies"
Job = tuple[str, float, int]
"""Ladder, φ and seed."""


def ladders(rule: ScalingRule, folder: Path) -> dict[str, Path]:
    """A rule's file for each ladder. The rule itself is left out where it is a corner."""
    found = {}
    for name, shares in {RULE: rule.shares, **CORNERS}.items():
        multipliers = dataclasses.astuple(coefficients_of(shares, rule.budget))
        alpha, beta, gamma = multipliers
        other = dataclasses.replace(rule, alpha=alpha, beta=beta, gamma=gamma, shares=shares)
        found[name] = folder / f"{name}.json"
        found[name].write_text(rule_text(other), encoding="utf-8")
    return found


def trained(
    job: Job, rules: Mapping[str, Path], study: Path, out: Path, epochs: int | None, core: int
) -> dict[str, Any]:
    """Trains and evaluates the network of `job` on one core: accuracy on the test split, and what the network costs."""
    ladder, phi, seed = job
    folder = out / f"{ladder}-{phi:g}-{seed}"
    command = ["train", str(rules[ladder]), "--phi", f"{phi:g}", "--study", str(study), "--seed", str(seed)]
    command += ["--out", str(folder), *([] if epochs is None else ["--epochs", str(epochs)])]
    model = _scalesearch(command, core)
    judged = _scalesearch(["evaluate", str(folder), "--split", "test"], core)
    return {
        "ladder": ladder,
        "phi": phi,
        "seed": seed,
        "macs": model["macs"],
        "params": model["params"],
        "seconds": model["seconds"],
        "accuracy": judged["accuracy"],
        "loss": judged["cross_entropy"],
    }


def _scalesearch(arguments: Sequence[str], core: int) -> dict[str, Any]:
    command = ["taskset", "--cpu-list", str(core), sys.executable, "-m", "scalesearch", *arguments, "--quiet", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr}")
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, math.nan
    return mean, float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))


def _half(width: float) -> str:
    return "" if math.isnan(width) else f" ± {width:.2f}"


def report(rows: Sequence[Mapping[str, Any]], rule: ScalingRule, command: str) -> str:
    """The tables, as Markdown."""
    cells: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        cells.setdefault((row["ladder"], row["phi"]), []).append(row)
    base = cells[RULE, 0.0][0]["macs"]
    shares = ", ".join(f"{100 * value:.0f} % {name}" for name, value in dataclasses.asdict(rule.shares).items())
    seeds = len(cells[RULE, 0.0])
    lines = [
        "# The rule's family against one dimension alone, at equal real cost",
        "",
        (
            f"{date.today().isoformat()}, {os.cpu_count()} CPU cores ({platform.machine()}), `{command}`. Baseline "
            f"{rule.baseline.name}; the rule spends {shares}. Accuracy on the test split in %, mean of {seeds} seeds "
            "± half the 95 % interval; then the difference from the rule, seed by seed, with its interval."
        ),
        "",
        "| φ | ladder | macs ÷ baseline | parameters | accuracy | less the rule's |",
        "|---|---|---|---|---|---|",
    ]
    for (ladder, phi), each in sorted(cells.items(), key=lambda cell: (cell[0][1], cell[0][0] != RULE)):
        mean, half = interval([100 * row["accuracy"] for row in each])
        line = (
            f"| {phi:g} | {ladder} | {each[0]['macs'] / base:.3f} | {each[0]['params']:,} | {mean:.2f}{_half(half)} |"
        )
        if ladder == RULE:
            lines.append(f"{line} |")
            continue
        rival = {row["seed"]: row["accuracy"] for row in cells[RULE, phi]}
        difference, width = interval([100 * (row["accuracy"] - rival[row["seed"]]) for row in each])
        lines.append(f"{line} {difference:+.2f}{_half(width)} |")
    return "\n".join(lines) + "\n"


def chart(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Errors on the test split over macs, on logarithmic axes, a line for each ladder."""
    figure, base = go.Figure(), next(row["macs"] for row in rows if row["phi"] == 0)
    for name, shift in zip((RULE, *CORNERS), (1, 0.99, 1.01, 1.02), strict=True):  # so that intervals do not overlap
        points = []
        for phi in sorted({row["phi"] for row in rows}):
            each = [row for row in rows if row["phi"] == phi and row["ladder"] == (name if phi else RULE)]
            if each:
                mean, half = interval([100 * (1 - row["accuracy"]) for row in each])
                points.append((each[0]["macs"] / base * shift, mean, half, min(half, 0.8 * mean)))
        times, means, above, below = zip(*points, strict=True)
        figure.add_scatter(
            x=times,
            y=means,
            error_y={"type": "data", "array": above, "arrayminus": below, "thickness": 1, "width": 3},
            name=name if name == RULE else f"{name} alone",
            mode="lines+markers",
            line={"width": 3 if name == RULE else 1.5},
        )
    figure.update_layout(
        template="plotly_white", width=760, height=440, legend={"x": 0.02, "y": 0.02}, margin={"t": 20, "r": 20}
    )
    figure.update_xaxes(type="log", title="macs as a multiple of the baseline's", tickvals=[1, 2, 4, 8, 16])
    figure.update_yaxes(type="log", title="errors on the test split, %", tickvals=[1, 2, 5, 10, 20, 50])
    return figure


def main() -> None:
    """Train what is missing, then write table and chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", nargs="?", default=_STUDIES / "results" / "mnist_sample")
    parser.add_argument("--study", type=Path)
    parser.add_argument("--phi", type=lambda text: [float(part) for part in text.split(",")], default=[1.0, 2.0, 3.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/ladders"))
    parser.add_argument("--report", type=Path)
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.phi, arguments.seeds, arguments.epochs = [1.0], 1, 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    rule, rules = read_rule(arguments.run), ladders(read_rule(arguments.run), arguments.out)

    # The largest networks first, so that no core is idle at the end.
    seeds = range(arguments.seeds)
    study = arguments.study or arguments.run / "study.toml"
    if not study.exists():
        study = _STUDIES / f"{arguments.run.name}.toml"
    jobs: list[Job] = [
        (name, phi, seed) for phi in sorted(arguments.phi, reverse=True) for name in rules for seed in seeds
    ]
    jobs += [(RULE, 0.0, seed) for seed in seeds]
    cores: SimpleQueue[int] = SimpleQueue()
    available = sorted(os.sched_getaffinity(0))
    for core in available:
        cores.put(core)

    def carry_out(job: Job) -> dict[str, Any]:
        core = cores.get()
        try:
            row = trained(job, rules, study, arguments.out, arguments.epochs, core)
        finally:
            cores.put(core)
        print(json.dumps(row), flush=True)
        return row

    with ThreadPoolExecutor(len(available)) as pool:
        rows = list(pool.map(carry_out, jobs))
    text = report(rows, rule, f"python benchmarks/{Path(__file__).name} {' '.join(sys.argv[1:])}")
    print(text)
    if arguments.report:
        arguments.report.write_text(text, encoding="utf-8")
    if arguments.chart:
        chart(rows).write_image(arguments.chart, scale=2)


if __name__ == "__main__":
    main()
