"""The evaluation that trains: a candidate and its seeds become a trial record."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable

import jax

from scalesearch.data.splits import Splits
from scalesearch.results.records import Failure, FailureKind, TrialRecord
from scalesearch.runtime.text import plural
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.study.sections import Study
from scalesearch.training.loop import EpochReport, TrainingDiverged, train
from scalesearch.training.memory import is_exhausted, release
from scalesearch.training.prepare import Ahead, check_runtime, prepare_training

# What a result can depend on.
_PACKAGES = ("scalesearch", "jax", "jaxlib", "flax", "optax", "numpy")


class TrainingEvaluation:
    """An evaluation that trains on `splits` by the study's schedule."""

    def __init__(self, study: Study, splits: Splits, on_epoch: Callable[[EpochReport], None]) -> None:
        check_runtime(study.training, study.runtime)  # before a trial is claimed
        self._study, self._splits, self._on_epoch = study, splits, on_epoch
        installed = [(name, importlib.metadata.version(name)) for name in _PACKAGES]
        self._versions = (("python", platform.python_version()), *installed)
        runtime = study.runtime
        self._ahead = Ahead(splits, study.training, runtime) if Ahead.pays(runtime.compile_ahead) else None

    @property
    def expect(self) -> Callable[[Candidate, tuple[int, ...]], None] | None:
        """What prepares the evaluation after the next one; None where there are no cores for it."""
        ahead = self._ahead
        return None if ahead is None else lambda candidate, seeds: ahead.expect(candidate.spec, seeds)

    def __call__(self, candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on, /) -> TrialRecord:
        """Trains the candidate for the seeds, until `watch` says that it is pruned.

        Divergence and lack of memory become the record of a failure.
        """
        study, spec = self._study, candidate.spec

        def failed(kind: FailureKind, reason: str) -> TrialRecord:
            device = jax.devices()[0].device_kind
            return TrialRecord(candidate, (), Failure(kind, reason), 0.0, 0.0, device, self._versions)

        def after_epoch(report: EpochReport) -> bool:
            self._on_epoch(report)
            return watch(report)

        try:
            arguments = (spec, self._splits, study.training, study.runtime, seeds)
            prepared = (self._ahead and self._ahead.take(spec, seeds)) or prepare_training(*arguments)
            if not prepared.program.kept:
                release()
            result = train(*arguments, after_epoch, prepared)
        except TrainingDiverged as error:
            return failed("diverged", str(error))
        except jax.errors.JaxRuntimeError as error:
            if not is_exhausted(error):
                raise
            return failed("out-of-memory", str(error).splitlines()[0])
        speed = (result.compile_seconds, result.images_per_second, result.device)
        failure = None
        if result.stopped:
            trained = sum(len(seed.train_loss) for seed in result.seeds)
            whole = f"{plural(len(seeds), 'seed')} × {plural(study.training.epochs, 'epoch')}"
            failure = Failure("pruned", f"after {plural(trained, 'epoch')} of {whole}")
        return TrialRecord(candidate, result.seeds, failure, *speed, self._versions)
