"""Preparing the next network in a thread while another one trains."""

from __future__ import annotations

import atexit
import weakref
from concurrent.futures import Future, wait
from typing import Literal

from scalesearch.data.splits import Splits
from scalesearch.runtime.exhaustion import is_exhausted
from scalesearch.runtime.programs import run_in_background
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.sections import RuntimeSection
from scalesearch.study.training import TrainingSection
from scalesearch.training.compile import compile_program
from scalesearch.training.prepare import Compiler, Prepared, prepare_training

MIN_CORES = 4
"""From this many cores of a process on, `compile_ahead = "auto"` means yes: XLA compiles on several, and a step
needs some too."""

EXIT_SECONDS = 30.0
"""How long at most an ending process waits for networks in preparation that will not be trained."""


class Prefetcher:
    """Prepares the networks that are expected next, each in a thread.

    It remembers the last two expected networks, so that a worker may announce the one after next.

    Args:
        splits: the data.
        training: the schedule.
        runtime: how the work is carried out.
        compiler: compiles a network.
    """

    def __init__(
        self,
        splits: Splits,
        training: TrainingSection,
        runtime: RuntimeSection,
        compiler: Compiler = compile_program,
    ) -> None:
        self._arguments = (splits, training, runtime)
        self._compiler = compiler
        self._expected: dict[tuple[ArchitectureSpec, tuple[int, ...]], Future[Prepared]] = {}
        self._started = started = weakref.WeakSet[Future[Prepared]]()
        # An interpreter that ends while jax traces in another thread aborts.
        atexit.register(lambda: wait(list(started), timeout=EXIT_SECONDS))

    @staticmethod
    def is_enabled(setting: bool | Literal["auto"], cores: int) -> bool:
        """Whether to prefetch: by the study's `compile_ahead`, `auto` if this process has `MIN_CORES`.

        >>> Prefetcher.is_enabled("auto", cores=2)
        False
        """
        return cores >= MIN_CORES if setting == "auto" else setting

    def expect(self, spec: ArchitectureSpec, seeds: tuple[int, ...]) -> None:
        """Begin to prepare `spec` for `seeds`; of the networks expected before, only the last stays remembered."""
        future = run_in_background(lambda: prepare_training(spec, *self._arguments, seeds, compiler=self._compiler))
        self._started.add(future)
        last = dict(list(self._expected.items())[-1:])
        self._expected = {**last, (spec, seeds): future}

    def take(self, spec: ArchitectureSpec, seeds: tuple[int, ...]) -> Prepared | None:
        """The prepared network, as soon as it is ready.

        None if it was not expected, or did not fit into memory along with the network in training. Raises what its
        preparation raised.
        """
        future = self._expected.pop((spec, seeds), None)
        if future is None:
            return None
        wait([future])
        try:
            return future.result()
        except Exception as error:
            if not is_exhausted(error):
                raise
            return None
