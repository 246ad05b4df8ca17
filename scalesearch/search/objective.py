"""The evaluation that trains: a candidate and its seeds become a trial record."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable

import jax

from scalesearch.config import StudyConfig
from scalesearch.records import Failure, FailureKind, TrialRecord
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.worker import Evaluate
from scalesearch.training.data import Splits
from scalesearch.training.loop import EpochReport, TrainingDiverged, train

# What a result can depend on.
_PACKAGES = ("scalesearch", "jax", "jaxlib", "flax", "optax", "numpy")


def training_evaluation(study: StudyConfig, splits: Splits, on_epoch: Callable[[EpochReport], None]) -> Evaluate:
    """An evaluation that trains on `splits` by the study's schedule."""
    installed = [(name, importlib.metadata.version(name)) for name in _PACKAGES]
    versions = (("python", platform.python_version()), *installed)

    def evaluate(candidate: Candidate, seeds: tuple[int, ...]) -> TrialRecord:
        def failed(kind: FailureKind, reason: str) -> TrialRecord:
            return TrialRecord(candidate, (), Failure(kind, reason), 0.0, 0.0, jax.devices()[0].device_kind, versions)

        try:
            result = train(candidate.spec, splits, study.training, study.runtime, seeds, on_epoch)
        except TrainingDiverged as error:
            return failed("diverged", str(error))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return failed("out-of-memory", str(error).splitlines()[0])
        speed = (result.compile_seconds, result.images_per_second, result.device)
        return TrialRecord(candidate, result.seeds, None, *speed, versions)

    return evaluate
