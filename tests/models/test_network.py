"""Networks built from specs: parameter counts, all operations alike, statistics, dropout, cost."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from scalesearch.baselines.published import NAMES, baseline
from scalesearch.models.network import Network
from scalesearch.models.ops.base import EPSILON
from scalesearch.models.ops.select import named
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.cost.count import complexity
from scalesearch.scaling.stage import kinds, make_stage


def tiny(block: str, kernel_size: int = 3) -> ArchitectureSpec:
    """Two stages of `block` at 9 px: a strided and a repeated block, a skip and a shortcut."""
    expands = {"mbconv": 3, "bottleneck": 2, "bneck": 2.3, "convnext": 1.5, "fused_mbconv": 2, "grouped_bottleneck": 1}
    se_ratio = 0.25 if block in ("mbconv", "bneck", "grouped_bottleneck") else 0.0
    fields = {"expand_ratio": expands.get(block, 1), "kernel_size": kernel_size}
    fields |= {"group_width": 2} if block == "grouped_bottleneck" else {}
    stages = (
        make_stage(block, stride=2, width=6, depth=2, se_ratio=se_ratio, **fields),
        make_stage(block, stride=1, width=8, depth=1, **fields),
    )
    if block == "convnext":
        return ArchitectureSpec(9, 2, 5, StemSpec(4, 2, 2, norm="layer"), stages, 0, "gelu", final_norm="layer")
    if block == "preactivation":
        return ArchitectureSpec(9, 2, 5, StemSpec(4, 3, 1, norm="none"), stages, 0, "relu6", final_norm="batch")
    if block == "bneck":
        return ArchitectureSpec(9, 2, 5, StemSpec(4, 3, 1), stages, 10, "hard_swish", hidden_width=7)
    stem = StemSpec(4, 3, 1, pool_stride=2 if block == "bottleneck" else 1)
    head = 10 if block == "mbconv" else 0
    return ArchitectureSpec(9, 2, 5, stem, stages, head, "swish" if block == "mbconv" else "relu6")


def build(spec: ArchitectureSpec, name: Any, dropout: float = 0.0, seed: int = 0) -> Network:
    """A network whose parameters are numpy draws: nothing is compiled, and no scale is 1, no bias 0."""
    network = Network(spec, operations=named(name), dropout=dropout, rng=np.random.default_rng(seed))
    graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> jax.Array:
        leaf_name = jax.tree_util.keystr(path)
        centre = 1.0 if "scale" in leaf_name or "var" in leaf_name else 0.0
        spread = 0.1 if centre or leaf.ndim == 1 else (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return jnp.asarray(centre + spread * rng.normal(size=leaf.shape), jnp.float32)

    return nnx.merge(graphdef, *(jax.tree.map_with_path(draw, state) for state in (params, stats)))


@functools.partial(jax.jit, static_argnames=("graphdef", "train"))
def _apply(graphdef: Any, params: Any, stats: Any, x: Any, key: Any, train: bool) -> Any:
    network = nnx.merge(graphdef, params, stats)
    return network(x, train=train, dropout_key=key), nnx.state(network, nnx.BatchStat)


def call(network: Network, x: jax.Array, *, train: bool, dropout_key: Any = None) -> jax.Array:
    graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    logits, after = _apply(graphdef, params, stats, x, dropout_key, train)
    nnx.update(network, after)
    return logits


def images(spec: ArchitectureSpec, n: int = 4) -> jax.Array:
    return jax.random.normal(jax.random.key(7), (n, spec.resolution, spec.resolution, spec.in_channels)) + 0.5


class Zeros(np.random.Generator):
    """Draws nothing, which for a network of 70 million parameters takes a second."""

    def standard_normal(self, size: Any, dtype: Any) -> Any:
        return np.zeros(size, dtype)


def count(spec: ArchitectureSpec) -> int:
    network = Network(spec, operations=named("shift"), dropout=0.0, rng=Zeros(np.random.PCG64()))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_every_baseline_as_counted(name: str) -> None:
    spec = baseline(name).spec
    expected = {"efficientnet-b0": 5_288_548, "resnet-50": 25_557_032, "convnext-t": 28_589_128}
    assert count(spec) == complexity(spec).params == expected.get(name, complexity(spec).params)


@pytest.mark.parametrize("block", kinds())
def test_parameters_of_every_block_as_counted(block: str) -> None:
    assert count(tiny(block, 5)) == complexity(tiny(block, 5)).params


def test_the_variables_are_parameters_and_batch_statistics_alone() -> None:
    graphdef, params, stats = nnx.split(build(tiny("mbconv"), "shift", 0.5), nnx.Param, nnx.BatchStat)
    merged = nnx.merge(graphdef, params, stats)
    assert call(merged, images(tiny("mbconv")), train=False).shape == (4, 5)


# Kinds whose layers the others have too, and that compile for longest.
LONG = ("bneck", "convnext", "grouped_bottleneck", "preactivation")


@pytest.mark.parametrize(
    "block", [pytest.param(kind, marks=pytest.mark.long) if kind in LONG else kind for kind in kinds()]
)
def test_all_operations_give_the_same_logits_gradients_and_statistics(block: str) -> None:
    spec = tiny(block)
    results = []
    for name in ("kernels", "shift", "native"):
        graphdef, params, stats = nnx.split(build(spec, name), nnx.Param, nnx.BatchStat)

        @jax.jit
        def run(params: Any, stats: Any, graphdef: Any = graphdef) -> Any:
            def loss(params: Any) -> Any:
                network = nnx.merge(graphdef, params, stats)
                logits = network(images(spec), train=True)
                return jnp.mean(jnp.sin(logits)), (logits, nnx.state(network, nnx.BatchStat))

            return jax.grad(loss, has_aux=True)(params)

        results.append(run(params, stats))
    *others, native = (jax.tree.leaves_with_path(result) for result in results)
    largest = max(float(jnp.abs(leaf).max()) for _, leaf in jax.tree.leaves_with_path(results[-1][0]))
    pairs = [pair for other in others for pair in zip(other, native, strict=True)]
    for (path, actual), (_, expected) in pairs:
        # float32 through a dozen normalised layers: 1e-4 of the leaf's size, or of the largest gradient for a
        # leaf that is zero in exact arithmetic (a bias in front of a normalisation)
        allowed = 1e-4 * max(float(jnp.abs(expected).max()), 0.01 * largest)
        assert float(jnp.abs(actual - expected).max()) < allowed, jax.tree_util.keystr(path)


def test_training_leaves_the_statistics_of_the_batch() -> None:
    spec = tiny("separable")
    for name in ("kernels", "shift", "native"):
        network = build(spec, name)
        x = images(spec)
        z = jax.lax.conv_general_dilated(
            x, network.stem.kernel[...], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        old = np.array([1.0, -2, 3, 0.5], np.float32)
        network.stem.norm.mean[...], network.stem.norm.var[...] = jnp.asarray(old), jnp.asarray(old**2)
        call(network, x, train=True)
        wide = np.asarray(z, np.float64)
        # a few float32 roundings
        np.testing.assert_allclose(network.stem.norm.mean[...], wide.mean((0, 1, 2)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(network.stem.norm.var[...], wide.var((0, 1, 2)), rtol=1e-5)


def test_evaluation_uses_the_running_statistics_and_keeps_them() -> None:
    network = build(tiny("mbconv"), "shift")
    norm = network.stem.norm
    norm.mean[...], norm.var[...] = jnp.arange(4.0), jnp.arange(1.0, 5)
    norm.scale[...], norm.bias[...] = jnp.full(4, 2.0), jnp.full(4, 0.5)
    x = np.asarray(images(tiny("mbconv"))[:, :, :, :1], np.float64) * np.ones(4)
    z = (x - np.arange(4)) / np.sqrt(np.arange(1, 5) + EPSILON) * 2 + 0.5
    np.testing.assert_allclose(norm(jnp.asarray(x, jnp.float32), train=False), z / (1 + np.exp(-z)), atol=1e-5)
    before = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
    one, four = (call(network, images(tiny("mbconv"), n), train=False) for n in (1, 4))
    assert one.shape == (1, 5)
    assert four.shape == (4, 5)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat)))


def test_evaluation_of_an_image_does_not_depend_on_its_neighbours() -> None:
    spec = tiny("mbconv")
    network, x = build(spec, "shift"), images(spec)
    alone = jnp.concatenate([call(network, x[i : i + 1], train=False) for i in range(4)])
    np.testing.assert_allclose(call(network, x, train=False), alone, atol=1e-5)  # sums of another order


def test_dropout_needs_a_key_follows_it_and_is_off_in_evaluation() -> None:
    spec = tiny("separable")
    network, x = build(spec, "shift", dropout=0.5), images(spec)
    with pytest.raises(ValueError, match="needs `dropout_key`"):
        network(x, train=True)
    first, again, other = (call(network, x, train=True, dropout_key=jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert float(jnp.abs(first - other).max()) > 1e-3
    kept, keyed = (call(network, x, train=False, dropout_key=key) for key in (None, jax.random.key(1)))
    np.testing.assert_array_equal(kept, keyed)
    with pytest.raises(ValueError, match="0 <= dropout < 1"):
        Network(spec, operations=named("shift"), dropout=1.0, rng=np.random.default_rng(0))


@pytest.mark.parametrize("name", ["kernels", "shift"])
def test_vmap_over_seeds_equals_a_loop(name: str) -> None:
    spec = tiny("mbconv")
    x = images(spec)
    parts = [nnx.split(build(spec, name, seed=seed), nnx.Param, nnx.BatchStat) for seed in (0, 1)]
    graphdef = parts[0][0]

    def gradients(params: Any, stats: Any) -> Any:
        def loss(params: Any) -> Any:
            network = nnx.merge(graphdef, params, stats)
            return jnp.mean(jnp.sin(network(x, train=True))), nnx.state(network, nnx.BatchStat)

        return jax.value_and_grad(loss, has_aux=True)(params)

    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[(params, stats) for _, params, stats in parts])
    together = jax.jit(jax.vmap(gradients))(*stack)
    for seed, (_, params, stats) in enumerate(parts):
        alone = jax.jit(gradients)(params, stats)
        for actual, expected in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(actual[seed], expected, rtol=1e-3, atol=1e-5)  # sums of another order


def test_initialisation_as_in_the_reference() -> None:
    """Deviation √(2 / fan_out) for convolutions, ±1/√classes for the classifier; scales one, biases zero."""
    spec = ArchitectureSpec(
        8,
        3,
        64,
        StemSpec(64, 5, 1),
        (make_stage("separable", kernel_size=5, stride=1, expand_ratio=1, width=128, depth=1),),
        0,
    )
    network = Network(spec, operations=named("shift"), dropout=0.0, rng=np.random.default_rng(0))
    block: Any = network.stages[0].first
    cases = ((network.stem, 25 * 64), (block.depthwise, 25), (block.pointwise, 128))
    for layer, fan_out in cases:
        kernel = np.asarray(layer.kernel[...])
        # the deviation of n draws is known to 1/√(2n); four of those
        assert abs(kernel.std() / (2 / fan_out) ** 0.5 - 1) < 4 / (2 * kernel.size) ** 0.5
        np.testing.assert_array_equal(layer.norm.scale[...], 1)
        np.testing.assert_array_equal(layer.norm.bias[...], 0)
    weights = np.asarray(network.classifier.kernel[...])
    assert 0.99 / 8 < np.abs(weights).max() <= 1 / 8
    assert abs(weights.mean()) < 4 / (192 * weights.size) ** 0.5
    np.testing.assert_array_equal(network.classifier.bias[...], 0)


def test_macs_agree_with_the_compilers_count() -> None:
    """XLA counts 2 a multiply-add and leaves out padding taps; 1×1 kernels have none, so little is left out."""
    spec = dataclasses.replace(tiny("basic", 1), resolution=8, stem=StemSpec(16, 1, 1))
    spec = spec.with_sizes(spec.depths, (16, 16, 32, 0), 8)
    network = build(spec, "native")
    graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)

    def forward(params: Any, stats: Any, x: Any) -> Any:
        return nnx.merge(graphdef, params, stats)(x, train=False)

    cost = jax.jit(forward).lower(params, stats, images(spec, 1)).compile().cost_analysis()
    elementwise = 12 * complexity(spec).activations  # normalisation and activation: a few operations an element
    macs = complexity(spec).macs
    assert 2 * macs <= cost["flops"] <= 2 * macs + elementwise
    assert elementwise < macs  # so that the bound would notice a layer counted twice or not at all
