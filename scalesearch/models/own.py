"""Networks and blocks of the user's own: flax modules that a spec or a kind names, in the place of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp
from jaxtyping import Array, Float

from scalesearch.errors import InputError
from scalesearch.models.network import Network
from scalesearch.models.ops.base import Operations
from scalesearch.runtime import modules
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.training import Precision


class OwnNetwork(nnx.Module):
    """The flax module that `spec.module` names, called as `Network` is.

    It is built as `Module(spec, rngs=rngs)` and called as `module(images, train=train)`, which gives logits. Variables
    are `nnx.Param`, `nnx.BatchStat` and the state of random streams. In training, the module keeps running statistics
    by itself. Its random streams are set from the key of each step, so that they are those of any other run.
    """

    def __init__(self, spec: ArchitectureSpec, *, operations: Operations, rng: np.random.Generator) -> None:
        self.operations = operations
        build: Callable[..., Any] = modules.load(spec.module, "`module`")
        self.inner = build(spec, rngs=nnx.Rngs(int(rng.integers(2**31))))

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool, dropout_key: Array | None = None
    ) -> Float[Array, "n classes"]:
        """Logits."""
        if dropout_key is not None:
            keys = [node for _, node in nnx.iter_graph(self.inner) if isinstance(node, nnx.RngKey)]
            for place, key in enumerate(keys):
                key.set_value(jax.random.fold_in(dropout_key, place))
        logits: Array = self.inner(images, train=train)
        return logits.astype(jnp.float32)


def build_network(
    spec: ArchitectureSpec,
    *,
    operations: Operations,
    dropout: float,
    rng: np.random.Generator,
    precision: Precision = "float32",
    remat: bool = False,
    stochastic_depth: float = 0.0,
) -> Network | OwnNetwork:
    """The network of `spec`: ours, with the arguments of `Network`, or the user's own.

    Raises `InputError` for settings that only our network has.
    """
    if not spec.module:
        own = next((stage.block for stage in spec.stages if modules.is_own(stage.block)), None)
        if own is not None and stochastic_depth:
            raise InputError(
                f"`training.stochastic_depth` must be 0 for blocks of your own, whose branches are not known, but got "
                f"{stochastic_depth} for {own}"
            )
        return Network(
            spec,
            operations=operations,
            dropout=dropout,
            rng=rng,
            precision=precision,
            remat=remat,
            stochastic_depth=stochastic_depth,
        )
    settings = (("dropout", dropout, 0), ("stochastic_depth", stochastic_depth, 0), ("precision", precision, "float32"))
    for key, value, only in settings:
        if value != only:
            raise InputError(
                f"`training.{key}` must be {only} for a network that {spec.module} builds, which decides on that by "
                f"itself, but got {value}"
            )
    return OwnNetwork(spec, operations=operations, rng=rng)
