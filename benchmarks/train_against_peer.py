"""`scalesearch train` against the loop that a user would write in PyTorch: time and memory of one whole training.

    train_against_peer.py [RULE] [--study FILE] [--phi 2] [--epochs N] [--quick]

Both train the member φ by the same schedule, optimiser, augmentation and weight averaging on the same images, each from
the same initial values, with all cores; the peer in its fastest plain form on a CPU (see `peer_search.py`), without
checkpoints. Each runs in a process of its own, one after the other, twice; the second pair counts. One JSON line:
seconds and the largest resident memory of each (of ours, of the worker), losses of
the last epoch, and the ratios. Needs torch, which is no dependency of the package, and a study of `mbconv` blocks.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20
STUDIES = Path(__file__).parent.parent / "studies"


def peer(rule: Path, study_file: Path, phi: float, epochs: int | None) -> dict[str, Any]:
    """The training in PyTorch, in this process."""
    import torch
    from peer_search import fastest_threads, train

    from scalesearch.data.splits import load_splits
    from scalesearch.export.rule_json import read_rule
    from scalesearch.scaling.family import family
    from scalesearch.study.load import load_study

    study = load_study(study_file, {} if epochs is None else {"training.epochs": epochs})
    (member,) = family(read_rule(rule), (phi,))
    splits = load_splits(study.data)
    torch.set_num_threads(fastest_threads(study, splits))
    start = time.perf_counter()
    losses = train(member.spec, splits, study.training, 0)
    return {"seconds": time.perf_counter() - start, "memory": _peak(resource.RUSAGE_SELF), "loss": losses[-1]}


def ours(rule: Path, study_file: Path, phi: float, epochs: int | None) -> dict[str, Any]:
    """The training by `scalesearch train`, in a process whose start, compilation and checkpoints count."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "scalesearch", "train", str(rule), "--phi", f"{phi:g}", "--quiet", "--json"]
        command += ["--study", str(study_file), "--out", f"{folder}/model"]
        command += [] if epochs is None else ["--epochs", str(epochs)]
        start = time.perf_counter()
        result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        seconds = time.perf_counter() - start
    # Of the largest process below this one: the worker. The one that watches it needs some 100 MiB beside.
    return {"seconds": seconds, "memory": _peak(resource.RUSAGE_CHILDREN), "loss": result["best"]["val_loss"]}


def _peak(who: int) -> float:
    """MiB."""
    return resource.getrusage(who).ru_maxrss * 1024 / MEBIBYTE


def main() -> None:
    """Run both in processes of their own, or one of them in this one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rule", type=Path, nargs="?", default=STUDIES / "results" / "fashion_mnist")
    parser.add_argument("--study", type=Path, default=STUDIES / "fashion_mnist.toml")
    parser.add_argument("--phi", type=float, default=2.0)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--quick", action="store_true", help="φ = 1, two epochs")
    parser.add_argument("--only", choices=("ours", "peer"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.phi, arguments.epochs = 1.0, 2
    values = (arguments.rule, arguments.study, arguments.phi, arguments.epochs)
    if arguments.only:
        print(json.dumps((ours if arguments.only == "ours" else peer)(*values)))
        return
    pairs = []
    for _ in range(2):
        pair = {}
        for name in ("peer", "ours"):
            command = [sys.executable, *sys.argv, "--only", name]
            pair[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        pairs.append(pair)
    last = pairs[-1]
    ratios = {f"{key}_ratio": last["peer"][key] / last["ours"][key] for key in ("seconds", "memory")}
    print(json.dumps({"pairs": pairs, **ratios}))


if __name__ == "__main__":
    main()
