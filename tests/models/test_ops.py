"""Every operation by all operations against a float64 reference written plainly here, values and gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from scalesearch.models.ops.select import named
from scalesearch.models.ops.shift.depthwise import gradient_tile

NAMES = ("kernels", "shift", "native")
# float32 rounds to 6e-8; the longest sum here has 2·9·9·8 terms, so 2e-5 of the largest entry is ten times
# what rounding can do and a thousandth of what one wrong tap would.
TOLERANCE = 2e-5

# kernel 1 at stride 3 leaves phases of the input gradient that no output reads
GEOMETRIES = [(k, s, size) for k in (3, 5, 7) for s in (1, 2) for size in (8, 9)] + [(1, 1, 6), (1, 3, 7), (3, 2, 1)]


def reference(x: np.ndarray, kernel: np.ndarray, stride: int, g: np.ndarray, groups: int) -> tuple[np.ndarray, ...]:
    """y, dx and dkernel of a SAME convolution in float64, one tap of one output at a time; kernel is HWIO."""
    x, kernel, g = (a.astype(np.float64) for a in (x, kernel, g))
    k, (n, h, w), width = kernel.shape[0], x.shape[:3], kernel.shape[3]
    rows, columns = -(-h // stride), -(-w // stride)
    y, dx, dkernel = np.zeros((n, rows, columns, width)), np.zeros_like(x), np.zeros_like(kernel)
    for i in range(rows):
        for j in range(columns):
            for d in range(k):
                for e in range(k):
                    a, b = i * stride + d - k // 2, j * stride + e - k // 2
                    if not (0 <= a < h and 0 <= b < w):
                        continue
                    if groups == 1:
                        y[:, i, j] += x[:, a, b] @ kernel[d, e]
                        dx[:, a, b] += g[:, i, j] @ kernel[d, e].T
                        dkernel[d, e] += x[:, a, b].T @ g[:, i, j]
                    else:
                        y[:, i, j] += x[:, a, b] * kernel[d, e, 0]
                        dx[:, a, b] += g[:, i, j] * kernel[d, e, 0]
                        dkernel[d, e, 0] += (x[:, a, b] * g[:, i, j]).sum(0)
    return y, dx, dkernel


def relative(actual: Any, expected: np.ndarray) -> float:
    actual = np.asarray(actual, np.float64)
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def example(kernel_size: int, stride: int, height: int, width: int, groups: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(kernel_size * 100 + stride * 10 + height)
    c, d = (groups, groups) if groups > 1 else (4, 5)
    x = rng.normal(size=(3, height, width, c)).astype(np.float32)
    kernel = rng.normal(size=(kernel_size, kernel_size, 1 if groups > 1 else c, d)).astype(np.float32)
    g = rng.normal(size=(3, -(-height // stride), -(-width // stride), d)).astype(np.float32)
    return x, kernel, g


@partial(jax.jit, static_argnums=0)
def value_and_gradients(apply: Any, x: Any, kernel: Any, g: Any) -> Any:
    y, pull = jax.vjp(apply, x, kernel)
    return y, *pull(g)


def operation(depthwise: bool, stride: int, name: str) -> Any:
    operations = named(name)  # type: ignore[arg-type]
    return lambda x, kernel: (operations.depthwise if depthwise else operations.convolve)(x, kernel, stride)


@pytest.mark.parametrize("depthwise", [True, False], ids=["depthwise", "dense"])
@pytest.mark.parametrize(("kernel_size", "stride", "size"), GEOMETRIES)
@pytest.mark.parametrize("name", NAMES)
def test_convolution_and_both_gradients_against_float64(
    name: str, kernel_size: int, stride: int, size: int, depthwise: bool
) -> None:
    x, kernel, g = example(kernel_size, stride, size, size + 1, 6 if depthwise else 1)
    results = value_and_gradients(operation(depthwise, stride, name), x, kernel, g)
    for actual, expected in zip(results, reference(x, kernel, stride, g, 6 if depthwise else 1), strict=True):
        assert relative(actual, expected) < TOLERANCE


@pytest.mark.parametrize(
    ("counts", "tile"),
    [
        ((4, 7, 7), (4, 1, 7)),  # whole rows of several images
        ((3, 8, 9), (1, 2, 9)),  # several rows
        ((2, 3, 32), (1, 1, 16)),  # part of a row
        ((2, 5, 3), (2, 5, 3)),  # all of several images
        ((3, 2, 2), (3, 2, 2)),  # fewer outputs than one step unrolls
    ],
)
def test_kernel_gradient_whatever_its_tile(counts: tuple[int, int, int], tile: tuple[int, int, int]) -> None:
    assert gradient_tile(*counts) == tile
    rng = np.random.default_rng(0)
    x, g = (rng.normal(size=(*counts, 6)).astype(np.float32) for _ in range(2))
    kernel = rng.normal(size=(3, 3, 1, 6)).astype(np.float32)
    results = value_and_gradients(operation(True, 1, "shift"), x, kernel, g)
    for actual, expected in zip(results, reference(x, kernel, 1, g, 6), strict=True):
        assert relative(actual, expected) < TOLERANCE


@pytest.mark.parametrize("channels", [2, 3, 4, 7, 8, 9, 12, 16, 17, 24, 31, 40])
@pytest.mark.parametrize("stride", [1, 2])
def test_kernels_of_any_number_of_channels(channels: int, stride: int) -> None:
    """Blocks of channels overlap where their number is no multiple of a vector's."""
    x, kernel, g = example(3, stride, 5, 11, channels)
    results = value_and_gradients(operation(True, stride, "kernels"), x, kernel, g)
    for actual, expected in zip(results, reference(x, kernel, stride, g, channels), strict=True):
        assert relative(actual, expected) < TOLERANCE


def test_kernels_of_many_images() -> None:
    """More images than parts that threads take, and more than stay in the cache together."""
    rng = np.random.default_rng(0)
    x, g = (rng.normal(size=(70, 24, 24, 20)).astype(np.float32) for _ in range(2))
    kernel = rng.normal(size=(3, 3, 1, 20)).astype(np.float32)
    results = value_and_gradients(operation(True, 1, "kernels"), x, kernel, g)
    for actual, expected in zip(results, reference(x, kernel, 1, g, 20), strict=True):
        assert relative(actual, expected) < TOLERANCE


@pytest.mark.parametrize("depthwise", [True, False], ids=["depthwise", "dense"])
@pytest.mark.parametrize("stride", [1, 2])
def test_shift_against_lax_convolution(depthwise: bool, stride: int) -> None:
    x, kernel, g = example(5, stride, 11, 8, 6 if depthwise else 1)

    def library(x: Any, kernel: Any) -> Any:
        groups = x.shape[3] if depthwise else 1
        layout = ("NHWC", "HWIO", "NHWC")
        pads = ((2, 2), (2, 2))
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=layout, feature_group_count=groups
        )

    results = value_and_gradients(operation(depthwise, stride, "shift"), x, kernel, g)
    for actual, expected in zip(results, value_and_gradients(library, x, kernel, g), strict=True):
        assert relative(actual, np.asarray(expected)) < TOLERANCE


@pytest.mark.parametrize("depthwise", [True, False], ids=["depthwise", "dense"])
@pytest.mark.parametrize("shared_images", [True, False])
@pytest.mark.parametrize("name", ["kernels", "shift"])
def test_vmap_over_seeds_equals_a_loop(name: str, depthwise: bool, shared_images: bool) -> None:
    seeds = [example(3, 2, 6, 7, 6 if depthwise else 1), example(3, 2, 6, 7, 6 if depthwise else 1)]
    kernels = jnp.stack([seeds[0][1], -2 * seeds[1][1]])
    images = seeds[0][0] if shared_images else jnp.stack([seeds[0][0], seeds[1][0] + 1])
    apply = operation(depthwise, 2, name)

    def both(x: Any, kernel: Any) -> Any:
        return value_and_gradients(apply, x, kernel, seeds[0][2])

    together = jax.jit(jax.vmap(both, in_axes=(None if shared_images else 0, 0)))(images, kernels)
    for seed in range(2):
        alone = both(images if shared_images else images[seed], kernels[seed])
        for actual, expected in zip(together, alone, strict=True):
            assert relative(actual[seed], np.asarray(expected)) < TOLERANCE


@pytest.mark.parametrize("name", ["kernels", "shift"])
def test_scan_over_steps_inside_jit_descends_as_a_loop_does(name: str) -> None:
    x, kernel, g = example(3, 1, 6, 6, 6)
    apply = operation(True, 1, name)

    def step(kernel: Any, _: None) -> Any:
        loss, slope = jax.value_and_grad(lambda k: jnp.mean((apply(x, k) - g) ** 2))(kernel)
        return kernel - 0.1 * slope, loss

    last, losses = jax.jit(lambda k: lax.scan(step, k, None, length=4), donate_argnums=0)(jnp.asarray(kernel))
    looped, loop_losses = jnp.asarray(kernel), []
    for _ in range(4):
        looped, loss = step(looped, None)
        loop_losses.append(float(loss))
    assert loop_losses[3] < loop_losses[0]
    np.testing.assert_allclose(losses, loop_losses, rtol=TOLERANCE)
    assert relative(last, np.asarray(looped)) < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("stride", "size"), [(1, 5), (2, 5), (2, 6)])
def test_max_pool_and_its_gradient(name: str, stride: int, size: int) -> None:
    rng = np.random.default_rng(size)
    x = rng.permutation(2 * size * size * 3).reshape(2, size, size, 3).astype(np.float32) - 50  # no ties, negatives
    out = -(-size // stride)
    g = rng.normal(size=(2, out, out, 3)).astype(np.float32)
    expected, gradient = np.zeros_like(g), np.zeros_like(x)
    for n, i, j, c in np.ndindex(expected.shape):
        top, left = max(0, i * stride - 1), max(0, j * stride - 1)
        window = x[n, top : i * stride + 2, left : j * stride + 2, c]
        expected[n, i, j, c] = window.max()
        row, column = np.unravel_index(window.argmax(), window.shape)
        gradient[n, top + row, left + column, c] += g[n, i, j, c]
    pool = jax.jit(lambda x: named(name).pool(x, stride))  # type: ignore[arg-type]
    y, pull = jax.vjp(pool, x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(pull(g)[0], gradient, rtol=1e-6, atol=1e-6)  # up to nine float32 additions


def test_max_pool_gives_the_gradient_of_a_tie_to_the_first_place() -> None:
    for name in NAMES:
        slope = jax.grad(lambda x, name=name: named(name).pool(x, 1)[0, 1, 1, 0])(jnp.ones((1, 3, 3, 1)))
        np.testing.assert_array_equal(np.asarray(slope).ravel(), [1] + [0] * 8)


def test_kernels_leave_maps_of_another_type_to_shift() -> None:
    x, kernel, _ = example(3, 1, 6, 6, 6)
    narrow = operation(True, 1, "kernels")(jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16))
    assert narrow.dtype == jnp.bfloat16
    expected = operation(True, 1, "shift")(jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16))
    np.testing.assert_array_equal(narrow, expected)


SQUEEZED = [(4, 9, 8, 16, 4), (5, 3, 3, 27, 2), (40, 5, 5, 9, 3), (3, 1, 1, 2, 1), (33, 4, 4, 130, 33)]


@pytest.mark.parametrize("activation", ["swish", "relu", "relu6", "hard_swish"])
@pytest.mark.parametrize(("n", "h", "w", "c", "s"), SQUEEZED)
@pytest.mark.parametrize("name", ["kernels", "shift"])
def test_squeeze_excite_and_its_gradients_against_float64(
    name: Any, n: int, h: int, w: int, c: int, s: int, activation: Any
) -> None:
    rng = np.random.default_rng(c)
    sizes = ((n, h, w, c), (c, s), (s,), (s, c), (c,), (n, h, w, c))
    *arguments, g = (rng.normal(size=size).astype(np.float32) + 0.1 for size in sizes)

    def formula(x: Any, reduce: Any, reduce_bias: Any, expand: Any, expand_bias: Any) -> Any:
        z = x.mean((1, 2)) @ reduce + reduce_bias
        choices = {"swish": z / (1 + jnp.exp(-z)), "relu": jnp.maximum(z, 0), "relu6": jnp.clip(z, 0, 6)}
        squeezed = {**choices, "hard_swish": z * jnp.clip(z + 3, 0, 6) / 6}[activation]
        return x * (1 / (1 + jnp.exp(-(squeezed @ expand + expand_bias))))[:, None, None]

    def ours(x: Any, reduce: Any, reduce_bias: Any, expand: Any, expand_bias: Any) -> Any:
        return named(name).excite(x, (reduce, reduce_bias), (expand, expand_bias), activation)

    def both(apply: Any, *arguments: Any) -> Any:
        y, pull = jax.vjp(apply, *arguments[:-1])
        return y, *pull(arguments[-1])

    results = jax.jit(partial(both, ours))(*arguments, g)
    with jax.enable_x64(True):
        wide = [jnp.asarray(a, jnp.float64) for a in (*arguments, g)]
        expected = both(formula, *wide)
    largest = max(float(np.abs(np.asarray(each)).max()) for each in expected)
    for actual, wanted in zip(results, expected, strict=True):
        # sums of up to 130 · 33 products; what is small beside the largest gradient is rounded as that is
        np.testing.assert_allclose(actual, wanted, rtol=TOLERANCE, atol=TOLERANCE * largest)


@pytest.mark.parametrize("channels", [1, 3, 8, 21])
def test_mean_over_positions_and_its_gradient(channels: int) -> None:
    rng = np.random.default_rng(channels)
    x, g = rng.normal(size=(5, 3, 7, channels)).astype(np.float32), rng.normal(size=(5, channels)).astype(np.float32)
    y, pull = jax.vjp(lambda x: named("kernels").average(x), jnp.asarray(x))
    np.testing.assert_allclose(y, x.astype(np.float64).mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pull(g)[0], np.broadcast_to(g[:, None, None] / 21, x.shape), rtol=1e-6)


@pytest.mark.parametrize("name", ["kernels", "shift"])
def test_repacked_numbers_keep_their_order_and_so_do_their_gradients(name: Any) -> None:
    arrays = [jnp.arange(6.0).reshape(2, 3), jnp.arange(6.0, 7.0), jnp.arange(7.0, 12.0)]
    shapes = [(4,), (2, 2), (1, 4)]

    def weighted(*arrays: Any) -> Any:
        flat = jnp.concatenate([each.reshape(-1) for each in named(name).repack(arrays, shapes)])
        return jnp.sum(flat * jnp.arange(100.0, 112.0)), [each.shape for each in named(name).repack(arrays, shapes)]

    slopes, actual = jax.grad(weighted, argnums=(0, 1, 2), has_aux=True)(*arrays)
    assert actual == shapes
    parts = named(name).repack(arrays, shapes)
    np.testing.assert_array_equal(np.concatenate([np.ravel(part) for part in parts]), np.arange(12))
    np.testing.assert_array_equal(np.concatenate([np.ravel(slope) for slope in slopes]), np.arange(100, 112))
    assert [slope.shape for slope in slopes] == [array.shape for array in arrays]


@pytest.mark.parametrize("shape", [(2, 3, 3, 5), (9, 40, 40, 7)], ids=str)  # one part, and several
@pytest.mark.parametrize("name", ["kernels", "native"])
def test_residual_and_its_gradient(name: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, g = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    y, pull = jax.vjp(lambda x: named(name).add(x, lambda x: x * x), jnp.asarray(x))
    np.testing.assert_allclose(y, x + x * x, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(pull(g)[0], g + 2 * x * g, rtol=1e-6, atol=1e-5)
