"""The kinds of blocks, one module each: `StageSpec.block` names the module, whose class `Block` is the block.

A new kind is a new file here (and one in `scaling/cost/`, with its fields and its cost). A kind of the user's own names
its block in `StageSpec.block_module`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scalesearch.errors import InputError
from scalesearch.models.ops.base import Maps, Operations
from scalesearch.runtime import modules
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.stage import StageSpec, kind_of


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


def block_of(kind: str) -> Callable[..., BlockModule]:
    """The block of a kind: class `Block` of the module of that name, or what a kind of the user's own names.

    Raises `InputError` for a kind of the user's own without a block.

    >>> block_of("mbconv").__module__
    'scalesearch.models.blocks.mbconv'
    """
    if modules.is_own(kind):
        return _own_block(kind)
    block: type[BlockModule] = import_module(f"{__name__}.{kind}").Block
    return block


def _own_block(kind: str) -> Callable[..., BlockModule]:
    name = kind_of(kind).block_module
    if not name:
        raise InputError(f"`block_module` of {kind} must name the flax module of its block, but it names none")
    build: Callable[..., BlockModule] = modules.load(name, f"the `block_module` of {kind}")

    def block(*arguments: Any, **named: Any) -> BlockModule:
        module = build(*arguments, **named)
        for _, part in nnx.iter_graph(module):
            if isinstance(part, nnx.BatchNorm):
                part.momentum = 0.0  # statistics of the batch, as our own: the step averages them
            if isinstance(part, nnx.Variable) and not isinstance(part, nnx.Param | nnx.BatchStat):
                raise InputError(
                    f"{name}: the variables of a block must be nnx.Param and nnx.BatchStat, but got "
                    f"{type(part).__name__}; dropout needs a network of your own (`module`)"
                )
        return module

    return block
