"""Whole trainings of a small network on real digits."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from scalesearch.data.splits import Split, Splits, load_splits
from scalesearch.errors import InputError
from scalesearch.models.ops.select import named
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage
from scalesearch.study.sections import DataSection, RuntimeSection
from scalesearch.study.training import TrainingSection
from scalesearch.training.compile import Program, compile_program, compiles_quickly
from scalesearch.training.draws import EpochDraws
from scalesearch.training.epochs import TrainingDiverged
from scalesearch.training.loop import EpochReport, TrainingResult, train
from scalesearch.training.prefetch import Prefetcher
from scalesearch.training.prepare import Compiler, prepare_training

SPEC = ArchitectureSpec(
    10,
    1,
    10,
    StemSpec(12, 3, 2),
    (make_stage("separable", kernel_size=3, stride=1, expand_ratio=1, width=24, depth=1),),
    0,
    "relu",
)
OTHER = SPEC.with_sizes((2,), (8, 16, 0), 8)
TRAINING = TrainingSection(
    epochs=5,
    batch_size=32,
    optimizer="sgd",
    learning_rate=0.2,
    warmup_epochs=0.5,
    label_smoothing=0.05,
    ema_decay=0.8,
    dropout=0.1,
    shift=0.05,
    flip=False,
)
APART, TOGETHER = RuntimeSection(seeds_together=False), RuntimeSection(seeds_together=True)


def ignore(report: EpochReport) -> None:
    del report


def run(
    splits: Splits,
    seeds: tuple[int, ...] = (0, 1),
    runtime: RuntimeSection = APART,
    on_epoch: Callable[[EpochReport], None] = ignore,
    spec: ArchitectureSpec = SPEC,
    **changes: Any,
) -> TrainingResult:
    return train(spec, splits, TRAINING.model_copy(update=changes), runtime, seeds, on_epoch)


def curves(result: TrainingResult) -> list[Any]:
    return [(seed.seed, seed.train_loss, seed.val_loss_curve, seed.val_accuracy_curve) for seed in result.seeds]


@contextmanager
def counted_compilations() -> Iterator[list[str]]:
    compiled: list[str] = []

    def listen(event: str, duration: float, **details: Any) -> None:
        del duration, details
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_splits(DataSection(source="mnist-sample", train=800, validation=250, test=50))


@pytest.fixture(scope="module")
def reports() -> list[EpochReport]:
    return []


@pytest.fixture(scope="module")
def result(splits: Splits, reports: list[EpochReport]) -> TrainingResult:
    return run(splits, on_epoch=reports.append)


def test_it_learns(result: TrainingResult) -> None:
    for seed in result.seeds:
        assert seed.val_accuracy > 0.45  # chance is 0.1, with a standard deviation of 0.02 on 250 images
        assert seed.val_loss < seed.val_loss_curve[0]
        assert seed.train_loss[-1] < seed.train_loss[0]
    assert result.seeds[0].val_loss != result.seeds[1].val_loss


def test_reports_are_the_records(result: TrainingResult, reports: list[EpochReport]) -> None:
    assert [(report.seeds, report.epoch, report.epochs) for report in reports] == [
        ((seed,), epoch, 5) for seed in (0, 1) for epoch in range(1, 6)
    ]
    for seed in result.seeds:
        mine = [report for report in reports if report.seeds == (seed.seed,)]
        assert tuple(report.train_loss for report in mine) == seed.train_loss
        assert tuple(report.val_loss for report in mine) == seed.val_loss_curve
        assert tuple(report.val_accuracy for report in mine) == seed.val_accuracy_curve
    seconds = sum(seed.train_seconds for seed in result.seeds)
    assert result.images_per_second == pytest.approx(2 * 5 * 25 * 32 / seconds)


@pytest.mark.parametrize("runtime", [APART, TOGETHER])
def test_stopped_it_keeps_what_it_has_of_the_whole_schedule(splits: Splits, runtime: RuntimeSection) -> None:
    seen: list[EpochReport] = []

    def third(report: EpochReport) -> bool:
        seen.append(report)
        return len(seen) == 3

    stopped = run(splits, runtime=runtime, on_epoch=third)
    whole = run(splits, runtime=runtime)
    assert (stopped.stopped, whole.stopped) == (True, False)
    assert [seed.seed for seed in stopped.seeds] == ([0] if runtime is APART else [0, 1])
    for begun, complete in zip(stopped.seeds, whole.seeds, strict=False):
        assert begun.train_loss == complete.train_loss[:3]
        assert begun.val_loss_curve == complete.val_loss_curve[:3]
    seconds = sum(seed.train_seconds for seed in stopped.seeds)
    assert stopped.images_per_second == pytest.approx(3 * len(stopped.seeds) * 25 * 32 / seconds)


def test_same_seed_same_result_bit_for_bit_whatever_ran_before_and_whatever_the_test_split_holds(
    splits: Splits, result: TrainingResult
) -> None:
    class Poison:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"the test split was read: {name}")

    poisoned = dataclasses.replace(splits, test=Poison())  # type: ignore[arg-type]
    assert curves(run(poisoned, seeds=(1,))) == curves(result)[1:]


def test_further_seeds_and_epochs_compile_nothing(splits: Splits, result: TrainingResult) -> None:
    del result  # whatever a process compiles only once is compiled by now
    with counted_compilations() as one:
        run(splits, seeds=(0,), epochs=2)
    with counted_compilations() as three:
        run(splits, seeds=(5, 6, 7), epochs=3)
    assert len(one) == len(three) > 0


def test_seeds_side_by_side_agree_with_one_after_the_other(splits: Splits) -> None:
    calm = {"learning_rate": 0.02, "epochs": 2}
    reports: list[EpochReport] = []
    together = run(splits, runtime=TOGETHER, on_epoch=reports.append, **calm)
    apart = run(splits, **calm)
    assert [report.seeds for report in reports] == [(0, 1)] * 2
    for one, other in zip(together.seeds, apart.seeds, strict=True):
        assert one.seed == other.seed
        # the same draws and formulas, summed in another order: 1e-7 a step, which 50 steps amplify
        # (at ten times this rate, where training is chaotic, to a few per cent)
        np.testing.assert_allclose(one.train_loss, other.train_loss, rtol=1e-4)
        np.testing.assert_allclose(one.val_loss_curve, other.val_loss_curve, rtol=1e-3)
    assert together.seeds[0].val_loss != pytest.approx(together.seeds[1].val_loss, rel=1e-3)
    assert reports[-1].val_loss == pytest.approx(np.mean([seed.val_loss for seed in together.seeds]))


def recording(seen: list[EpochDraws]) -> Compiler:
    """A compiler whose programs add the draws of each epoch to `seen`."""

    def compiler(*arguments: Any) -> Program:
        program = compile_program(*arguments)

        def epoch(state: Any, data: Any, draws: EpochDraws, schedule: Any) -> Any:
            seen.append(draws)
            return program.epoch(state, data, draws, schedule)

        return dataclasses.replace(program, epoch=epoch)

    return compiler


def test_candidates_of_other_sizes_see_the_same_draws(splits: Splits) -> None:
    training = TRAINING.model_copy(update={"epochs": 2, "crop": 0.5, "color_jitter": 0.4, "mixup": 0.4})
    seen: dict[ArchitectureSpec, list[EpochDraws]] = {SPEC: [], OTHER: []}
    for spec, draws in seen.items():
        train(spec, splits, training, APART, (3,), ignore, compiler=recording(draws))
    assert len(seen[SPEC]) == len(seen[OTHER]) == 2
    for one, two in zip(*seen.values(), strict=True):
        assert len(jax.tree.leaves(one)) == 7
        for first, second in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("runtime", [APART, TOGETHER])
def test_divergence_says_where(splits: Splits, runtime: RuntimeSection) -> None:
    reports: list[EpochReport] = []
    # normalised networks under SGD survive even this rate with finite, if enormous, losses
    changes = {"optimizer": "adamw", "learning_rate": 1e6, "weight_decay": 0.01}
    with pytest.raises(TrainingDiverged, match=r"in epoch 1 of seed [45] .*rate peaks at 1e\+06") as caught:
        run(splits, seeds=(4, 5), runtime=runtime, on_epoch=reports.append, **changes)
    assert not reports
    assert (caught.value.epoch, caught.value.learning_rate) == (1, 1e6)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_network_and_data_must_fit(splits: Splits) -> None:
    with pytest.raises(ValueError, match="`in_channels` must be that of the data mnist-sample, 1, but got 3"):
        run(splits, spec=dataclasses.replace(SPEC, in_channels=3))
    for classes in (9, 11):
        with pytest.raises(ValueError, match=f"`num_classes` must be .* 10, but got {classes}"):
            run(splits, spec=dataclasses.replace(SPEC, num_classes=classes))
    with pytest.raises(ValueError, match="`seeds` must be whole numbers"):
        run(splits, seeds=(0, -1))
    with pytest.raises(ValueError, match="batch_size` must be at most"):
        run(splits, batch_size=801)


def test_a_users_settings_of_jax_change_nothing(splits: Splits) -> None:
    expected = run(splits)
    with jax.enable_x64(True), jax.threefry_partitionable(False):
        result = run(splits)
    assert [seed.val_loss_curve for seed in result.seeds] == [seed.val_loss_curve for seed in expected.seeds]


def test_an_interrupt_passes_through(splits: Splits) -> None:
    def interrupt(report: EpochReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(splits, on_epoch=interrupt)


def test_resolution_above_the_native_one_warns(splits: Splits) -> None:
    def small(split: Split) -> Split:
        return Split(split.images[:, ::4, ::4], split.labels)

    shrunk = dataclasses.replace(
        splits, train=small(splits.train), validation=small(splits.validation), native_resolution=7
    )
    with pytest.warns(UserWarning, match="native resolution of 7 px"):
        run(shrunk, seeds=(0,), epochs=1, warmup_epochs=0.0)


class Pending:
    """A scalar that the device has ready when the host asks for the second time."""

    def __init__(self, value: float, events: list[str]) -> None:
        self.value, self.events, self.asked = value, events, False

    def is_ready(self) -> bool:
        if not self.asked and self.events[-1] != "wait":
            self.events.append("wait")
        ready, self.asked = self.asked, True
        return ready

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return np.array(self.value)


def test_an_epoch_is_one_call_and_the_host_waits_once_for_it(splits: Splits) -> None:
    """All steps of an epoch are one program, and evaluation is queued behind it before the host waits."""
    events: list[str] = []
    training = TRAINING.model_copy(update={"epochs": 3})
    prepared = prepare_training(SPEC, splits, training, APART, (0,))

    def epoch(state: Any, data: Any, draws: EpochDraws, schedule: Any) -> Any:
        events.append(f"{len(draws.order)} steps")
        return state, Pending(1.0, events)

    def evaluate(state: Any, data: Any) -> Any:
        events.append("evaluate")
        return Pending(1.0, events), Pending(0.5, events)

    program = dataclasses.replace(prepared.program, epoch=epoch, evaluate=evaluate)
    train(SPEC, splits, training, APART, (0,), ignore, dataclasses.replace(prepared, program=program))
    assert events == [f"{800 // 32} steps", "evaluate", "wait"] * 3


def test_a_prefetched_network_trains_to_the_same_losses(splits: Splits) -> None:
    training = TRAINING.model_copy(update={"epochs": 2})
    prefetcher = Prefetcher(splits, training, APART)
    prefetcher.expect(SPEC, (3,))
    prefetcher.expect(OTHER, (3,))
    prepared = prefetcher.take(SPEC, (3,))
    assert prepared is not None
    assert prepared.seconds > 0
    assert prefetcher.take(SPEC, (3,)) is None
    assert prefetcher.take(OTHER, (4,)) is None
    result = train(SPEC, splits, training, APART, (3,), ignore, prepared)
    assert result.compile_seconds == prepared.seconds
    assert curves(result) == curves(run(splits, seeds=(3,), epochs=2))
    prefetcher.expect(SPEC.with_sizes((2,), (8, 16, 0), 9), (3,))  # OTHER, the first of three, is forgotten
    prefetcher.expect(SPEC, (3,))
    assert prefetcher.take(OTHER, (3,)) is None


def test_an_error_of_prefetching_is_raised_where_the_network_is_taken(splits: Splits) -> None:
    prefetcher = Prefetcher(splits, TRAINING, APART)
    prefetcher.expect(dataclasses.replace(SPEC, num_classes=7), (0,))
    with pytest.raises(InputError, match="num_classes"):
        prefetcher.take(dataclasses.replace(SPEC, num_classes=7), (0,))


@pytest.mark.parametrize(("cores", "auto"), [(2, False), (4, True)])
def test_prefetching_is_off_on_few_cores(cores: int, auto: bool) -> None:
    assert Prefetcher.is_enabled("auto", cores) is auto
    assert Prefetcher.is_enabled(False, cores) is False
    assert Prefetcher.is_enabled(True, cores) is True


@pytest.mark.parametrize(
    ("name", "updates", "epoch", "evaluate"),
    [("kernels", 1e6, True, True), ("kernels", 1e8, False, True), ("shift", 1e6, False, False)],
)
def test_short_trainings_by_kernels_are_compiled_quickly(
    name: Any, updates: float, epoch: bool, evaluate: bool
) -> None:
    assert compiles_quickly(named(name), updates) == (epoch, evaluate)


def test_quickly_compiled_programs_compute_the_same(splits: Splits) -> None:
    training = TRAINING.model_copy(update={"epochs": 1})
    quick, thorough = (
        train(SPEC, splits, training, APART, (0,), ignore, compiler=partial(compile_program, quick=(each, each))).seeds
        for each in (True, False)
    )
    np.testing.assert_allclose(quick[0].train_loss, thorough[0].train_loss, rtol=1e-5)
    np.testing.assert_allclose(quick[0].val_loss, thorough[0].val_loss, rtol=1e-5)
