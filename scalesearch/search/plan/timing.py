"""How long a search should take: training by the activations of its networks, compilation by their blocks."""

from __future__ import annotations

from collections.abc import Sequence

from scalesearch.scaling.feasible import Candidate
from scalesearch.study.sections import Study

# Measured on one core of an AMD EPYC with AVX2, 2026-11-26: benchmarks/predicted_time.py fits the first two to a run
# of the default study without its first two trials, benchmarks/compiling.py the seconds of a block.
SECONDS_PER_ACTIVATION = 9.1e-9
COMPILE_SECONDS = 4.2
COMPILE_SECONDS_PER_BLOCK = 0.05
CORES = 2
DEVICE = "2 CPU cores"
# XLA compiles on all cores that it is given: on two of them 1.6 times as fast as on one.
COMPILE_SPEEDUP = 1.6
# An image costs a forward pass in evaluation; in training three times as much.
EVALUATION = 1 / 3


def predicted_seconds(study: Study, candidates: Sequence[Candidate]) -> float | None:
    """Predicted seconds of compiling and training all `candidates` on `DEVICE`, wherever the search will run.

    The aim is a factor of 2 (`benchmarks/predicted_time.py` measures it). None if there are no candidates yet (an
    adaptive design), or if the study trains on all remaining images, whose number is not known before they are read.
    """
    data, training = study.data, study.training
    if not (data.train and candidates):
        return None
    images = training.epochs * (data.train + EVALUATION * data.validation) * study.seeds
    trained = sum(images * candidate.complexity.activations * SECONDS_PER_ACTIVATION for candidate in candidates)
    blocks = sum(sum(candidate.spec.depths) for candidate in candidates)
    compiled = COMPILE_SECONDS * len(candidates) + COMPILE_SECONDS_PER_BLOCK * blocks
    workers = min(study.runtime.workers, CORES)
    return trained / workers + compiled / (workers if workers > 1 else COMPILE_SPEEDUP)
