"""How long a search should take: a two-term model of training time, per image macs and activations."""

from __future__ import annotations

from collections.abc import Sequence

from scalesearch.config import StudyConfig
from scalesearch.scaling.complexity import Complexity
from scalesearch.scaling.feasible import Candidate

# Measured on 2 CPU cores (AMD EPYC, AVX-512), 2026-11-24: benchmarks/predicted_time.py
SECONDS_PER_MAC = 1.4e-10
SECONDS_PER_ACTIVATION = 8.0e-9
COMPILE_SECONDS_PER_BLOCK = 0.7
DEVICE = "2 CPU cores"
# An evaluated image costs the forward pass of a training step's three.
_EVALUATION = 1 / 3


def training_work(study: StudyConfig, cost: Complexity) -> float:
    """Predicted seconds that one candidate trains for, all seeds, without compilation."""
    data, training = study.data, study.training
    images = training.epochs * (data.train + _EVALUATION * data.validation) * study.seeds
    return images * (cost.macs * SECONDS_PER_MAC + cost.activations * SECONDS_PER_ACTIVATION)


def predicted_seconds(study: StudyConfig, candidates: Sequence[Candidate]) -> float:
    """Predicted seconds of training and compiling all `candidates` on the device that was measured."""
    return sum(
        training_work(study, candidate.complexity) + COMPILE_SECONDS_PER_BLOCK * sum(candidate.spec.depths)
        for candidate in candidates
    )
