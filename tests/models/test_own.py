"""Networks and blocks of the user's own in training: their statistics and their random streams."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from scalesearch.baselines.protocol import find_baseline
from scalesearch.errors import InputError
from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.own import build_network
from scalesearch.runtime import modules
from scalesearch.training.state import layout_of, weights_of

OWN = """
from flax import nnx
from scalesearch.baselines.protocol import *

class Plain(StageSpec):
    block_module = "plain_nets:Block"
    def check(self): pass
    def tally(self, width_in, width, stride):
        return Tally.empty(width).add(OUTPUT, self.kernel_size, width_in, width)

class Block(nnx.Module):
    def __init__(self, stage, width_in, stride, activation, *, operations, rng):
        rngs = nnx.Rngs(int(rng.integers(2**31)))
        self.convolution = nnx.Conv(width_in, stage.width, (1, 1), stride, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(stage.width, rngs=rngs)
    def __call__(self, x, *, train):
        return self.norm(self.convolution(x), use_running_average=not train)

class Whole(nnx.Module):
    def __init__(self, spec, *, rngs):
        self.norm = nnx.BatchNorm(1, momentum=0.75, use_bias=False, use_scale=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
    def __call__(self, images, *, train):
        y = self.norm(images, use_running_average=not train)
        return self.dropout(y, deterministic=not train).reshape(len(images), -1)

class Net:
    stages = (make_stage("plain_nets:Plain", kernel_size=1, stride=1, width=2, depth=1),)
    spec = ArchitectureSpec(4, 1, 16, StemSpec(1, 1, 1), stages, 0)
"""


@pytest.fixture
def network(tmp_path: Path) -> Any:
    """Builds the network above: of blocks, or that of a module."""
    (tmp_path / "plain_nets.py").write_text(OWN, encoding="utf-8")
    modules.look_in(tmp_path)
    spec = find_baseline("plain_nets:Net").spec

    def build(module: str = "", **settings: Any) -> Any:
        named = dataclasses.replace(spec, module=module)
        settings = {"dropout": 0.0, **settings}
        return build_network(named, operations=NativeOperations(), rng=np.random.default_rng(0), **settings)

    return build


def trained(network: Any, images: Any, key: Any) -> tuple[Any, Any]:
    """Logits and statistics of a call in training, inside a gradient as in a step."""
    layout, weights = layout_of(network), weights_of(network)
    stats = layout.stats.unpack(jax.tree.map(jnp.asarray, weights.stats))

    def run(params: Any) -> Any:
        merged = layout.network(params, stats)
        logits = merged(images, train=True, dropout_key=key)
        return logits.sum(), (logits, nnx.state(merged, nnx.BatchStat))

    params = layout.params.unpack(jax.tree.map(jnp.asarray, weights.params))
    (_, results), _ = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
    return results


def test_layers_of_flax_in_a_block_give_the_statistics_of_the_batch(network: Any) -> None:
    images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    built = network()
    kernel = built.stages[0].first.convolution.kernel[...]
    x = built.stem(images, train=True) @ kernel[0, 0]
    _, stats = trained(network(), images, None)
    norm = stats["stages"][0]["first"]["norm"]
    np.testing.assert_allclose(norm["mean"][...], x.mean((0, 1, 2)), rtol=1e-5, atol=1e-6)  # float32
    np.testing.assert_allclose(norm["var"][...], x.var((0, 1, 2)), rtol=1e-5, atol=1e-6)


def test_a_whole_network_averages_by_itself_and_draws_from_the_key_of_the_step(network: Any) -> None:
    images = 3 + 2 * jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    whole = network("plain_nets:Whole")
    assert layout_of(whole).averages
    assert not layout_of(network()).averages
    keys = [jax.random.wrap_key_data(np.array([0, place], np.uint32), impl="threefry2x32") for place in (1, 1, 2)]
    (first, stats), (again, _), (other, _) = (trained(whole, images, key) for key in keys)
    np.testing.assert_allclose(stats["inner"]["norm"]["mean"][...], 0.25 * images.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(first, again)
    assert 0.3 < float((np.asarray(first) == 0).mean()) < 0.7
    assert (np.asarray(first) != np.asarray(other)).any()


@pytest.mark.parametrize(("key", "value"), [("dropout", 0.1), ("stochastic_depth", 0.2), ("precision", "bfloat16")])
def test_settings_that_a_whole_network_does_not_take_are_refused(network: Any, key: str, value: Any) -> None:
    with pytest.raises(
        InputError, match=rf"^`training.{key}` must be .* that plain_nets:Whole builds, .* got {value}$"
    ):
        network("plain_nets:Whole", **{key: value})


def test_blocks_of_ones_own_have_no_stochastic_depth(network: Any) -> None:
    with pytest.raises(InputError, match=r"`training.stochastic_depth` must be 0 .* got 0.2 for plain_nets:Plain"):
        network(stochastic_depth=0.2)
