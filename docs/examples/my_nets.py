"""A network of one's own: blocks of gated depthwise convolutions, which are neither MBConv nor ResNet.

This file says what the network costs and how it is described. `my_blocks.py` builds it, so that commands which only
count never import flax.
"""

import dataclasses

from scalesearch.baselines.protocol import (
    OUTPUT,
    POOLED,
    ArchitectureSpec,
    Rounding,
    StageSpec,
    StemSpec,
    Tally,
    make_stage,
)


class Gated(StageSpec):
    """Depthwise k×k with the stride, then x → a(x) · σ(b(x)) with two 1×1 convolutions, then a gate for each channel.

    `se_ratio` is the gate's inner width ÷ the block's width, 0 for no gate; `expand_ratio` is not used.
    """

    block_module = "my_blocks:GatedBlock"

    def check(self):
        """Refuses what the block does not use: called when a stage is made."""
        self.refuse("expand_ratio")

    def tally(self, width_in, width, stride):
        """The cost of one block. Widths are numpy arrays of whole numbers: many networks are counted at once."""
        del stride  # only where layers run depends on it: all run on the output map
        cost = Tally.empty(width).add(OUTPUT, self.kernel_size, width_in, width_in, groups=width_in)
        cost = cost.add(OUTPUT, 1, width_in, width).add(OUTPUT, 1, width_in, width)
        if self.se_ratio:
            inner = gate_width(width, self.se_ratio)
            cost = cost.add(POOLED, 1, width, inner, normalised=False).add(POOLED, 1, inner, width, normalised=False)
        return cost


def gate_width(width, ratio):
    """The inner width of a gate, at least 1: the block and its cost must agree on it."""
    return (width * ratio).astype(int).clip(1)


class TinyNet:
    """The baseline at φ = 0. Without a `rounding`, widths would go to eights."""

    spec = ArchitectureSpec(
        resolution=16,
        in_channels=1,
        num_classes=10,
        stem=StemSpec(width=8, kernel_size=3, stride=1),
        stages=(
            make_stage("my_nets:Gated", kernel_size=3, stride=2, width=8, depth=1),
            make_stage("my_nets:Gated", kernel_size=5, stride=2, width=16, depth=2, se_ratio=0.25),
        ),
        head_width=0,
    )
    rounding = Rounding(width_divisor=2, depth="balanced", resolution_step=1, stem="scaled", head="fixed")


class LinenNet:
    """The same network as a Linen module, which `my_blocks.py` wraps: its costs and sizes are those of `TinyNet`."""

    spec = dataclasses.replace(TinyNet.spec, module="my_blocks:LinenNet")
    rounding = TinyNet.rounding
