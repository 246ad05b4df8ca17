"""A step and an evaluation against their formulas."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scalesearch.data.feed import EpochData, prepare, standardise
from scalesearch.data.sources import Split
from scalesearch.models.network import Network
from scalesearch.models.ops.native import NativeOperations
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage
from scalesearch.study.training import TrainingSection
from scalesearch.training.compile import init_function
from scalesearch.training.packing import Packed
from scalesearch.training.state import Layout, TrainState, Weights, evaluated_weights, layout_of, weights_of
from scalesearch.training.step import evaluate, train_step

RNG = np.random.default_rng(3)
SPEC = ArchitectureSpec(
    6,
    1,
    3,
    StemSpec(4, 3, 1),
    (make_stage("basic", kernel_size=3, stride=2, expand_ratio=1, width=4, depth=1),),
    0,
    "relu",
)
STEPS = 3
STATISTICS_DECAY = 0.6


def split(count: int) -> Split:
    return Split(RNG.integers(0, 256, (count, 6, 6, 1)).astype(np.uint8), RNG.integers(0, 3, count).astype(np.int32))


class Trained:
    """A network after a few steps with a moving average, and the trail of each step."""

    def __init__(self, ema_decay: float) -> None:
        training = TrainingSection(
            epochs=2,
            batch_size=8,
            learning_rate=1,
            optimizer="sgd",
            momentum=0.0,
            ema_decay=ema_decay,
            statistics_decay=STATISTICS_DECAY,
        )
        self.train, self.validation = split(8), split(11)
        network = Network(SPEC, operations=NativeOperations(), dropout=0.0, rng=RNG)
        self.layout: Layout = layout_of(network)
        init, _, _ = init_function(SPEC, training, weights_of(network))
        self.state: TrainState = init(np.uint32(0))
        self.data: EpochData = prepare(self.train, self.validation, 6, 4)
        images = standardise(self.data.images.astype(jnp.float32), self.data.mean, self.data.std)
        step = jax.jit(partial(train_step, training=training, layout=self.layout))
        self.trail = [self.state]
        for _ in range(STEPS):
            self.state, _ = step(self.state, images, self.data.labels, None, jnp.float32(0.05))
            self.trail.append(self.state)
        self.images = images


@pytest.fixture(scope="module")
def averaged() -> Trained:
    return Trained(0.8)


def assert_packed(packed: Packed, expected: Packed) -> None:
    for one, other in zip(packed, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # float32


def test_a_step_goes_down_the_gradient_of_the_mean_loss(averaged: Trained) -> None:
    before, after = averaged.trail[0], averaged.trail[1]
    stats = averaged.layout.stats.unpack(before.weights.stats)

    def loss(params: Packed) -> jax.Array:
        network = nnx.merge(averaged.layout.graphdef, averaged.layout.params.unpack(params), stats)
        logits = network(averaged.images, train=True)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), averaged.data.labels[:, None], 1).mean()

    gradient = jax.jit(jax.grad(loss))(before.weights.params)
    expected = jax.tree.map(lambda p, g: p - 0.05 * g, before.weights.params, gradient)
    assert_packed(after.weights.params, expected)


def batch_statistics(trained: Trained, state: TrainState) -> np.ndarray:
    network = nnx.merge(
        trained.layout.graphdef,
        trained.layout.params.unpack(state.weights.params),
        trained.layout.stats.unpack(state.weights.stats),
    )
    network(trained.images, train=True)
    return np.asarray(trained.layout.stats.pack(nnx.state(network, nnx.BatchStat)).vectors, np.float64)


def test_statistics_do_not_remember_their_start(averaged: Trained) -> None:
    """After one step they are the batch's; later ones weigh batches by STATISTICS_DECAY."""
    batches = [batch_statistics(averaged, state) for state in averaged.trail[:-1]]
    weights = STATISTICS_DECAY ** np.arange(STEPS)[::-1]
    expected = weights @ np.stack(batches) / weights.sum()
    np.testing.assert_allclose(averaged.state.weights.stats.vectors, expected, rtol=1e-4, atol=1e-6)  # float32
    network = nnx.merge(
        averaged.layout.graphdef,
        averaged.layout.params.unpack(averaged.trail[0].weights.params),
        averaged.layout.stats.unpack(averaged.trail[0].weights.stats),
    )
    stem = network.stem
    maps = np.asarray(
        jax.lax.conv(averaged.images.transpose(0, 3, 1, 2), stem.kernel[...].transpose(3, 2, 0, 1), (1, 1), "SAME")
    )
    first = averaged.layout.stats.unpack(averaged.trail[1].weights.stats)
    np.testing.assert_allclose(first["stem"]["norm"]["mean"][...], maps.mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(first["stem"]["norm"]["var"][...], maps.var((0, 2, 3)), rtol=1e-3, atol=1e-5)


def test_average_holds_parameters_and_statistics(averaged: Trained) -> None:
    weights = 0.8 ** np.arange(STEPS)[::-1]
    weights /= weights.sum()
    states = averaged.trail[1:]
    params = [state.weights.params for state in states]
    stats = [state.weights.stats for state in states]
    expected_params = Packed(*(weights @ np.stack(parts) for parts in zip(*params, strict=True)))
    expected_stats = Packed(*(weights @ np.stack(parts) for parts in zip(*stats, strict=True)))
    judged = evaluated_weights(averaged.state)
    assert_packed(judged.params, expected_params)
    assert_packed(judged.stats, expected_stats)


def test_without_an_average_the_raw_weights_are_judged() -> None:
    raw = Trained(0.0)
    judged = evaluated_weights(raw.state)
    assert raw.state.average is None
    assert_packed(judged.params, raw.state.weights.params)
    assert_packed(judged.stats, raw.state.weights.stats)


def test_validation_equals_a_plain_loop_over_images(averaged: Trained) -> None:
    """11 images in batches of 4: the padded twelfth must count nowhere, whatever it holds."""
    judged = evaluated_weights(averaged.state)
    network = nnx.merge(
        averaged.layout.graphdef,
        averaged.layout.params.unpack(judged.params),
        averaged.layout.stats.unpack(judged.stats),
    )
    mean, std = averaged.train.images.mean(), averaged.train.images.std()
    losses, right = [], 0
    for image, label in zip(averaged.validation.images, averaged.validation.labels, strict=True):
        pixels = jnp.asarray((image - mean) / std, jnp.float32)[None]
        logits = np.asarray(network(pixels, train=False)[0], np.float64)
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
        right += int(logits.argmax() == label)
    judge = jax.jit(partial(evaluate, layout=averaged.layout))
    loss, accuracy = judge(averaged.state, averaged.data)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)  # float32
    assert float(accuracy) == np.float32(right) / np.float32(11)
    data = averaged.data
    poisoned = EpochData(
        data.images, data.labels, data.val_images.at[-1, -1].set(255), data.val_labels, data.mean, data.std
    )
    assert float(judge(averaged.state, poisoned)[0]) == float(loss)


@pytest.mark.parametrize(("micro_batches", "other"), [(1, 2), (2, 1)])
def test_balanced_accuracy_is_the_mean_over_the_classes_that_validation_has(
    averaged: Trained, micro_batches: int, other: int
) -> None:
    judged, layout = evaluated_weights(averaged.state), averaged.layout
    params = layout.params.unpack(judged.params)
    bias = params["classifier"]["bias"]
    bias[...] = bias[...] + jnp.array([0, 0.7, 0])  # else all images are taken for class 0
    pixels = standardise(jnp.asarray(averaged.validation.images, jnp.float32), averaged.data.mean, averaged.data.std)
    network = layout.network(params, layout.stats.unpack(judged.stats))
    predicted = np.asarray(network(pixels, train=False).argmax(1))
    assert set(predicted.tolist()) == {0, 1}
    # Two images of class 0, one of them right; nine of another class: some right (1) or none (2). One class has none.
    labels = np.full(11, other, np.int32)
    labels[[predicted.argmin(), predicted.argmax()]] = 0
    data = prepare(averaged.train, Split(averaged.validation.images, labels), 6, 4, balanced=True)
    state = dataclasses.replace(averaged.state, weights=Weights(layout.params.pack(params), judged.stats), average=None)
    _, accuracy, balanced = jax.jit(partial(evaluate, layout=layout, micro_batches=micro_batches))(state, data)
    assert float(accuracy) == np.float32((predicted == labels).mean())
    assert float(balanced) == pytest.approx((0.5 + (predicted[labels == other] == other).mean()) / 2, abs=1e-6)
