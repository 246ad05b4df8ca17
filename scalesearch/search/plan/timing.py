"""How long a search should take: training by the activations of its networks, compilation by their blocks."""

from __future__ import annotations

from collections.abc import Sequence

from scalesearch.scaling.feasible import Candidate
from scalesearch.study.sections import Study

# Measured on one core of an AMD EPYC with AVX2, 2026-11-26: benchmarks/predicted_time.py on the default study, its
# first two trials left out of compiling, and benchmarks/compiling.py for what a block adds.
SECONDS_PER_ACTIVATION = 9.1e-9
COMPILE_SECONDS = 4.2
COMPILE_SECONDS_PER_BLOCK = 0.05
CORES = 2
DEVICE = "2 CPU cores"
# A compilation uses the cores that it is given, two of them 1.6 times as fast as one.
COMPILE_SPEEDUP = 1.6
# An evaluated image costs the forward pass of a training step's three.
EVALUATION = 1 / 3


def predicted_seconds(study: Study, candidates: Sequence[Candidate]) -> float | None:
    """Predicted seconds of compiling and training all `candidates` on the device that was measured.

    None where there are none yet (an adaptive design), and where the study trains on all that is left of the
    data: how many images that is only the data tell.
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
