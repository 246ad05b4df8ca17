"""The kernels for GPUs, interpreted: against float64 references and against XLA's operations."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from scalesearch.models.network import Network
from scalesearch.models.numerics import reference_convolution
from scalesearch.models.ops.gpu import depthwise, normalise, program
from scalesearch.models.ops.select import named
from scalesearch.models.ops.shift import normalise as plain
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage

TOLERANCE = 2e-6  # of the largest entry: float32 sums of at most a thousand terms

# kernel, stride, images, height, width, channels: whole vectors of channels, halves and single ones, strips of 16 and
# 32 that are not full, a stride above the kernel, a map below a tile
SHAPES = [
    (3, 1, 4, 9, 8, 16),
    (5, 2, 3, 7, 7, 40),
    (3, 2, 2, 10, 11, 70),
    (3, 3, 2, 7, 9, 20),
    (1, 2, 2, 5, 6, 8),
    (1, 2, 2, 1, 1, 3),
    (3, 1, 2, 5, 4, 33),
]


def example(k: int, stride: int, n: int, h: int, w: int, c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(k * 100 + stride * 10 + c)
    x, kernel, g = (n, h, w, c), (k, k, 1, c), (n, -(-h // stride), -(-w // stride), c)
    first, second, third = (rng.normal(size=shape).astype(np.float32) for shape in (x, kernel, g))
    return first, second, third


def value_and_gradients(stride: int, x: Any, kernel: Any, g: Any, name: Any = "pallas") -> Any:
    y, pull = jax.vjp(lambda x, kernel: named(name).depthwise(x, kernel, stride), x, kernel)
    return y, *pull(g)


def worst(actual: Any, expected: Any) -> float:
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_depthwise_and_both_gradients_against_float64(shape: tuple[int, ...]) -> None:
    arrays, stride = example(*shape), shape[1]
    results = value_and_gradients(stride, *arrays)
    expected = reference_convolution(*(array.astype(np.float64) for array in arrays), stride)
    for actual, wanted in zip(results, expected, strict=True):
        assert worst(actual, wanted) < TOLERANCE


def test_depthwise_of_bfloat16_sums_in_float32() -> None:
    x, kernel, g = (jnp.asarray(array, jnp.bfloat16) for array in example(3, 1, 3, 9, 9, 16))
    wide = reference_convolution(*(np.asarray(array, np.float64) for array in (x, kernel, g)), 1)
    for actual, wanted in zip(value_and_gradients(1, x, kernel, g), wide, strict=True):
        assert actual.dtype == jnp.bfloat16
        assert worst(actual, wanted) < 2**-8  # one rounding to eight bits


def test_depthwise_of_several_seeds_side_by_side() -> None:
    seeds = [example(1, 2, 3, 7, 6, 20), tuple(2 * array for array in example(1, 2, 3, 7, 6, 20))]
    together = jax.vmap(partial(value_and_gradients, 2))(*map(np.stack, zip(*seeds, strict=True)))
    for place, arrays in enumerate(seeds):
        for actual, wanted in zip(together, value_and_gradients(2, *arrays), strict=True):
            assert worst(actual[place], wanted) < TOLERANCE


@pytest.mark.parametrize("transposed", [False, True], ids=["convolution", "transposed"])
@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2), (3, 3), (1, 2)])
def test_each_output_of_a_tile_meets_each_of_its_taps_once(kernel_size: int, stride: int, transposed: bool) -> None:
    """Outputs of a convolution have k² taps; those of its gradient as many on average, a stride² of them each."""
    tile, _, by_input = depthwise.geometry(kernel_size, stride, transposed=transposed)
    uses = [use for some in by_input.values() for use in some]
    outputs = math.prod(tile)
    assert len(set(uses)) == len(uses) == outputs * kernel_size**2 // (stride**2 if transposed else 1)
    assert {tap for _, tap in uses} == set(range(kernel_size**2))
    columns = [column for _, column in by_input]
    assert columns == sorted(columns)


@pytest.mark.parametrize("activation", ["swish", "relu", "relu6", "hard_swish", "none"])
@pytest.mark.parametrize("shape", [(3, 7, 7, 40), (2, 5, 5, 3)], ids=str)
def test_normalisation_and_its_gradient_are_those_of_native(shape: tuple[int, ...], activation: Any) -> None:
    rng = np.random.default_rng(shape[3])
    x, g = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    scale, bias = (rng.normal(size=shape[3:]).astype(np.float32) for _ in range(2))

    def outcome(name: Any) -> Any:
        def run(x: Any, scale: Any, bias: Any) -> Any:
            y, *statistics = named(name).normalise(x, scale, bias, activation)
            return y, statistics

        y, pull, statistics = jax.vjp(run, x, scale, bias, has_aux=True)
        return y, *statistics, *pull(g)

    for actual, wanted in zip(outcome("pallas"), outcome("native"), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=2e-5, atol=2e-5)


def test_slope_far_from_zero_is_that_of_a_line() -> None:
    slopes = normalise.sigmoid_slope(jnp.asarray([-1e4, -100.0, 0.0, 100.0, 1e4]), "swish")
    np.testing.assert_allclose(slopes, [0, 0, 0.5, 1, 1], atol=1e-12)
    z = jnp.linspace(-8, 8, 101)
    np.testing.assert_allclose(normalise.sigmoid_slope(z, "swish"), plain.activation_slope(z, "swish"), atol=1e-6)


@pytest.mark.parametrize(
    ("k", "stride", "images", "served"),
    [(3, 1, 2, True), (7, 4, 2, True), (9, 1, 2, False), (3, 5, 2, False), (3, 1, 2**16, False)],
)
def test_shapes_that_no_depthwise_kernel_serves_are_xlas(k: int, stride: int, images: int, served: bool) -> None:
    """Larger kernels and strides would not stay in registers; 32 bits count at most 2³¹ − 1 values."""
    x, kernel = shape(images, 64, 64, 8), shape(k, k, 1, 8)
    traced = jax.make_jaxpr(lambda x, kernel: named("pallas").depthwise(x, kernel, stride))(x, kernel)
    assert ("pallas_call" in str(traced)) == served
    assert ("conv_general_dilated" in str(traced)) != served


@pytest.mark.parametrize(("images", "served"), [(2, True), (2**16, False)])
def test_maps_that_the_normalisation_kernels_cannot_count_are_xlas(images: int, served: bool) -> None:
    def slope(x: Any) -> Any:
        return jax.grad(lambda x: named("pallas").normalise(x, jnp.ones(8), jnp.ones(8), "swish")[0].sum())(x)

    assert ("pallas_call" in str(jax.make_jaxpr(slope)(shape(images, 64, 64, 8)))) == served


def shape(*sizes: int) -> Any:
    structure: Any = jax.ShapeDtypeStruct
    return structure(sizes, np.float32)


def test_sums_of_many_steps() -> None:
    """As on a GPU: each program sums many parts of the images. Sums of 32,768 terms are good to 2e-5."""
    n, h, w, channels = 8, 64, 64, 64
    assert program.Parts(n * h * w, channels, 1024).steps > 1
    rng = np.random.default_rng(0)
    x, g = (rng.normal(size=(n, h, w, channels)).astype(np.float32) for _ in range(2))
    gain = np.ones(channels, np.float32)
    sums = normalise.slope_sums(jnp.asarray(x), jnp.asarray(g), gain, gain, "relu")
    dz = np.where(x.astype(np.float64) + 1 > 0, g, 0)
    for actual, wanted in zip(sums, (dz.sum((0, 1, 2)), (dz * x).sum((0, 1, 2))), strict=True):
        assert worst(actual, wanted) < 2e-5
    kernel = rng.normal(size=(1, 1, 1, channels)).astype(np.float32)
    gradient = value_and_gradients(1, x, kernel, g)[2]
    assert worst(gradient[0, 0, 0], (x.astype(np.float64) * g).sum((0, 1, 2))) < 2e-5


@pytest.mark.parametrize(
    ("capability", "problem"), [("9.0", None), ("8.0", None), ("7.5", "has 7.5"), ("gfx942", "gfx")]
)
def test_which_gpus_the_kernels_are_for(monkeypatch: pytest.MonkeyPatch, capability: str, problem: str | None) -> None:
    device = SimpleNamespace(compute_capability=capability, device_kind="some GPU")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    actual = program.problem()
    assert (actual is None) == (problem is None)
    assert problem is None or problem in str(actual)


def test_a_network_with_pallas_is_that_without() -> None:
    """Images of one channel, whose convolution is a product, and a block with all operations."""
    stage = make_stage(block="mbconv", kernel_size=3, stride=2, expand_ratio=2, width=8, depth=1, se_ratio=0.25)
    spec = ArchitectureSpec(
        resolution=6, in_channels=1, num_classes=3, stem=StemSpec(8, 3, 1, 1), stages=(stage,), head_width=8
    )
    images = np.random.default_rng(0).normal(size=(4, 6, 6, 1)).astype(np.float32)

    def outcome(name: Any) -> Any:
        from flax import nnx

        network = Network(spec, operations=named(name), dropout=0.0, rng=np.random.default_rng(1))
        graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
        return jax.jit(
            jax.value_and_grad(lambda params: (nnx.merge(graphdef, params, stats)(images, train=True) ** 2).sum())
        )(params)

    ours, library = (jax.tree.leaves(outcome(name)) for name in ("pallas", "native"))
    scale = max(float(np.abs(leaf).max()) for leaf in library)  # those of a few parameters are 0 but for rounding
    for actual, wanted in zip(ours, library, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5 * scale)
