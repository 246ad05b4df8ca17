"""Stochastic depth: what a block drops, how often each of a network's blocks does, and where it acts."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from scalesearch.models.blocks import block_of
from scalesearch.models.network import Network
from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.ops.select import named
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import kinds, make_stage

EXPANDING = {"mbconv", "bneck", "fused_mbconv", "convnext", "bottleneck"}
WITHOUT_SHORTCUT = {"mbconv", "bneck", "fused_mbconv"}
"""Where the shape changes."""


def block(kind: str, stride: int) -> Any:
    """A block without activations, so that the branch is what is added to the shortcut."""
    fields: dict[str, Any] = {"expand_ratio": 2 if kind in EXPANDING else 1}
    fields |= {"group_width": 2} if kind == "grouped_bottleneck" else {}
    stage = make_stage(kind, kernel_size=3, stride=stride, width=4, depth=1, **fields)
    rng: Any = np.random.default_rng(0)
    made: Any = block_of(kind)(stage, 4, stride, "none", operations=NativeOperations(), rng=rng)
    if kind == "convnext":
        made.layer_scale[...] = np.full(4, 100, np.float32)
    return made


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", sorted(kinds()))
def test_a_block_drops_its_branch_or_multiplies_it(kind: str, stride: int) -> None:
    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 4))
    factors = jnp.array([0, 2.5, 0])
    whole, some, none = (
        np.asarray(block(kind, stride)(x, train=True, kept=kept)) for kept in (None, factors, jnp.zeros(3))
    )
    if kind == "separable" or (stride == 2 and kind in WITHOUT_SHORTCUT):
        np.testing.assert_array_equal(some, whole)
        return
    if stride == 1:
        np.testing.assert_array_equal(none, x)
    assert np.abs(whole - none).max() > 0.1
    np.testing.assert_array_equal(some[::2], none[::2])
    np.testing.assert_allclose(some[1], (none + 2.5 * (whole - none))[1], rtol=1e-4, atol=1e-5)  # float32


DEPTHS, RATE, IMAGES = (2, 4), 0.6, 2000
BLOCKS = sum(DEPTHS)
EXPECTED = 1 - RATE * np.arange(BLOCKS) / BLOCKS
"""How often each block keeps its branch."""


def counting_network(name: Any = "native", **settings: Any) -> Any:
    """A network whose logit i is what the branch of block i, a constant 1, was multiplied by."""
    operations = dataclasses.replace(named(name), max_unrolled=settings.pop("max_unrolled", 8))
    stages = tuple(
        make_stage("convnext", kernel_size=3, stride=1, expand_ratio=1, width=BLOCKS, depth=depth) for depth in DEPTHS
    )
    spec = ArchitectureSpec(2, 1, BLOCKS, StemSpec(BLOCKS, 3, 1, norm="none"), stages, 0, "gelu")
    rng = np.random.default_rng(0)
    settings = {"dropout": 0.0, "stochastic_depth": RATE, **settings}
    network = Network(spec, operations=operations, rng=rng, **settings)
    network.stem.kernel[...] = np.zeros((3, 3, 1, BLOCKS), np.float32)
    network.classifier.kernel[...] = np.eye(BLOCKS, dtype=np.float32)
    ones, first = np.eye(BLOCKS, dtype=np.float32), 0
    for stage, depth in zip(network.stages, DEPTHS, strict=True):
        parts: list[tuple[Any, Any]] = [(stage.first, ones[first]), (stage.repeats, ones[first + 1 : first + depth])]
        for part, rows in parts:
            part.layer_scale[...] = np.ones_like(rows)
            part.project.kernel[...] = np.zeros(part.project.kernel.shape, np.float32)
            part.project.bias[...] = rows
        first += depth
    return nnx.split(network)


def kept_of(split: Any, key: Any, *, train: bool = True, **flags: Any) -> np.ndarray:
    """What the branches of blocks (images, blocks) were multiplied by."""
    images = jnp.zeros((IMAGES, 2, 2, 1))
    return np.asarray(jax.jit(lambda key: nnx.merge(*split)(images, train=train, dropout_key=key, **flags))(key))


@pytest.fixture(scope="module")
def kept() -> np.ndarray:
    return kept_of(counting_network(), jax.random.key(0))


def test_block_i_of_n_is_dropped_with_its_rate_and_kept_in_the_mean(kept: np.ndarray) -> None:
    for values, rate in zip(kept.T, EXPECTED, strict=True):
        np.testing.assert_allclose(np.unique(values), [1] if rate == 1 else [0, 1 / rate], rtol=1e-6)
        deviation = (rate * (1 - rate) / IMAGES) ** 0.5
        assert abs((values > 0).mean() - rate) <= 4 * deviation
        assert abs(values.mean() - 1) <= 4 * deviation / rate
    # Blocks and images are dropped by themselves.
    correlations = np.corrcoef((kept[:, 1:] > 0).T) - np.eye(BLOCKS - 1)
    assert np.abs(correlations).max() < 5 / IMAGES**0.5


def test_it_follows_the_key_and_is_off_in_evaluation_and_in_a_frozen_body(kept: np.ndarray) -> None:
    split = counting_network()
    assert (kept_of(split, jax.random.key(1)) != kept).any()
    np.testing.assert_array_equal(kept_of(split, None, train=False), np.ones_like(kept))
    np.testing.assert_array_equal(kept_of(split, jax.random.key(0), frozen=True), np.ones_like(kept))
    with pytest.raises(ValueError, match=r"stochastic depth 0.6 needs `dropout_key`"):
        kept_of(split, None)
    with pytest.raises(ValueError, match="0 <= stochastic_depth < 1"):
        counting_network(stochastic_depth=1.0)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("kernels", {}),
        ("shift", {"max_unrolled": 0}),  # a loop
        ("native", {"remat": True}),
        ("native", {"max_unrolled": 0, "remat": True}),
    ],
)
def test_operations_and_plans_drop_the_same(kept: np.ndarray, name: Any, settings: Any) -> None:
    np.testing.assert_allclose(kept_of(counting_network(name, **settings), jax.random.key(0)), kept, rtol=1e-6)


def test_bfloat16_and_seeds_side_by_side_drop_the_same(kept: np.ndarray) -> None:
    rounded = kept_of(counting_network(precision="bfloat16"), jax.random.key(0))
    np.testing.assert_allclose(rounded, kept, rtol=2**-8)  # a unit in the last place of bfloat16
    graphdef, state = counting_network()
    images, keys = jnp.zeros((IMAGES, 2, 2, 1)), jnp.stack([jax.random.key(1), jax.random.key(0)])
    together = jax.jit(jax.vmap(lambda key: nnx.merge(graphdef, state)(images, train=True, dropout_key=key)))(keys)
    np.testing.assert_array_equal(together[1], kept)


def test_dropout_before_the_classifier_draws_as_without_it(kept: np.ndarray) -> None:
    key = jax.random.key(0)
    both = kept_of(counting_network(dropout=0.5), key)
    dropout = 2.0 * np.asarray(jax.random.bernoulli(key, 0.5, kept.shape))
    np.testing.assert_allclose(both, dropout * kept, rtol=1e-6)
    # Other numbers: neither in the order of images nor in that of blocks are they alike.
    for other in (kept > 0, (kept > 0).T):
        assert abs(np.corrcoef(dropout.ravel(), other.ravel())[0, 1]) < 5 / kept.size**0.5
