"""A stream of chunks gives what data on the device give, bit for bit, whatever the chunks."""

from __future__ import annotations

import dataclasses
import threading
import time
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from scalesearch.data.cache import ImageCache
from scalesearch.data.feed import EpochData, prepare
from scalesearch.data.images import Split
from scalesearch.data.splits import Splits
from scalesearch.data.stream import ImageStream
from scalesearch.models.ops.select import select
from scalesearch.runtime import interrupts
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage
from scalesearch.study.sections import RuntimeSection
from scalesearch.study.training import TrainingSection
from scalesearch.training.chunks import in_chunks
from scalesearch.training.compile import compile_program
from scalesearch.training.draws import draws_of_epoch
from scalesearch.training.epochs import Place, train_epochs
from scalesearch.training.loop import train
from scalesearch.training.parts import whole_epoch
from scalesearch.training.prepare import Prepared, prepare_training
from scalesearch.training.state import TrainState

SPEC = ArchitectureSpec(
    8, 3, 3, StemSpec(4, 3, 2), (make_stage("basic", kernel_size=3, stride=1, width=4, depth=2),), 0, "relu"
)
TRAINING = TrainingSection(
    epochs=2,
    batch_size=4,
    learning_rate=0.01,
    warmup_epochs=0.5,
    shift=0.1,
    flip=True,
    crop=0.4,
    rand_augment=1,
    mixup=0.4,
    cutmix=1.0,
    dropout=0.1,
    stochastic_depth=0.5,
    schedule="exponential",
    ema_decay=0.9,
)
SEED = np.array(0, np.uint32)
RUNTIME = RuntimeSection(seeds_together=False)
TOGETHER = RuntimeSection(seeds_together=True)


def some_split(count: int, side: int = 8) -> Split:
    random = np.random.default_rng(count)
    return Split(random.integers(0, 256, (count, side, side, 3)).astype(np.uint8), np.arange(count, dtype=np.int32) % 3)


SPLITS = Splits(some_split(45), some_split(14), some_split(0), 3, 8, 3, "random", "0" * 64, "0" * 64)


UNEVEN = dataclasses.replace(SPLITS, uneven=True)


def curves(prepared: Prepared, splits: Splits, runtime: RuntimeSection) -> list[tuple[tuple[float, ...], ...]]:
    result = train(SPEC, splits, TRAINING, runtime, (0, 1), lambda report: None, prepared)
    return [
        (seed.train_loss, seed.val_loss_curve, seed.val_accuracy_curve, seed.val_balanced_accuracy_curve)
        for seed in result.seeds
    ]


@pytest.fixture(
    scope="module",
    params=[(SPLITS, RUNTIME), (UNEVEN, TOGETHER)],
    ids=["one after another", "side by side, classes weighed"],
)
def in_memory(request: pytest.FixtureRequest) -> tuple[Prepared, Splits, RuntimeSection]:
    splits, runtime = request.param
    return prepare_training(SPEC, splits, TRAINING, runtime, (0, 1)), splits, runtime


def streamed(prepared: Prepared, stream: ImageStream) -> Prepared:
    operations = select("auto", "cpu", precision="float32", sharded=False)
    program = compile_program(SPEC, operations, TRAINING, stream, prepared.schedule, prepared.groups[0])
    return dataclasses.replace(prepared, data=stream, program=program)


def stream_of(splits: Splits, resolution: int = 8, cache: ImageCache | None = None) -> ImageStream:
    stream = prepare(
        splits.train,
        splits.validation,
        resolution,
        TRAINING.batch_size,
        balanced=splits.uneven,
        memory=8000,
        cache=cache,
    )
    assert isinstance(stream, ImageStream)
    return stream


def test_a_stream_and_parts_of_an_epoch_train_to_the_same_bits(
    in_memory: tuple[Prepared, Splits, RuntimeSection],
) -> None:
    prepared, splits, runtime = in_memory
    assert isinstance(prepared.data, EpochData)
    expected = curves(prepared, splits, runtime)
    assert [len(balanced) for *_, balanced in expected] == [2 * splits.uneven] * 2  # each epoch, or never
    stream = stream_of(splits).with_chunks_of(4 * 4 * 8 * 8 * 3)
    # eleven steps in chunks of four for one seed, of two for two seeds; four batches of validation in one
    assert stream.steps_per_chunk((11, 4)) == 4
    assert stream.steps_per_chunk((2, 11, 4)) == 2
    chunked = streamed(prepared, stream)
    assert curves(chunked, splits, runtime) == expected
    if runtime is RUNTIME:  # one seed alone trains in parts
        goes_on_within_an_epoch(chunked, expected[0])
        cut = prepare_training(SPEC, splits, TRAINING, runtime, (0,), compiler=partial(compile_program, parts=True))
        goes_on_within_an_epoch(cut, expected[0])


def goes_on_within_an_epoch(prepared: Prepared, expected: tuple[tuple[float, ...], ...]) -> None:
    """Seed 0, broken off in its second epoch and gone on with from there, has the curves of the whole training."""
    places: list[Place] = []

    def on_part(place: Place) -> None:
        if (place.epoch, place.step) == (1, 4):
            places.append(Place(1, jax.tree.map(np.array, place.state), 4, np.array(place.losses), place.mean))

    rows = [values[:, 0] for _, values in train_epochs(prepared, SEED, TRAINING, on_part=on_part, part_seconds=0)]
    assert [tuple(map(float, curve)) for curve in zip(*rows, strict=True)] == [each for each in expected if each]
    (start,) = places
    start = dataclasses.replace(start, state=jax.tree.map(jnp.array, start.state))
    ((end, values),) = train_epochs(prepared, SEED, TRAINING, start, lambda place: None)
    assert end.epoch == 2
    np.testing.assert_array_equal(values[:, 0], rows[1])


def test_an_interrupt_ends_an_epoch_between_chunks_and_no_thread_goes_on() -> None:
    trained = []

    def epoch(state: TrainState, losses: Any, *rest: Any) -> tuple[TrainState, Any, Any]:
        trained.append(rest)
        if len(trained) == 2:
            interrupts.request()
        return state, losses, jnp.float32(0)

    parts, _ = in_chunks(epoch, epoch, None)
    stream = stream_of(SPLITS).with_chunks_of(1)
    draws = draws_of_epoch(np.uint32(0), 0, TRAINING, images=45)
    list(stream.train_chunks(draws.order[:1]))  # Grain starts what it keeps
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), interrupts.deferred(""):
        whole_epoch(parts)(None, stream, draws, None)
    assert len(trained) == 2
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
