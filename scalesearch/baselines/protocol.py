"""Baselines of the user's own, in Python: what their module must hold, and everything that it needs to import.

A study names such a baseline as `baseline = "my_nets:TinyNet"`. `TinyNet` is an object with the attributes of
`OwnBaseline`. A kind of block that does not exist yet is a subclass of `StageSpec` in the same module, or another one:

    from scalesearch.baselines.protocol import OUTPUT, ArchitectureSpec, StageSpec, StemSpec, Tally, make_stage

    class Gated(StageSpec):
        block_module = "my_blocks:GatedBlock"  # the flax module of one block

        def check(self):
            self.refuse("expand_ratio", "se_ratio")  # fields that it does not use

        def tally(self, width_in, width, stride):  # its cost
            return Tally.empty(width).add(OUTPUT, self.kernel_size, width_in, 2 * width)

    class TinyNet:
        stages = (make_stage("my_nets:Gated", kernel_size=3, stride=2, width=16, depth=2),)
        spec = ArchitectureSpec(28, 1, 10, StemSpec(8, 3, 1), stages, head_width=0)

`ArchitectureSpec.module` names a flax module of the whole network, which is then built in place of stem, stages, head
and classifier; they still say what it costs. Flax is imported in the modules that `block_module` and `module` name: if
they are other modules than that of the baseline, `scalesearch plan`, which never imports them, stays fast.
"""

from __future__ import annotations

import math
from typing import Protocol

from scalesearch.baselines import published
from scalesearch.errors import InputError
from scalesearch.runtime import modules
from scalesearch.runtime.text import short
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.compound import Baseline, Rounding
from scalesearch.scaling.cost.tally import INPUT, OUTPUT, POOLED, IntArray, Tally
from scalesearch.scaling.stage import StageSpec, kind_of, make_stage

__all__ = [
    "INPUT", "OUTPUT", "POOLED", "ArchitectureSpec", "Baseline", "IntArray", "OwnBaseline", "Rounding", "StageSpec",
    "StemSpec", "Tally", "find_baseline", "make_stage", "own_code", "usual_rounding",
]  # fmt: skip


class OwnBaseline(Protocol):
    """What "module:name" must name: a class or an object with a spec, and a rounding if the usual one does not do.

    Attributes:
        spec: the network at φ = 0. Channels, classes and resolution follow the data as those of published baselines.
        rounding: a `Rounding`, how multipliers become whole numbers; `usual_rounding` of the spec if there is none.
    """

    spec: ArchitectureSpec


def find_baseline(name: str) -> Baseline:
    """The published baseline called `name`, or one of the user's own, "module:name".

    Raises `InputError`: there is none, or it is not what `OwnBaseline` says.

    >>> find_baseline("mobilenet-v1").spec.resolution
    224
    """
    if not modules.is_own(name):
        return published.baseline(name)
    own = modules.load(name, "`name`")
    spec, rounding = getattr(own, "spec", None), getattr(own, "rounding", None)
    if not isinstance(spec, ArchitectureSpec):
        raise InputError(f"`name` names {name}, whose `spec` must be an ArchitectureSpec, but is {short(spec)}")
    if not isinstance(rounding, Rounding | None):
        raise InputError(f"`name` names {name}, whose `rounding` must be a Rounding, but is {short(rounding)}")
    return Baseline(name, spec, rounding or usual_rounding(spec))


def usual_rounding(spec: ArchitectureSpec) -> Rounding:
    """How a network of one's own is rounded unless it says otherwise: widths to eights, depths balanced."""
    largest = max(stage.usual_divisor for stage in spec.stages)
    divisor = math.lcm(largest, *(stage.width_multiple for stage in spec.stages))
    return Rounding(divisor, "balanced", 1, "scaled", "scaled" if spec.head_width else "fixed")


def own_code(spec: ArchitectureSpec) -> dict[str, str]:
    """The names of code of the user's own that count and build `spec`, each with what holds it, in errors."""
    names = {spec.module: "`module`"} if spec.module else {}
    for block in {stage.block for stage in spec.stages if modules.is_own(stage.block)}:
        names[block] = "`block`"
        if inner := kind_of(block).block_module:
            names[inner] = f"the `block_module` of {block}"
    return names
