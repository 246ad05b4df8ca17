"""Plain names of variables, and the conventions of other libraries that a spec carries."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from jax import lax

from scalesearch.baselines.published import baseline
from scalesearch.errors import InputError
from scalesearch.models import layers
from scalesearch.models.names import initial_arrays, named_arrays, shapes_of, state_of
from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.own import build_network
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage

SPEC = ArchitectureSpec(
    resolution=9,
    in_channels=1,
    num_classes=3,
    stem=StemSpec(width=4, kernel_size=3, stride=2),
    stages=(make_stage("mbconv", kernel_size=3, stride=2, expand_ratio=2, width=6, depth=3, se_ratio=0.25),),
    head_width=8,
)


def network(spec=SPEC):
    return build_network(spec, operations=NativeOperations(), dropout=0.0, rng=np.random.default_rng(0))


def test_blocks_are_named_one_by_one_and_come_back_stacked():
    state = nnx.state(network(), (nnx.Param, nnx.BatchStat))
    named = named_arrays(state)
    assert {name.split(".")[2] for name in named if name.startswith("stages.0.")} == {"0", "1", "2"}
    assert named["stages.0.2.expand.kernel"].shape == (1, 1, 6, 12)
    assert shapes_of(SPEC) == {name: array.shape for name, array in named.items()}
    restored = state_of(named, state, "here")
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda named: named.pop("head.kernel"), "w.npz: lacks `head.kernel`"),
        (lambda named: named.update(more=np.zeros(1)), "w.npz: holds what the network does not have: `more`"),
        (
            lambda named: named.update({"head.kernel": np.zeros((1, 1, 6, 7))}),
            r"w.npz: `head.kernel` must have shape \(1, 1, 6, 8\), but has \(1, 1, 6, 7\)",
        ),
        (lambda named: named["head.kernel"].fill(np.nan), "w.npz: `head.kernel` holds numbers that are not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_named(change, message):
    named = {name: array.copy() for name, array in initial_arrays(SPEC, 0).items()}
    change(named)
    with pytest.raises(InputError, match=message):
        state_of(named, nnx.state(network(), (nnx.Param, nnx.BatchStat)), "w.npz")


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 2), (5, 2), (7, 2), (1, 2), (3, 1), (3, 3), (5, 4)])
def test_same_padding_is_that_of_xla(size, kernel_size, stride):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, size, size + 1, 3), np.float32)
    operations = dataclasses.replace(NativeOperations(), padding="same")
    for groups, shape in ((1, (3, 4)), (3, (1, 3))):
        kernel = rng.standard_normal((kernel_size, kernel_size, *shape), np.float32)
        expected = lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
        )
        apply = layers.convolve if groups == 1 else layers.depthwise
        np.testing.assert_allclose(apply(operations, x, kernel, stride), expected, atol=1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_epsilon_is_that_of_the_spec(train):
    rng = np.random.default_rng(0)
    x = 0.01 * rng.standard_normal((4, 5, 5, 2)).astype(np.float32)  # a variance that epsilon matters to
    norm = layers.BatchNorm(2, "none", operations=dataclasses.replace(NativeOperations(), epsilon=1e-5))
    norm.mean[...], norm.var[...] = np.float32([0.01, 0.0]), np.float32([2e-4, 1e-4])
    mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (norm.mean[...], norm.var[...])
    np.testing.assert_allclose(norm(x, train=train), (x - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.var[...], var, rtol=1e-4)


def test_conventions_of_a_spec_reach_its_layers():
    images = np.random.default_rng(0).standard_normal((1, 8, 8, 1)).astype(np.float32)
    logits = [
        network(dataclasses.replace(SPEC, **change))(images, train=False)
        for change in ({}, {"padding": "same"}, {"norm_epsilon": 1e-5})
    ]
    assert not np.allclose(logits[0], logits[1], rtol=1e-3)
    assert not np.allclose(logits[0], logits[2], rtol=1e-4)
    pooled = dataclasses.replace(baseline("resnet-18").spec, norm_epsilon=1e-5)
    with pytest.raises(ValueError, match="`padding` must be symmetric"):
        dataclasses.replace(pooled, padding="same")
