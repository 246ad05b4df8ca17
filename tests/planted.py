"""Synthetic studies: candidates of a small baseline, with trial records drawn from a known surface and seed noise."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from scalesearch.results.records import Failure, SeedRecord, TrialRecord
from scalesearch.results.save import save_study
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.coefficients import coefficients_of
from scalesearch.scaling.compound import Baseline, Rounding
from scalesearch.scaling.feasible import Candidate, feasible_set
from scalesearch.scaling.rule import ScalingRule
from scalesearch.scaling.simplex import Shares, lattice
from scalesearch.scaling.stage import make_stage
from scalesearch.search.plan.design import make_plan
from scalesearch.search.plan.reference import reference_plan, reference_study
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import Evaluate, work
from scalesearch.study.load import parse_study
from scalesearch.study.sections import Study

if TYPE_CHECKING:  # worker processes that only evaluate do without pandas and scipy
    from scalesearch.analysis.statistics import FloatArray
    from scalesearch.results.load import Run

EPOCHS = 3
VERSIONS = (("planted", "1.0"),)


@dataclass(frozen=True, slots=True)
class PlantedSurface:
    """val_loss = Σ linear_i x_i + Σ interaction_ij x_i x_j + macs_effect · ln(macs ratio ÷ budget).

    `linear` is (depth, width, resolution), `interaction` (depth·width, depth·resolution, width·resolution).
    """

    linear: tuple[float, float, float] = (0.56, 0.50, 0.53)
    interaction: tuple[float, float, float] = (-0.35, -0.35, -0.40)
    macs_effect: float = -0.5
    budget: float = 2.0

    def at(self, shares: Shares, macs_ratio: float) -> float:
        """The noise-free loss."""
        d, w, r = shares.values
        pairs = (d * w, d * r, w * r)
        mixture = math.fsum(b * x for b, x in zip(self.linear + self.interaction, (d, w, r, *pairs), strict=True))
        return mixture + self.macs_effect * math.log(macs_ratio / self.budget)


@dataclass(frozen=True, slots=True)
class PlantedFunction:
    """val_loss = `loss` of the shares + macs_effect · ln(macs ratio ÷ budget); least at `best`."""

    loss: Callable[[Shares], float]
    best: Shares
    macs_effect: float = -0.5
    budget: float = 2.0

    def at(self, shares: Shares, macs_ratio: float) -> float:
        """The noise-free loss."""
        return self.loss(shares) + self.macs_effect * math.log(macs_ratio / self.budget)


def _funnel(shares: Shares) -> float:
    return 0.5 + 0.2 * math.hypot(0.01, math.dist(shares.values, FUNNEL.best.values))


def _walls(shares: Shares) -> float:
    walls = math.exp(-shares.depth / 0.08) + math.exp(-shares.width / 0.08) + math.exp(-shares.resolution / 0.06)
    return 0.5 + 0.15 * walls + 0.06 * shares.depth + 0.03 * shares.resolution


# Two surfaces that no quadratic follows: a narrow funnel, and a flat valley with walls at the edges of the triangle.
FUNNEL = PlantedFunction(_funnel, Shares(0.15, 0.55, 0.30))
WALLS = PlantedFunction(_walls, Shares(0.2690, 0.4748, 0.2562))
Planted = PlantedSurface | PlantedFunction


def small_baseline() -> Baseline:
    """A baseline of two stages with 24 blocks in all at 96 pixels: a thousand feasible networks at budget 2."""
    stages = (
        make_stage("mbconv", kernel_size=3, stride=1, expand_ratio=1, width=24, depth=10, se_ratio=0.25),
        make_stage("mbconv", kernel_size=3, stride=2, expand_ratio=2, width=40, depth=14, se_ratio=0.25),
    )
    spec = ArchitectureSpec(96, 1, 10, StemSpec(16, 3, 2), stages, 64)
    return Baseline("planted", spec, Rounding(2, "balanced", 1, "scaled", "scaled"))


@functools.cache
def planted_candidates(budget: float = 2.0, degree: int = 4, tolerance: float = 0.02) -> tuple[Candidate, ...]:
    """The feasible candidates nearest to the points of the {3, degree} lattice, without twins."""
    baseline = small_baseline()
    feasible = feasible_set(baseline.spec, baseline.rounding, budget, tolerance)
    points = np.array([point.values for point in lattice(degree)])
    nearest = np.abs(feasible.shares[None] - points[:, None]).max(axis=2).argmin(axis=1)
    return tuple(feasible.candidate(int(row)) for row in dict.fromkeys(nearest.tolist()))


def planted_study(**changes: Any) -> Study:
    """A study of `small_baseline` with the degree-4 lattice; `changes` replace keys, or extend tables."""
    baseline = small_baseline()
    document: dict[str, Any] = {
        "name": "planted",
        "budget": 2.0,
        "seeds": 2,
        "baseline": {"name": baseline.name, **baseline.spec.to_json()},
        "rounding": dataclasses.asdict(baseline.rounding),
        "design": {"kind": "lattice", "degree": 4},
        "data": {"source": "mnist-sample", "train": 300, "validation": 100, "test": 100},
        "training": {"epochs": EPOCHS, "batch_size": 50, "learning_rate": 0.01},
    }
    for key, value in changes.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    return parse_study(document, "planted study")


def watched(record: TrialRecord, watch: Callable[[Any], bool] | None, *, together: bool = False) -> TrialRecord:
    """The part of a complete training that remains when `watch` prunes it; seeds train in turn, or all `together`."""
    if watch is None or record.failure is not None:
        return record
    from scalesearch.training.loop import EpochReport

    kept: list[SeedRecord] = []
    for group in [record.seeds] if together else [(seed,) for seed in record.seeds]:
        epochs = len(group[0].train_loss)
        for epoch in range(1, epochs + 1):
            names = ("train_loss", "val_loss_curve", "val_accuracy_curve")
            means = (float(np.mean([getattr(seed, name)[epoch - 1] for seed in group])) for name in names)
            if watch(
                EpochReport(
                    tuple(seed.seed for seed in group), epoch, epochs, *means, len(group) / len(record.seeds) / epochs
                )
            ):
                cut = [{name: getattr(seed, name)[:epoch] for name in names} for seed in group]
                kept += [dataclasses.replace(seed, **curves) for seed, curves in zip(group, cut, strict=True)]
                trained = sum(len(seed.train_loss) for seed in kept)
                failure = Failure("pruned", f"after {trained} epochs of {len(record.seeds)} seeds × {epochs} epochs")
                return dataclasses.replace(record, seeds=tuple(kept), failure=failure)
        kept += group
    return record


def claim(study: optuna.Study) -> optuna.Trial:
    """Take the next trial of the queue, as a worker does before it evaluates it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # `ask` starts no heartbeat
        return study.ask()


def planted_evaluate(
    surface: Planted,
    *,
    seed_sd: float = 0.01,
    noise_sd: float = 0.005,
    key: int = 0,
    fail: Callable[[Candidate], Failure | None] = lambda candidate: None,
) -> Callable[[Candidate, tuple[int, ...]], TrialRecord]:
    """An `evaluate(candidate, seeds)` whose last val_loss is surface + seed effect + noise.

    The seed effect (sd `seed_sd`) is the same for all candidates. The noise (sd `noise_sd`) is drawn for each run from
    `key`, the seed and the network, so the same call gives the same record. val_accuracy is exp(−val_loss). A
    candidate for which `fail` returns a failure has no seeds.
    """

    def evaluate(
        candidate: Candidate, seeds: tuple[int, ...], watch: Callable[[Any], bool] | None = None
    ) -> TrialRecord:
        failure = fail(candidate)
        runs = () if failure else tuple(run(candidate, seed) for seed in seeds)
        speed = (0.5, 1e9 / candidate.complexity.macs, "planted")
        return watched(TrialRecord(candidate, runs, failure, *speed, VERSIONS), watch)

    def run(candidate: Candidate, seed: int) -> SeedRecord:
        spec = candidate.spec
        of_run = np.random.default_rng((key, seed, spec.resolution, *spec.depths, *spec.widths))
        of_seed = np.random.default_rng((key, seed))
        last = surface.at(candidate.shares, candidate.cost_ratio)
        last += seed_sd * of_seed.standard_normal() + noise_sd * of_run.standard_normal()
        curve = tuple(last + 0.4 * (EPOCHS - epoch - 1) for epoch in range(EPOCHS))
        accuracy = tuple(math.exp(-max(loss, 0.0)) for loss in curve)
        train = tuple(loss - 0.1 for loss in curve)
        return SeedRecord(seed, train, curve, accuracy, candidate.complexity.macs / 1e6)

    return evaluate


def planted_records(
    surface: Planted,
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    seed_sd: float = 0.01,
    noise_sd: float = 0.005,
    key: int = 0,
    candidates: tuple[Candidate, ...] | None = None,
    fail: Callable[[Candidate], Failure | None] = lambda candidate: None,
) -> tuple[TrialRecord, ...]:
    """All `candidates` (by default those of the degree-4 lattice), evaluated by `planted_evaluate`."""
    evaluate = planted_evaluate(surface, seed_sd=seed_sd, noise_sd=noise_sd, key=key, fail=fail)
    chosen = planted_candidates(surface.budget) if candidates is None else candidates
    return tuple(evaluate(candidate, seeds) for candidate in chosen)


def with_balanced(record: TrialRecord) -> TrialRecord:
    """`record` with a balanced accuracy of half its accuracy."""
    seeds = (
        dataclasses.replace(seed, val_balanced_accuracy_curve=tuple(each / 2 for each in seed.val_accuracy_curve))
        for seed in record.seeds
    )
    return dataclasses.replace(record, seeds=tuple(seeds))


def with_losses(losses: FloatArray) -> list[TrialRecord]:
    """Records of planted candidates with these losses (candidates, seeds); NaN stands for a missing run."""
    records = []
    for record, row in zip(planted_records(PlantedSurface()), losses.tolist(), strict=False):
        template = record.seeds[0]
        seeds = tuple(
            dataclasses.replace(template, seed=number, val_loss_curve=(value,))
            for number, value in enumerate(row)
            if not math.isnan(value)
        )
        records.append(dataclasses.replace(record, seeds=seeds))
    return records


def planted_rule() -> ScalingRule:
    """A rule of `planted_study` with the shares (¼, ½, ¼)."""
    study = planted_study()
    coefficients = coefficients_of(Shares(0.25, 0.5, 0.25), study.budget)
    return ScalingRule(
        budget=study.budget,
        **dataclasses.asdict(coefficients),
        shares=Shares(0.25, 0.5, 0.25),
        intervals=None,
        resolved=True,
        tied=None,
        metric=study.metric,
        baseline=study.resolved_baseline(),
        data=study.data.model_dump(mode="json"),
        training=study.training.model_dump(mode="json"),
        seeds=study.seeds,
        provenance={},
    )


def planted_reference(
    surface: Planted = PlantedSurface(), *, seeds: tuple[int, ...] = (0, 1), **options: Any
) -> TrialRecord:
    """The baseline's record: its loss is that of equal shares at a ratio of 1."""
    (trial,) = reference_plan(reference_study(planted_study())).trials
    return planted_evaluate(surface, **options)(trial.candidate, seeds)


def planted_run(
    folder: Path,
    surface: PlantedSurface = PlantedSurface(),
    *,
    most: int = 15,
    reference: Evaluate | None = None,
    **options: Any,
) -> Run:
    """A run of the planted study; an interrupt ends it after `most` trials. `reference` evaluates its baseline."""
    from scalesearch.results.load import load

    study = planted_study()
    plan = make_plan(study)
    optuna_study = studies.open_study(open_storage(sqlite_url(folder)), study, "digest")
    save_study(folder, study)
    studies.enqueue_missing(optuna_study, plan.distinct)
    if reference is not None:
        own = reference_study(study)
        stored = studies.open_study(open_storage(sqlite_url(folder)), own, "digest")
        studies.enqueue_missing(stored, reference_plan(own).distinct)
        work(stored, own, reference_plan(own), reference)
    planted = planted_evaluate(surface, **options)
    trials_left = iter(range(most))

    def evaluate(*arguments: Any) -> TrialRecord:
        if next(trials_left, None) is None:
            raise KeyboardInterrupt
        return planted(*arguments)

    try:
        work(optuna_study, study, plan, evaluate)
    except KeyboardInterrupt:
        assert most < 15
    return load(folder)
