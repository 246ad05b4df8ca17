"""Stages: stacked blocks, unrolled or as a loop, compute what the blocks do one after the other."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from scalesearch.models import stage as stages
from scalesearch.models.ops.select import named
from scalesearch.scaling.stage import make_stage


@pytest.mark.parametrize("max_unrolled", [0, 8])
@pytest.mark.parametrize("name", ["kernels", "shift"])
def test_a_stage_is_its_blocks_in_a_row(name: Any, max_unrolled: int) -> None:
    operations = dataclasses.replace(named(name), max_unrolled=max_unrolled)
    spec = make_stage("separable", kernel_size=3, stride=1, expand_ratio=1, width=6, depth=4)
    stage = stages.Stage(spec, 6, "relu", operations=operations, rng=np.random.default_rng(0))
    x = jax.random.normal(jax.random.key(1), (4, 5, 5, 6))
    graphdef, params, stats = nnx.split(stage.repeats, nnx.Param, nnx.BatchStat)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(params)} == {3}

    expected, updated = x, []
    expected = stage.first(expected, train=True)
    for index in range(3):
        variables: Any = jax.tree.map(lambda leaf, index=index: leaf[index], (params, stats))
        block = nnx.merge(graphdef, *variables)
        expected = block(expected, train=True)
        updated.append(nnx.state(block, nnx.BatchStat))
    actual = stage(x, train=True)

    # float32, the same operations in another program: a few units in the last place of maps of size 1
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    after = jax.tree.leaves(nnx.state(stage.repeats, nnx.BatchStat))
    one_by_one = jax.tree.leaves(jax.tree.map(lambda *leaves: np.stack(leaves), *updated))
    for a, b in zip(after, one_by_one, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert not np.allclose(after[0], jax.tree.leaves(stats)[0])
