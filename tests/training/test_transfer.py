"""What trains in a transfer: rates by part of the network, a frozen body, and what networks refuse both."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalesearch.errors import InputError
from scalesearch.models.names import named_arrays
from scalesearch.models.network import Network
from scalesearch.models.ops.select import named
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage
from scalesearch.study.training import TrainSection
from scalesearch.training.compile import init_function
from scalesearch.training.state import Layout, TrainState, Weights, layout_of, weights_of
from scalesearch.training.step import train_step
from scalesearch.training.transfer import check_transfer, rate_factors

STAGES = tuple(
    make_stage("mbconv", kernel_size=3, stride=stride, expand_ratio=2, width=4, depth=depth)
    for stride, depth in ((1, 1), (2, 2))
)
SPEC = ArchitectureSpec(6, 1, 3, StemSpec(4, 3, 1), STAGES, 6, "relu")
DISTANCES = {"classifier": 0, "head": 1, "stages.1": 2, "stages.0": 3, "stem": 4}
RNG = np.random.default_rng(0)
IMAGES, LABELS = jnp.asarray(RNG.normal(size=(8, 6, 6, 1)), jnp.float32), jnp.asarray(RNG.integers(0, 3, 8), jnp.int32)


class Steps:
    """The weights by name before some steps and after each of them, in the moving average too."""

    def __init__(self, spec: ArchitectureSpec, count: int = 1, **changes: Any) -> None:
        training = TrainSection(
            **{"epochs": 2, "batch_size": 8, "learning_rate": 1, "weight_decay": 0.1, "ema_decay": 0.9} | changes
        )
        depth, dropout = training.stochastic_depth, training.dropout
        network = Network(
            spec, operations=named("kernels"), dropout=dropout, rng=np.random.default_rng(0), stochastic_depth=depth
        )
        self.layout: Layout = layout_of(network)
        weights = weights_of(network)
        init, _, _ = init_function(spec, training, weights)
        began: TrainState = init(np.array(0, np.uint32))
        self.loaded = weights._replace(stats=jax.tree.map(lambda each: each + 0.25, weights.stats))
        state = dataclasses.replace(began, weights=jax.tree.map(jnp.asarray, self.loaded))
        step = jax.jit(partial(train_step, training=training, layout=self.layout))
        self.before, self.trail = self.named(state.weights), []
        for place in range(count):
            key = jax.random.key(place) if depth or dropout else None
            state, self.loss = step(state, IMAGES, LABELS, key, jnp.float32(0.01))
            assert state.average is not None
            self.trail.append((self.named(state.weights), self.named(state.average)))

    def named(self, weights: Weights) -> dict[str, np.ndarray]:
        parts = zip((self.layout.params, self.layout.stats), weights, strict=True)
        return {name: array for packing, part in parts for name, array in named_arrays(packing.unpack(part)).items()}


def is_statistic(name: str) -> bool:
    return name.endswith((".mean", ".var"))


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_each_part_steps_by_its_own_rate(optimizer: Any) -> None:
    plain, scaled = (Steps(SPEC, optimizer=optimizer, layer_rate=rate) for rate in (1.0, 0.5))
    assert plain.loss == scaled.loss
    moved = set()
    for name, start in plain.before.items():
        after, other = plain.trail[0][0][name], scaled.trail[0][0][name]
        if is_statistic(name):
            np.testing.assert_array_equal(other, after)
            continue
        (part,) = (part for part in DISTANCES if name.startswith(f"{part}."))
        whole = after - start
        np.testing.assert_allclose(other - start, 0.5 ** DISTANCES[part] * whole, rtol=1e-4, atol=2e-7, err_msg=name)
        if np.abs(whole).max() > 1e-3:
            moved.add(part)
    assert moved == set(DISTANCES)


def test_a_network_without_a_head_has_no_distance_for_one() -> None:
    training = TrainSection(epochs=2, batch_size=8, learning_rate=1, layer_rate=0.5)
    for width, farthest in ((6, 4), (0, 3)):
        spec = dataclasses.replace(SPEC, head_width=width)
        network = Network(spec, operations=named("native"), dropout=0.0, rng=np.random.default_rng(0))
        factors = rate_factors(training, layout_of(network).params)
        assert factors is not None
        assert set(factors) == {0.5**distance for distance in range(farthest + 1)}


def test_a_frozen_body_stays_as_it_was_bit_for_bit() -> None:
    """By operations whose evaluation has no gradient; not even weight decay or dropped branches change the body."""
    steps = Steps(SPEC, count=3, frozen=True, dropout=0.1, stochastic_depth=0.5)
    features = {name: value for name, value in steps.before.items() if not name.startswith("classifier.")}
    for weights, average in steps.trail:
        for name, value in features.items():
            assert weights[name].tobytes() == value.tobytes(), name
            assert average[name].tobytes() == value.tobytes(), name
    for name in ("classifier.kernel", "classifier.bias"):
        assert np.abs(steps.trail[-1][0][name] - steps.before[name]).min() > 0
        assert (steps.trail[-1][0][name] != steps.trail[-1][1][name]).any()


def test_a_frozen_body_s_loss_and_step_are_those_of_a_linear_classifier() -> None:
    steps = Steps(SPEC, frozen=True, optimizer="sgd", momentum=0.0, weight_decay=0.0)
    params, stats = (
        packing.unpack(part)
        for packing, part in zip((steps.layout.params, steps.layout.stats), steps.loaded, strict=True)
    )
    logits = np.asarray(steps.layout.network(params, stats)(IMAGES, train=False), np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(steps.loss, -np.log(probabilities[np.arange(8), LABELS]).mean(), rtol=1e-4)
    slope = (probabilities - np.eye(3)[np.asarray(LABELS)]).mean(0)
    bias = steps.before["classifier.bias"] - 0.01 * slope
    np.testing.assert_allclose(steps.trail[0][0]["classifier.bias"], bias, rtol=1e-3, atol=1e-6)  # float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frozen": True}, "`train.frozen` must be false for a network that nets:Net builds, .* but got true"),
        ({"layer_rate": 0.5}, "`train.layer_rate` must be 1 for a network that nets:Net builds, .* but got 0.5"),
    ],
)
def test_networks_whose_parts_are_not_known_are_refused(changes: dict[str, Any], message: str) -> None:
    training = TrainSection(epochs=2, batch_size=8, learning_rate=1, **changes)
    check_transfer(SPEC, training)
    with pytest.raises(InputError, match=message):
        check_transfer(dataclasses.replace(SPEC, module="nets:Net"), training)
