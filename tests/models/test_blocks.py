"""Kinds of blocks: each that a spec can name has a module, and a new one needs no edit elsewhere."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from scalesearch.models import blocks
from scalesearch.models.ops.select import named
from scalesearch.scaling.stage import kinds, make_stage

TOY = """
from flax import nnx

from scalesearch.models.layers import ConvNorm


class Block(nnx.Module):
    def __init__(self, stage, width_in, stride, activation, *, operations, rng):
        self.convolution = ConvNorm(1, width_in, stage.width, stride, activation, operations=operations, rng=rng)

    def __call__(self, x, *, train):
        return self.convolution(x, train=train)
"""


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("stride", [1, 2])
def test_every_kind_of_a_spec_has_a_block_of_its_shape(kind: str, stride: int) -> None:
    fields = {"group_width": 2} if kind == "grouped_bottleneck" else {}
    stage = make_stage(kind, kernel_size=3, stride=stride, width=4, depth=1, **fields)
    block = blocks.block_of(kind)(stage, 6, stride, "relu", operations=named("shift"), rng=np.random.default_rng(0))
    y = jax.eval_shape(lambda x: block(x, train=False), jax.ShapeDtypeStruct((2, 5, 5, 6), np.float32))
    assert y.shape == (2, -(-5 // stride), -(-5 // stride), 4)


def test_a_new_kind_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(blocks, "__path__", [*blocks.__path__, str(tmp_path)])
    spec = make_stage("separable", kernel_size=3, stride=2, width=4, depth=1)  # the fields of a kind are in `scaling`
    block = blocks.block_of("toy")(spec, 6, 2, "relu", operations=named("native"), rng=np.random.default_rng(0))
    assert block(jax.numpy.ones((2, 5, 5, 6)), train=False).shape == (2, 3, 3, 4)
    with pytest.raises(ModuleNotFoundError, match="scalesearch.models.blocks.unknown"):
        blocks.block_of("unknown")
