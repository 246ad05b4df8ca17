"""A whole search against the loop that a user would write: Optuna and PyTorch, one network after the other.

    peer_search.py [--study FILE] [--degree M] [--seeds S] [--processes 1] [--quick]

Both train the same plan with the same schedule, optimiser, augmentation, weight averaging and data, each seed from
the same initial values through the same batches, moved alike, and measure the validation loss after every epoch: what
is left between their losses is arithmetic, and the running variance, which is unbiased in PyTorch. PyTorch in its
fastest plain form on a CPU (eager, channels-last, fused AdamW, as many threads as are fastest for the baseline;
`torch.compile` takes a minute a network, more than all its seeds). Ours has the study's workers, each with its part of
the cores; with `--processes` the peer has as many loops beside one another. `scalesearch run` does the same twice, with
nothing compiled before and with programs and kernels kept (by a run before, which does not count). The three searches
take turns of a few seconds, in proportion to what they need, while the others stand still (SIGSTOP): a machine whose
speed changes changes it for all of them. One JSON line: seconds of each in its own turns, their ratios, and of each
candidate the mean loss and its deviation over the seeds in both, and the mean and deviation of ours less theirs, seed
by seed.

Needs torch (`pip install torch`), which is no dependency of the package, and a study of `mbconv` blocks.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optuna
import tomli_w
from flax import nnx
from peer_torch import build, functional, nn, torch
from turns import Runner, by_turns

import scalesearch
from scalesearch.data.sources import Split
from scalesearch.data.splits import Splits, load_splits
from scalesearch.data.statistics import channel_statistics
from scalesearch.models.network import Network
from scalesearch.models.ops.native import NativeOperations
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.search.plan.design import make_plan
from scalesearch.study.load import default_study_path, load_study
from scalesearch.study.sections import Study
from scalesearch.study.training import TrainingSection
from scalesearch.training.draws import draws_of_epoch, init_generator
from scalesearch.training.optimizer import ADAM_BETAS, ADAM_EPSILON
from scalesearch.training.schedule import schedule_of

EVALUATED_TOGETHER = 500

TURN = 10.0
"""Seconds of a turn of the peer; those of ours are as much shorter as it is expected to be done sooner."""


def prepared(split: Split, resolution: int, mean: np.ndarray, std: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised images (N, C, R, R), channels last, and labels."""
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2).float()
    if images.shape[-1] != resolution:
        images = functional.interpolate(images, size=(resolution, resolution), mode="bilinear", antialias=True)
        images = images.round().clamp(0, 255)
    images = (images - torch.from_numpy(mean)[:, None, None]) / torch.from_numpy(std)[:, None, None]
    return images.contiguous(memory_format=torch.channels_last), torch.from_numpy(split.labels).long()


def start(network: nn.Module, spec: ArchitectureSpec, seed: int) -> None:
    """Gives `network` the initial values that ours has."""
    ours = Network(spec, operations=NativeOperations(), dropout=0.0, rng=init_generator(seed))
    values = iter(_values(nnx.to_pure_dict(nnx.state(ours, nnx.Param))))
    with torch.no_grad():
        for parameter in network.parameters():
            value = next(values)
            parameter.copy_(torch.from_numpy(value).reshape(parameter.shape))
    assert next(values, None) is None


def _values(own: dict[str, Any]) -> Iterator[np.ndarray]:
    """Our parameters in the order and the layout of the peer's."""
    yield from _convolution(own["stem"])
    for _, stage in sorted(own["stages"].items()):
        like = jax.tree.leaves(stage.get("repeats"))
        each = [jax.tree.map(lambda leaf, i=i: leaf[i], stage["repeats"]) for i in range(len(like[0]))] if like else []
        for block in (stage["first"], *each):
            for name in ("expand", "depthwise", "excite", "project"):
                if name == "excite" and name in block:
                    yield from (*_affine(block[name]["reduce"]), *_affine(block[name]["expand"]))
                elif name in block:
                    yield from _convolution(block[name])
    if "head" in own:
        yield from _convolution(own["head"])
    yield from _affine(own["classifier"])


def _convolution(layer: dict[str, Any]) -> tuple[np.ndarray, ...]:
    return np.transpose(layer["kernel"], (3, 2, 0, 1)).copy(), layer["norm"]["scale"], layer["norm"]["bias"]


def _affine(layer: dict[str, Any]) -> tuple[np.ndarray, ...]:
    return layer["kernel"].T.copy(), layer["bias"]


def augmented(
    images: torch.Tensor, offsets: np.ndarray, mirrored: np.ndarray, training: TrainingSection
) -> torch.Tensor:
    """Moved by `offsets` of up to `shift` of their size, between pixels, the border repeated; some mirrored."""
    if training.shift:
        move = torch.eye(2, 3).repeat(len(images), 1, 1)
        # x before y, of a grid that is 2 wide
        move[:, :, 2] = torch.from_numpy(offsets[:, ::-1].copy()) * training.shift * 2
        grid = functional.affine_grid(move, list(images.shape), align_corners=False)
        images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if training.flip:
        images = torch.where(torch.from_numpy(mirrored)[:, None, None, None], images.flip(3), images)
    return images.contiguous(memory_format=torch.channels_last)


def train(spec: ArchitectureSpec, splits: Splits, training: TrainingSection, seed: int, most: int = 0) -> list[float]:
    """Validation losses after each epoch; `most` steps and no evaluation where it is given."""
    mean, std = channel_statistics(splits.train.images)
    images, labels = prepared(splits.train, spec.resolution, mean, std)
    validation = prepared(splits.validation, spec.resolution, mean, std)
    network, schedule = build(spec), schedule_of(training, len(images))
    warmup, total = int(schedule.warmup), int(schedule.total)
    start(network, spec, seed)
    averaged = copy.deepcopy(network) if training.ema_decay else network
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, training.learning_rate, ADAM_BETAS, ADAM_EPSILON, fused=True)
    pairs = [(average, own) for average, own in zip(_state(averaged), _state(network), strict=True)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    losses, step = [], 0
    for epoch in range(training.epochs):
        network.train()
        draws = draws_of_epoch(np.array(seed, np.uint32), epoch, training, images=len(images))
        for rows, offsets, mirrored in zip(draws.order, draws.offsets, draws.mirrored, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate(training, warmup, total, step)
            optimizer.zero_grad(set_to_none=True)
            logits = network(augmented(images[rows], offsets, mirrored, training))
            functional.cross_entropy(logits, labels[rows], label_smoothing=training.label_smoothing).backward()
            optimizer.step()
            step += 1
            for norm in norms:  # the running statistics forget their start at once, as ours do
                decay = training.statistics_decay
                norm.momentum = (1 - decay) / (1 - decay ** (step + 1))
            if training.ema_decay:
                weight = (1 - training.ema_decay) / (1 - training.ema_decay**step)
                with torch.no_grad():
                    torch._foreach_lerp_([a for a, _ in pairs], [o for _, o in pairs], weight)
            if step == most:
                return losses
        averaged.eval()
        with torch.inference_mode():
            parts = zip(*(part.split(EVALUATED_TOGETHER) for part in validation), strict=True)
            total = sum(functional.cross_entropy(averaged(x), y, reduction="sum").item() for x, y in parts)
        losses.append(total / len(validation[1]))
    return losses


def _state(network: nn.Module) -> list[torch.Tensor]:
    buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    return [*(parameter.data for parameter in network.parameters()), *buffers]


def rate(training: TrainingSection, warmup: int, total: int, step: int) -> float:
    """Linear warm-up, cosine decay, as `scalesearch.training.schedule.learning_rate`."""
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    final, progress = training.final_learning_rate_fraction, (step - warmup) / max(total - warmup, 1)
    return training.learning_rate * (final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2)


def fastest_threads(study: Study, splits: Splits) -> int:
    """The number of threads that trains the baseline fastest."""
    spec, seconds = study.resolved_baseline().spec, {}
    for threads in {1, os.cpu_count() or 1}:
        torch.set_num_threads(threads)
        train(spec, splits, study.training, 0, most=3)
        start = time.perf_counter()
        train(spec, splits, study.training, 0, most=40)
        seconds[threads] = time.perf_counter() - start
    return min(seconds, key=seconds.__getitem__)


def peer(study: Study, specs: list[ArchitectureSpec], threads: int, processes: int = 1) -> list[list[float]]:
    """The last loss of each candidate and seed, by a search in Optuna and PyTorch, or several beside one another."""
    if processes > 1:
        losses: list[list[float]] = [[]] * len(specs)
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            parts = pool.starmap(peer, [(study, specs[place::processes], threads) for place in range(processes)])
        for place, part in enumerate(parts):
            losses[place::processes] = part
        return losses
    splits = load_splits(study.data)
    torch.set_num_threads(threads)
    found: list[list[float]] = []

    def objective(trial: optuna.Trial) -> float:
        spec = specs[trial.suggest_int("candidate", 0, len(specs) - 1)]
        found.append([train(spec, splits, study.training, seed)[-1] for seed in range(study.seeds)])
        return statistics.mean(found[-1])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = optuna.create_study()
    for place in range(len(specs)):
        search.enqueue_trial({"candidate": place})
    search.optimize(objective, n_trials=len(specs))
    return found


def searches(
    study: Study, options: list[str], threads: int, processes: int, folder: Path
) -> tuple[list[float], Any, Any]:
    """Seconds of the peer, of a first run and of a run with all kept; losses of the peer, and ours by network."""
    asked, losses = folder / "study.toml", folder / "losses.json"
    asked.write_text(tomli_w.dumps(study.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    again = [sys.executable, str(Path(__file__).resolve()), *options, "--threads", str(threads)]

    def ours(name: str, turn: float) -> Runner:
        command = [sys.executable, "-m", "scalesearch", "run", "--study", str(asked), "--out", str(folder / name)]
        kept = "cold" if name == "cold" else "kept"
        return Runner(command, turn, folder / f"{name}.log", SCALESEARCH_CACHE_DIR=str(folder / "programs" / kept))

    by_turns([ours("before", math.inf)])
    theirs = Runner([*again, "--peer-to", str(losses)], TURN, folder / "peer.log")
    runners = [theirs, ours("cold", TURN * processes / 3.6), ours("warm", TURN * processes / 4.9)]
    by_turns(runners)
    records = [record for name in ("cold", "warm") for record in scalesearch.load(folder / name).records]
    found = {record.candidate.spec: [seed.val_loss for seed in record.seeds] for record in records}
    return [runner.seconds for runner in runners], json.loads(losses.read_text(encoding="utf-8")), found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=default_study_path())
    parser.add_argument("--degree", type=int, help="of the lattice: fewer candidates")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--quick", action="store_true", help="three candidates, one seed, one epoch")
    parser.add_argument("--threads", type=int, help="of PyTorch; those that are fastest for the baseline if not given")
    parser.add_argument("--processes", type=int, default=1, help="of PyTorch, each with its part of the candidates")
    parser.add_argument("--peer-to", type=Path, help="only search with PyTorch, and write the losses there")
    arguments = parser.parse_args()
    changes: dict[str, Any] = {}
    if arguments.quick:
        changes = {"design.degree": 1, "seeds": 1, "training.epochs": 1, "training.warmup_epochs": 0.5}
    for key, value in (("design.degree", arguments.degree), ("seeds", arguments.seeds)):
        if value is not None:
            changes[key] = value
    study = load_study(arguments.study, changes)
    study = study.model_copy(update={"rungs": ()})
    if study.training.dropout or study.training.optimizer != "adamw":
        raise SystemExit("the peer knows AdamW without dropout alone")
    specs = [trial.candidate.spec for trial in make_plan(study).distinct]
    if arguments.peer_to is not None:
        losses = peer(study, specs, arguments.threads, arguments.processes)
        arguments.peer_to.write_text(json.dumps(losses), encoding="utf-8")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended
    threads = arguments.threads or (1 if arguments.processes > 1 else fastest_threads(study, load_splits(study.data)))
    options = ["--study", str(arguments.study), *(["--quick"] if arguments.quick else [])]
    options += ["--processes", str(arguments.processes)]
    for key, value in (("--degree", arguments.degree), ("--seeds", arguments.seeds)):
        options += [] if value is None else [key, str(value)]
    with tempfile.TemporaryDirectory() as folder:
        (peer_seconds, cold, warm), losses, found = searches(study, options, threads, arguments.processes, Path(folder))
    own = [found[spec] for spec in specs]
    columns = zip(losses, own, np.subtract(own, losses), strict=True)
    rows = [[round(value, 4) for part in row for value in _mean_and_sd(part)] for row in columns]
    result = {
        "study": study.name,
        "candidates": len(specs),
        "seeds": study.seeds,
        "torch": torch.__version__,
        "threads": threads,
        "processes": arguments.processes,
        "workers": study.runtime.workers,
        "peer_s": round(peer_seconds, 1),
        "cold_s": round(cold, 1),
        "warm_s": round(warm, 1),
        "ratio_cold": round(peer_seconds / cold, 2),
        "ratio_warm": round(peer_seconds / warm, 2),
        "val_loss_peer": round(float(np.mean(losses)), 4),
        "val_loss_ours": round(float(np.mean(own)), 4),
        "mean_sd_of_peer_ours_difference": rows,
    }
    print(json.dumps(result))


def _mean_and_sd(values: Any) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


if __name__ == "__main__":
    main()
