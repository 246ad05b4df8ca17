"""The state of a training by name: what a checkpoint holds, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from scalesearch.errors import InputError
from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.own import build_network
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage
from scalesearch.study.training import TrainingSection
from scalesearch.trained.names import StateNames
from scalesearch.training.draws import init_generator
from scalesearch.training.optimizer import build_optimizer
from scalesearch.training.state import TrainState, weights_of

SPEC = ArchitectureSpec(
    8,
    1,
    3,
    StemSpec(4, 3, 2),
    (make_stage("mbconv", kernel_size=3, stride=1, expand_ratio=2, width=4, depth=3, se_ratio=0.25),),
    8,
)


def state_of(spec: ArchitectureSpec, **training: Any) -> TrainState:
    """A state in which every number is another."""
    section = TrainingSection(epochs=2, batch_size=4, learning_rate=0.1, **training)
    network = build_network(spec, operations=NativeOperations(), dropout=0.0, rng=init_generator(0))
    weights = jax.tree.map(jnp.asarray, weights_of(network))
    average = weights if section.ema_decay else None
    state = TrainState(jnp.int32(0), weights, build_optimizer(section).init(weights.params), average)
    leaves, structure = jax.tree.flatten(state)
    return jax.tree.unflatten(
        structure,
        [jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape) + place for place, leaf in enumerate(leaves)],
    )


@pytest.mark.parametrize(
    ("training", "prefixes"),
    [
        ({}, {"step", "weights", "optimizer.0.count", "optimizer.0.mu", "optimizer.0.nu"}),
        ({"optimizer": "sgd", "ema_decay": 0.9}, {"step", "weights", "average", "optimizer.0.trace"}),
        ({"optimizer": "rmsprop", "weight_decay": 0.1}, {"step", "weights", "optimizer.1.nu", "optimizer.3.trace"}),
    ],
)
def test_a_state_comes_back_from_its_names(training: dict[str, Any], prefixes: set[str]) -> None:
    state, names = state_of(SPEC, **training), StateNames(SPEC)
    named = names.named(state)
    block = ".stages.0.2.expand.kernel"
    assert {name.removesuffix(block) for name in named if name.endswith(block) or "stages" not in name} >= prefixes
    assert named[f"weights{block}"].shape == (1, 1, 4, 8)
    restored = names.state(named, jax.tree.map(jnp.zeros_like, state), "here")
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(before, after)
        assert after.dtype == before.dtype


def test_what_is_not_of_the_training_is_refused() -> None:
    state, names = state_of(SPEC), StateNames(SPEC)
    named = names.named(state)
    other = StateNames(other_spec := dataclasses.replace(SPEC, num_classes=5)).named(state_of(other_spec))
    broken = {**named, "weights.head.kernel": named["weights.head.kernel"] * np.nan}
    without = {name: array for name, array in named.items() if name != "optimizer.0.mu.stem.kernel"}
    for arrays, message in (
        (other, r"^here: optimizer\.0\.mu: `classifier.bias` must have shape \(3,\), but has \(5,\)|classifier"),
        (broken, r"^here: weights: `head.kernel` holds numbers that are not finite"),
        (without, r"^here: optimizer.0.mu: lacks `stem.kernel`"),
        ({**named, "average.stem.kernel": named["step"]}, "^here: holds what the training does not have: `average"),
        ({**named, "step": np.zeros(2)}, r"^here: `step` must be there and have shape \(\)"),
    ):
        with pytest.raises(InputError, match=message):
            names.state(arrays, state, "here")
