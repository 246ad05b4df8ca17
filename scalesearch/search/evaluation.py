"""The evaluation that trains: a candidate and its seeds become a trial record."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable

import jax

from scalesearch.data.cache import OnDone
from scalesearch.data.splits import Splits
from scalesearch.models.counting import check_own
from scalesearch.results.records import Failure, FailureKind, TrialRecord
from scalesearch.runtime.cache import folder_in_use
from scalesearch.runtime.cores import usable_cores
from scalesearch.runtime.exhaustion import is_exhausted
from scalesearch.runtime.program_cache import use_program_cache
from scalesearch.runtime.text import first_line, plural
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.study.sections import Study
from scalesearch.training.epochs import TrainingDiverged
from scalesearch.training.loop import EpochReport, train
from scalesearch.training.memory import release
from scalesearch.training.prefetch import Prefetcher
from scalesearch.training.prepare import check_runtime, prepare_training

# Packages that a result can depend on.
_PACKAGES = ("scalesearch", "jax", "jaxlib", "flax", "optax", "numpy")


class TrainingEvaluation:
    """Trains candidates on `splits` by the schedule of a study, for `search.queue.work`.

    Args:
        study: the study, whose `training` and `runtime` sections say how.
        splits: its data.
        on_epoch: called with the report of each epoch.
        on_images: called while the images of a network are decoded that nobody has prepared.

    Raises:
        InputError: the study asks for what this machine cannot do, or counts the user's own network wrong.
    """

    def __init__(
        self,
        study: Study,
        splits: Splits,
        on_epoch: Callable[[EpochReport], None],
        on_images: OnDone = lambda resolution, done, total: None,
    ) -> None:
        check_runtime(study.training, study.runtime)  # before a trial is claimed
        check_own(study.resolved_baseline().spec)
        if (folder := folder_in_use()) is not None:
            use_program_cache(folder)
        self._study, self._splits, self._on_epoch, self._on_images = study, splits, on_epoch, on_images
        installed = [(name, importlib.metadata.version(name)) for name in _PACKAGES]
        self._versions = (("python", platform.python_version()), *installed)
        enabled = Prefetcher.is_enabled(study.runtime.compile_ahead, len(usable_cores()))
        self._prefetcher = Prefetcher(splits, study.training, study.runtime) if enabled else None

    @property
    def expect(self) -> Callable[[Candidate, tuple[int, ...]], None] | None:
        """Prepares a later evaluation in the background; None if this process has too few cores for it."""
        prefetcher = self._prefetcher
        return None if prefetcher is None else lambda candidate, seeds: prefetcher.expect(candidate.spec, seeds)

    def __call__(self, candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on, /) -> TrialRecord:
        """Trains the candidate for the seeds, until `watch` says that it is pruned.

        Divergence and lack of memory become the record of a failure; other errors are raised.
        """
        arguments = (candidate.spec, self._splits, self._study.training, self._study.runtime, seeds)

        def after_epoch(report: EpochReport) -> bool:
            self._on_epoch(report)
            return watch(report)

        check_own(candidate.spec)
        try:
            prepared = (self._prefetcher and self._prefetcher.take(candidate.spec, seeds)) or prepare_training(
                *arguments, on_images=self._on_images
            )
            release()  # what tracing and compiling left, before the training needs memory
            result = train(*arguments, after_epoch, prepared)
        except TrainingDiverged as error:
            return self._failed(candidate, "diverged", str(error))
        except Exception as error:
            if not is_exhausted(error):
                raise
            return self._failed(candidate, "out-of-memory", first_line(error))

        failure = None
        if result.stopped:
            trained = sum(len(seed.train_loss) for seed in result.seeds)
            planned = f"{plural(len(seeds), 'seed')} × {plural(self._study.training.epochs, 'epoch')}"
            failure = Failure("pruned", f"after {plural(trained, 'epoch')} of {planned}")
        speed = (result.compile_seconds, result.images_per_second, result.device)
        return TrialRecord(candidate, result.seeds, failure, *speed, self._versions)

    def _failed(self, candidate: Candidate, kind: FailureKind, reason: str) -> TrialRecord:
        device = jax.devices()[0].device_kind
        return TrialRecord(candidate, (), Failure(kind, reason), 0.0, 0.0, device, self._versions)
