"""The kinds of blocks, one module each: `StageSpec.block` names the module, whose class `Block` is the block.

A new kind is a new file here (and one in `scaling/cost/`, with its fields and its cost).
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

import numpy as np
from jaxtyping import Array, Float

from scalesearch.models.ops.base import Maps, Operations
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.stage import StageSpec


class BlockModule(Protocol):
    """A flax module that computes one block of a stage."""

    def __init__(
        self,
        stage: StageSpec,
        width_in: int,
        stride: int,
        activation: Activation,
        *,
        operations: Operations,
        rng: np.random.Generator,
    ) -> None:
        """A block on maps of `width_in` channels. `stride` is 1 except in the first block of a stage."""

    def __call__(self, x: Maps, *, train: bool) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""


def block_of(kind: str) -> type[BlockModule]:
    """The block of a kind: class `Block` of the module of that name. Raises `ModuleNotFoundError` for an unknown one.

    >>> block_of("mbconv").__module__
    'scalesearch.models.blocks.mbconv'
    """
    block: type[BlockModule] = import_module(f"{__name__}.{kind}").Block
    return block
