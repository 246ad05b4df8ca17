"""What is built has the multiply-adds and parameters that are counted: for every kind of block, and one's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from scalesearch.baselines.protocol import ArchitectureSpec, find_baseline
from scalesearch.baselines.published import NAMES
from scalesearch.errors import InputError
from scalesearch.models.counting import check_own, count_built
from scalesearch.runtime import modules
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import scale
from scalesearch.scaling.cost.count import complexity

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


def small(name: str) -> ArchitectureSpec:
    """A published baseline at a quarter of its width, with odd maps and few blocks."""
    baseline = find_baseline(name)
    spec = scale(baseline.spec, Coefficients(0.01, 0.25, 1), dataclasses.replace(baseline.rounding, depth="ceil"))
    depths = (2, *spec.depths[1:])
    return dataclasses.replace(spec.with_sizes(depths, spec.widths, 37), num_classes=7)


def families() -> list[str]:
    """A published baseline of every combination of blocks, stem and end."""
    shapes = {}
    for name in reversed(NAMES):
        spec = find_baseline(name).spec
        blocks = frozenset((stage.block, bool(stage.se_ratio)) for stage in spec.stages)
        shapes[blocks, spec.activation] = name
    return sorted(shapes.values())


@pytest.mark.parametrize("name", families())
def test_every_kind_of_block_is_built_as_it_is_counted(name: str) -> None:
    spec = small(name)
    counted, built = complexity(spec), count_built(spec)
    assert (built.macs, built.params, built.logits) == (counted.macs, counted.params, (1, 7))
    assert built.variables == ()


WRONG = """
import dataclasses
from flax import nnx
from jax import numpy as jnp
from scalesearch.baselines.protocol import *

class Wrong(StageSpec):
    block_module = "{name}:Block"
    def check(self): pass
    def tally(self, width_in, width, stride):
        kernel_size, where = (1, OUTPUT) if self.se_ratio else (self.kernel_size, INPUT)
        return Tally.empty(width).add(where, kernel_size, width_in, width, normalised=False)

class Block(nnx.Module):
    def __init__(self, stage, width_in, stride, activation, *, operations, rng):
        rngs = nnx.Rngs(int(rng.integers(2**31)))
        size = (stage.kernel_size, stage.kernel_size)
        self.convolution = nnx.Conv(width_in, stage.width, size, stride, padding=(size[0] - 1) // 2, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs) if stage.expand_ratio == 2 else None
    def __call__(self, x, *, train):
        return self.convolution(x)

def spec(module="", stride=1, **fields):
    stage = make_stage("{name}:Wrong", kernel_size=3, stride=stride, width=4, depth=2, **fields)
    return ArchitectureSpec(6, 1, 10, StemSpec(4, 3, 1), (stage,), 0, module=module)

class Logits(nnx.Module):
    def __init__(self, spec, *, rngs):
        self.sums = nnx.Variable(jnp.zeros(3)) if spec.resolution == 7 else None
    def __call__(self, images, *, train):
        return images.mean((1, 2))
"""


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    (tmp_path / "wrong_blocks.py").write_text(WRONG.replace("{name}", "wrong_blocks"), encoding="utf-8")
    modules.look_in(tmp_path)
    return "wrong_blocks"


def test_a_count_that_differs_from_what_is_built_is_refused(wrong: str) -> None:
    make = modules.load(f"{wrong}:spec", "test")
    check_own(make())  # counted right
    where = r"wrong_blocks:Wrong at depths \(2,\), widths \(4, 4, 0\), 6 px"
    with pytest.raises(InputError, match=rf"^{where}: `tally` counts 134 params, but the flax module has 390$"):
        check_own(make(se_ratio=0.5))
    with pytest.raises(InputError, match=rf"^{where}: `tally` counts 7,816 macs, but the flax module has 3,928$"):
        check_own(make(stride=2))
    with pytest.raises(InputError, match="must be nnx.Param and nnx.BatchStat, but got RngCount; dropout needs"):
        check_own(make(expand_ratio=2))
    module = f"{wrong}:Logits"
    with pytest.raises(InputError, match=r"^wrong_blocks:Logits at .*: logits of one image must be of shape \(1, 10\)"):
        check_own(make(module=module))
    with pytest.raises(InputError, match=r"must be float32 nnx.Param and nnx.BatchStat, but got Variable of float32$"):
        check_own(dataclasses.replace(make(module=module), resolution=7))
    check_own(find_baseline("resnet-18").spec)  # ours are not looked at


def test_the_example_in_linen_has_the_counts_of_the_spec() -> None:
    modules.look_in(EXAMPLES)
    spec = find_baseline("my_nets:LinenNet").spec
    check_own(spec)
    counted, built = complexity(spec), count_built(spec)
    assert (built.macs, built.params) == (counted.macs, counted.params) == (53_536, 2346)
