"""Training steps of several networks against PyTorch and against our own network with plain `lax` convolutions.

    steps_against_peer.py [--rounds 3] [--batch 128] [--networks NAME ...] [--compiled] [--native] [--quick]

The default study's baseline and that of the Fashion-MNIST study, the candidate nearest to equal shares at 2× and 4× of
each, and EfficientNet-B0 at 64 px; two threads. In every round ours and PyTorch's are measured in turn, each
in a process of its own (`train_step.py`, `peer_torch.py`); `--compiled` adds `torch.compile`, `--native` our network
with `lax` convolutions. One JSON line a network: the medians over the rounds, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scalesearch.baselines.published import baseline
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.count import complexity
from scalesearch.scaling.feasible import feasible_set
from scalesearch.scaling.simplex import Shares
from scalesearch.study.load import load_study

HERE = Path(__file__).parent
STUDIES = HERE.parent / "studies"


def networks() -> dict[str, ArchitectureSpec]:
    """The networks that are measured, by name."""
    found: dict[str, ArchitectureSpec] = {}
    for name in ("mnist_sample", "fashion_mnist"):
        study = load_study(STUDIES / f"{name}.toml")
        own = study.resolved_baseline()
        found[f"{name} 1x"] = own.spec
        for budget in (2.0, 4.0):
            feasible = feasible_set(own.spec, own.rounding, budget, study.tolerance).without_twins()
            nearest = int(feasible.log_distances(Shares(1 / 3, 1 / 3, 1 / 3), budget).argmin())
            found[f"{name} {budget:g}x"] = feasible.candidate(nearest).spec
    found["efficientnet-b0 64px"] = dataclasses.replace(baseline("efficientnet-b0").spec, resolution=64)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="steps of an epoch; the median of several counts")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--networks", nargs="*", choices=tuple(networks()))
    parser.add_argument("--compiled", action="store_true", help="torch.compile too: minutes a network")
    parser.add_argument("--native", action="store_true", help="our network with lax convolutions too")
    parser.add_argument("--quick", action="store_true", help="one round of a few steps of the smallest network")
    arguments = parser.parse_args()
    chosen = networks()
    if arguments.networks is not None:
        chosen = {name: chosen[name] for name in arguments.networks}
    if arguments.quick:
        chosen, arguments.rounds, arguments.steps = dict([next(iter(chosen.items()))]), 1, 3
    batch = ("--batch", str(arguments.batch))
    steps = (*batch, "--steps", str(arguments.steps))
    variants = {"ours": ("train_step.py", *steps), "torch": ("peer_torch.py", *steps)}
    if arguments.compiled:
        variants["torch.compile"] = ("peer_torch.py", *steps, "--compile")
    if arguments.native:
        variants["native"] = ("train_step.py", *batch, "--steps", "2", "--epochs", "2", "--convolutions", "native")
    for name, spec in chosen.items():
        print(json.dumps({"network": name, **compare(spec, variants, arguments.rounds)}), flush=True)


def compare(spec: ArchitectureSpec, variants: dict[str, tuple[str, ...]], rounds: int) -> dict[str, Any]:
    """Images per second of each variant, and ours over each of the others."""
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.json"
        path.write_text(json.dumps(spec.to_json()), encoding="utf-8")
        for _ in range(rounds):
            for name, (script, *options) in variants.items():
                command = [sys.executable, HERE / script, path, *options]
                line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
                if line.startswith("skipped"):  # torch is no dependency
                    print(line)
                    raise SystemExit(0)
                speeds[name].append(json.loads(line)["images_per_s"])
    ours = speeds["ours"]
    ratios = {
        name: round(statistics.median(mine / other for mine, other in zip(ours, others, strict=True)), 2)
        for name, others in speeds.items()
        if name != "ours"
    }
    medians = {name: round(statistics.median(values), 1) for name, values in speeds.items()}
    return {"params": complexity(spec).params, "images_per_s": medians, "ratios": ratios}


if __name__ == "__main__":
    main()
