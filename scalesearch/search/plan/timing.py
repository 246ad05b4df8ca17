"""How long a search should take: training by the activations of its networks, compilation by their blocks."""

from __future__ import annotations

from collections.abc import Sequence

from scalesearch.scaling.cost.count import Complexity
from scalesearch.scaling.feasible import Candidate
from scalesearch.study.sections import Study

# Measured on one core of an AMD EPYC with AVX2, 2026-11-26: benchmarks/predicted_time.py fits the first two to a run
# of the default study without its first two trials, benchmarks/compiling.py the seconds of a block.
SECONDS_PER_ACTIVATION = 9.1e-9
# Dense convolutions have more multiply-adds for each activation. Measured on one core of an Intel Xeon, 2026-11-28, on
# images of 19 px: 118 to 136 ps for MobileNetV1, ResNet-18 and -50.
SECONDS_PER_MAC = 1.2e-10
COMPILE_SECONDS = 4.2
COMPILE_SECONDS_PER_BLOCK = 0.05
CORES = 2
DEVICE = "2 CPU cores"
# XLA compiles on all cores that it is given: on two of them 1.6 times as fast as on one.
COMPILE_SPEEDUP = 1.6
# An image costs a forward pass in evaluation; in training three times as much.
EVALUATION = 1 / 3


def seconds_per_image(cost: Complexity) -> float:
    """Predicted seconds of one core for a training step's share of one image, by what takes longer."""
    return max(cost.activations * SECONDS_PER_ACTIVATION, cost.macs * SECONDS_PER_MAC)


def training_seconds(cost: Complexity, blocks: int, epochs: int, train: int, validation: int) -> float:
    """Predicted seconds of compiling and training one network once on `DEVICE`.

    Args:
        cost: of the network.
        blocks: how many it has.
        epochs: of the training.
        train: training images.
        validation: validation images.
    """
    trained = epochs * (train + EVALUATION * validation) * seconds_per_image(cost)
    return trained + (COMPILE_SECONDS + COMPILE_SECONDS_PER_BLOCK * blocks) / COMPILE_SPEEDUP


def predicted_seconds(
    study: Study, candidates: Sequence[Candidate], seeds: Sequence[int] | None = None
) -> float | None:
    """Predicted seconds of compiling and training all `candidates` on `DEVICE`, wherever the search will run.

    `seeds` says for how many each of them trains, if not for all of the study's. The aim is a factor of 2
    (`benchmarks/predicted_time.py` measures it). None if there are no candidates yet (an adaptive design), or if the
    study trains on all remaining images, whose number is not known before they are read.
    """
    data, training = study.data, study.training
    if not (data.train and candidates):
        return None
    images = training.epochs * (data.train + EVALUATION * data.validation)
    counts = [study.seeds] * len(candidates) if seeds is None else seeds
    trained = sum(
        images * count * seconds_per_image(candidate.complexity)
        for candidate, count in zip(candidates, counts, strict=True)
    )
    blocks = sum(sum(candidate.spec.depths) for candidate in candidates)
    compiled = COMPILE_SECONDS * len(candidates) + COMPILE_SECONDS_PER_BLOCK * blocks
    workers = min(study.runtime.workers, CORES)
    return trained / workers + compiled / (workers if workers > 1 else COMPILE_SPEEDUP)
