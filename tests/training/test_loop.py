"""Whole trainings of a small network on real digits."""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from scalesearch.data.splits import Split, Splits, load_splits
from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage
from scalesearch.study.sections import DataSection, RuntimeSection, TrainingSection
from scalesearch.training import compile as program
from scalesearch.training import loop
from scalesearch.training.draws import EpochDraws, draws_of_epoch
from scalesearch.training.loop import EpochReport, TrainingDiverged, TrainingResult, _fetch, train
from scalesearch.training.prepare import Ahead, prepare_training

SPEC = ArchitectureSpec(
    10,
    1,
    10,
    StemSpec(12, 3, 2),
    (make_stage("separable", kernel_size=3, stride=1, expand_ratio=1, width=24, depth=1),),
    0,
    "relu",
)
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
    for mine, its in zip(stopped.seeds, whole.seeds, strict=False):
        assert mine.train_loss == its.train_loss[:3]
        assert mine.val_loss_curve == its.val_loss_curve[:3]
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


def test_further_seeds_and_epochs_compile_nothing(
    splits: Splits, result: TrainingResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del result  # whatever a process compiles once is compiled by now
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "one"))
    with counted_compilations() as one:
        run(splits, seeds=(0,), epochs=2)
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "three"))
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


def test_candidates_of_other_sizes_see_the_same_draws(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[EpochDraws] = []
    compile_program = program.compile_program

    def spy(*arguments: Any) -> program.Program:
        compiled = compile_program(*arguments)

        def epoch(state: Any, data: Any, draws: EpochDraws, schedule: Any) -> Any:
            seen.append(draws)
            return compiled.epoch(state, data, draws, schedule)

        return dataclasses.replace(compiled, epoch=epoch)

    monkeypatch.setattr("scalesearch.training.prepare.compile_program", spy)
    other = SPEC.with_sizes((2,), (8, 16, 0), 8)
    for spec in (SPEC, other):
        run(splits, seeds=(3,), spec=spec, epochs=2, warmup_epochs=0.5)
    first, second = seen[:2], seen[2:]
    assert len(first) == len(second) == 2
    for one, two in zip(first, second, strict=True):
        for name in ("order", "offsets", "mirrored"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


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
        found = run(splits)
    assert [seed.val_loss_curve for seed in found.seeds] == [seed.val_loss_curve for seed in expected.seeds]


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


def test_the_host_waits_once_an_epoch_and_the_device_never_for_the_host(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def fetch(*values: jax.Array) -> tuple[np.ndarray, ...]:
        events.append(f"wait for {len(values)} scalars")
        assert all(value.shape == () for value in values)
        return _fetch(*values)

    def draw(seeds: Any, epoch: int, **sizes: int) -> EpochDraws:
        events.append(f"draw {epoch}")
        return draws_of_epoch(seeds, epoch, **sizes)

    training = TRAINING.model_copy(update={"epochs": 3})
    prepared = prepare_training(SPEC, splits, training, APART, (0,))
    monkeypatch.setattr(loop, "_fetch", fetch)
    monkeypatch.setattr(loop, "draws_of_epoch", draw)
    train(SPEC, splits, training, APART, (0,), ignore, prepared)
    wait = "wait for 3 scalars"
    assert events == ["draw 0", "draw 1", wait, "draw 2", wait, wait]
    epoch: Any = prepared.program.epoch
    text = epoch.as_text()
    assert f'"known_trip_count":{{"n":"{800 // 32}"}}' in text  # all steps are in one program
    assert not re.findall(r"infeed|outfeed|\bsend\(|\brecv\(|callback", text)


def test_a_network_prepared_ahead_trains_to_the_same_losses(splits: Splits) -> None:
    training = TRAINING.model_copy(update={"epochs": 2})
    ahead = Ahead(splits, training, APART)
    other = SPEC.with_sizes((2,), (8, 16, 0), 8)
    ahead.expect(SPEC, (3,))
    ahead.expect(other, (3,))
    prepared = ahead.take(SPEC, (3,))
    assert prepared is not None
    assert prepared.seconds > 0
    assert ahead.take(SPEC, (3,)) is None
    assert ahead.take(other, (4,)) is None
    result = train(SPEC, splits, training, APART, (3,), ignore, prepared)
    assert result.compile_seconds == prepared.seconds
    assert curves(result) == curves(run(splits, seeds=(3,), epochs=2))
    ahead.expect(SPEC.with_sizes((2,), (8, 16, 0), 9), (3,))  # the first of three is forgotten
    ahead.expect(SPEC, (3,))
    assert ahead.take(other, (3,)) is None


def test_an_error_ahead_is_told_where_the_network_is_taken(splits: Splits) -> None:
    ahead = Ahead(splits, TRAINING, APART)
    ahead.expect(dataclasses.replace(SPEC, num_classes=7), (0,))
    with pytest.raises(InputError, match="num_classes"):
        ahead.take(dataclasses.replace(SPEC, num_classes=7), (0,))


def test_preparing_ahead_is_off_on_few_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((2, False), (4, True)):
        monkeypatch.setattr("scalesearch.training.prepare.usable_cores", lambda cores=cores: list(range(cores)))
        assert Ahead.pays("auto") is expected
        assert Ahead.pays(False) is False
        assert Ahead.pays(True) is True


@pytest.mark.parametrize(
    ("convolutions", "most", "epoch", "evaluate"),
    [("kernels", 1e9, True, True), ("kernels", 1e3, False, True), ("shift", 1e9, False, False)],
)
def test_short_trainings_by_kernels_are_compiled_to_be_ready_soon(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, convolutions: Any, most: float, epoch: bool, evaluate: bool
) -> None:
    brief: dict[str, bool] = {}
    obtain = program.obtain

    def noted(determinants: tuple[Any, ...], *arguments: Any, **options: Any) -> Any:
        if "'label_smoothing': 0.25" in repr(determinants):  # not what a test before still prepares ahead
            brief[determinants[0]] = options["brief"]
        return obtain(determinants, *arguments, **options)

    monkeypatch.setattr(program, "obtain", noted)
    monkeypatch.setattr(program, "BRIEF", most)
    runtime = RuntimeSection(seeds_together=False, convolutions=convolutions)
    found = run(splits, seeds=(0,), runtime=runtime, epochs=1, label_smoothing=0.25)
    assert brief == {"init": True, "epoch": epoch, "evaluate": evaluate}
    monkeypatch.setattr(
        program, "obtain", lambda *arguments, **options: obtain(*arguments, **{**options, "brief": False})
    )
    (one,), (other,) = found.seeds, run(splits, seeds=(0,), runtime=runtime, epochs=1, label_smoothing=0.25).seeds
    np.testing.assert_allclose(one.train_loss, other.train_loss, rtol=1e-5)
    np.testing.assert_allclose(one.val_loss, other.val_loss, rtol=1e-5)
