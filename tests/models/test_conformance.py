"""What every implementation of `Operations` must do alike: values, gradients, types, and behaviour as a value.

The references in float64 are in the tests of the single operations; here all methods of each implementation are held
against `native`, in float32 and, where it serves that, in bfloat16.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from scalesearch.models.ops.base import Name, Operations
from scalesearch.models.ops.select import named

NAMES = get_args(Name)
N, H, W, C, D, S, K = 3, 6, 5, 8, 12, 2, 7
SHAPES = {
    "x": (N, H, W, C),
    "dense": (3, 3, C, D),
    "pointwise": (1, 1, C, D),
    "filters": (3, 3, 1, C),
    "groups": (3, 3, 2, D),
    "patches": (4, 4, C, D),
    "scale": (C,),
    "bias": (C,),
    "reduce": (C, S),
    "reduce_bias": (S,),
    "expand": (S, C),
    "expand_bias": (C,),
    "logits": (N, K),
}
LABELS = jnp.asarray([0, 6, 3], jnp.int32)

# each takes the operations, then the arrays that it is differentiated by; the first is the map
METHODS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "convolve 3×3": (lambda ops, x, kernel: ops.convolve(x, kernel, 2), ("x", "dense")),
    "convolve 1×1": (lambda ops, x, kernel: ops.convolve(x, kernel, 1), ("x", "pointwise")),
    "depthwise": (lambda ops, x, kernel: ops.depthwise(x, kernel, 1), ("x", "filters")),
    "grouped": (lambda ops, x, kernel: ops.grouped(x, kernel, 2), ("x", "groups")),
    "patches": (lambda ops, x, kernel: ops.patches(x, kernel), ("x", "patches")),
    "layer normalise": (lambda ops, x, scale, bias: ops.layer_normalise(x, scale, bias), ("x", "scale", "bias")),
    "normalise": (lambda ops, x, scale, bias: ops.normalise(x, scale, bias, "swish")[0], ("x", "scale", "bias")),
    "excite": (
        lambda ops, x, *a: ops.excite(x, a[:2], a[2:], "swish"),
        ("x", "reduce", "reduce_bias", "expand", "expand_bias"),
    ),
    "excite by a hard sigmoid": (
        lambda ops, x, *a: ops.excite(x, a[:2], a[2:], "relu", "hard_sigmoid"),
        ("x", "reduce", "reduce_bias", "expand", "expand_bias"),
    ),
    "add": (lambda ops, x: ops.add(x, lambda x: x * x), ("x",)),
    "pool": (lambda ops, x: ops.pool(x, 2), ("x",)),
    "average": (lambda ops, x: ops.average(x), ("x",)),
    "loss": (lambda ops, logits: ops.loss(logits, LABELS, 0.1), ("logits",)),
    "repack": (lambda ops, *arrays: ops.repack(arrays, [(N, H, W * C), (C,)])[0], ("x", "scale")),
}
IN_FLOAT32 = ("loss", "repack")
"""What only ever computes with float32."""


def arrays(names: tuple[str, ...], precision: str, seed: int = 0) -> list[jax.Array]:
    """Maps and kernels in `precision`, everything else in float32."""
    rng = np.random.default_rng(seed)
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    return [jnp.asarray(drawn[name], precision if len(SHAPES[name]) == 4 else "float32") for name in names]


def value_and_gradients(operations: Operations, method: str, *inputs: jax.Array) -> list[jax.Array]:
    y, pull = jax.vjp(partial(METHODS[method][0], operations), *inputs)
    return [y, *pull(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape).astype(y.dtype))]


def compiled(operations: Operations, method: str, *inputs: jax.Array) -> list[jax.Array]:
    run: Any = jax.jit(partial(value_and_gradients, operations, method))
    results: list[jax.Array] = run(*inputs)
    return results


def assert_close(actual: list[jax.Array], expected: list[jax.Array], tolerance: float) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        wide, reference = np.asarray(one, np.float64), np.asarray(other, np.float64)
        assert np.abs(wide - reference).max() <= tolerance * np.abs(reference).max()


CASES = [
    pytest.param(name, method, precision, id=f"{name} {method} {precision}")
    for name in NAMES
    if name != "native"
    for method in METHODS
    for precision in ("float32", "bfloat16")
    if precision == "float32" or (method not in IN_FLOAT32 and named(name).serves(precision, sharded=False))
]


@pytest.mark.parametrize(("name", "method", "precision"), CASES)
def test_values_and_gradients_are_those_of_native(name: Any, method: str, precision: str) -> None:
    inputs = arrays(METHODS[method][1], precision)
    # float32: sums of a few hundred terms; bfloat16: sums of nine taps, each rounded to eight bits
    tolerance = 2e-5 if precision == "float32" else 9 * 2**-8
    assert_close(compiled(named(name), method, *inputs), compiled(named("native"), method, *inputs), tolerance)


@pytest.mark.parametrize(
    ("name", "method"),
    # interpreted, the depthwise kernel takes half a minute: `test_gpu.py` has a smaller one
    [(name, method) for name in NAMES for method in METHODS if (name, method) != ("pallas", "depthwise")],
)
def test_several_seeds_under_vmap_give_what_each_gives(name: Any, method: str) -> None:
    seeds = [arrays(METHODS[method][1], "float32", seed) for seed in (0, 1)]
    run: Any = jax.jit(jax.vmap(partial(value_and_gradients, named(name), method)))
    together = run(*map(jnp.stack, zip(*seeds, strict=True)))
    for place, inputs in enumerate(seeds):
        assert_close([each[place] for each in together], compiled(named(name), method, *inputs), 2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_normalises_as_training_does_by_the_same_statistics(name: Any) -> None:
    x, scale, bias = arrays(("x", "scale", "bias"), "float32")
    y, mean, variance = named(name).normalise(x, scale, bias, "relu6")
    assert_close([named(name).normalise_by(x, scale, bias, mean, variance, "relu6")], [y], 2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_operations_are_values(name: Any) -> None:
    """Static attributes of modules and keys of compiled programs: equal and alike in text, or different in both."""
    operations = named(name)
    again, other = dataclasses.replace(operations), dataclasses.replace(operations, max_unrolled=3)
    assert (again, hash(again), repr(again)) == (operations, hash(operations), repr(operations))
    assert other != operations
    assert repr(other) != repr(operations)
    assert [named(each) == operations for each in NAMES] == [each == name for each in NAMES]
    assert len({repr(named(each)) for each in NAMES}) == len(NAMES)


def test_patches_and_groups_by_hand() -> None:
    """Against sums in float64; what lies behind the edge counts as zero."""
    x, patches, groups = (np.asarray(each, np.float64) for each in arrays(("x", "patches", "groups"), "float32"))
    padded = np.pad(x, ((0, 0), (0, 2), (0, 3), (0, 0)))
    cut = [[padded[:, i : i + 4, j : j + 4] for j in (0, 4)] for i in (0, 4)]
    expected = np.array([[np.einsum("nabc,abcd->nd", part, patches) for part in row] for row in cut])
    y = named("shift").patches(jnp.asarray(x, jnp.float32), jnp.asarray(patches, jnp.float32))
    np.testing.assert_allclose(y, expected.transpose(2, 0, 1, 3), rtol=1e-4, atol=1e-4)
    whole = np.zeros((3, 3, C, D))
    for group in range(C // 2):
        part = slice(group * D * 2 // C, (group + 1) * D * 2 // C)
        whole[:, :, 2 * group : 2 * group + 2, part] = groups[:, :, :, part]
    dense, grouped = named("native").convolve, named("native").grouped
    x, whole, groups = (jnp.asarray(each, jnp.float32) for each in (x, whole, groups))
    assert_close([grouped(x, groups, 1)], [dense(x, whole, 1)], 2e-5)
