"""The network of an `ArchitectureSpec`: stem, stages, head, classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp
from jaxtyping import Array, Float

from scalesearch.models.layers import BatchNorm, ConvNorm, Convolution, LayerNorm, classifier, squeeze_layer
from scalesearch.models.ops.activation import activate
from scalesearch.models.ops.base import Operations
from scalesearch.models.stage import Stage
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.training import Precision

_DEPTH_STREAM = 2**31
"""Makes a key of its own for stochastic depth, beyond the counters of dropout's numbers. Part of every result."""


class Network(nnx.Module):
    """A network built from a spec; its only variables are `nnx.Param` and `nnx.BatchStat`.

    Use it functionally: `graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)` once, then
    `nnx.merge(graphdef, params, stats)` inside a pure function; a call with `train=True` replaces the statistics by
    those of the batch, to be read back with `nnx.state(network, nnx.BatchStat)`.
    """

    def __init__(
        self,
        spec: ArchitectureSpec,
        *,
        operations: Operations,
        dropout: float,
        rng: np.random.Generator,
        precision: Precision = "float32",
        remat: bool = False,
        stochastic_depth: float = 0.0,
    ) -> None:
        """Initial values, drawn from `rng` on the host, are numpy arrays: nothing is compiled.

        `dropout` is the fraction of pooled features dropped in training; the residual branch of block i of N, counted
        from 0, is dropped with probability `stochastic_depth`·i/N. Raises `ValueError` outside [0, 1).
        `precision` is that of maps and products; variables, batch statistics and logits are float32. With `remat` the
        gradient computes the inside of each block again instead of keeping it.
        """
        for name, rate in (("dropout", dropout), ("stochastic_depth", stochastic_depth)):
            if not 0 <= rate < 1:
                raise ValueError(f"`0 <= {name} < 1` must hold, but got {rate!r}")
        operations = dataclasses.replace(operations, epsilon=spec.norm_epsilon, padding=spec.padding)
        self.operations, self.dropout, self.pool_stride = operations, dropout, spec.stem.pool_stride
        self.precision, self.activation = precision, spec.activation
        self.stochastic_depth, self.depths = stochastic_depth, tuple(stage.depth for stage in spec.stages)
        stem, width, activation = spec.stem, spec.stem.width, spec.activation
        sizes = (stem.kernel_size, spec.in_channels, width, stem.stride)
        self.stem = (
            ConvNorm(*sizes, activation, operations=operations, rng=rng)
            if stem.norm == "batch"
            else Convolution(*sizes, biased=stem.norm == "layer", operations=operations, rng=rng)
        )
        self.stem_norm = LayerNorm(width, operations=operations) if stem.norm == "layer" else None
        stages: list[Stage] = []
        for stage in spec.stages:
            stages.append(Stage(stage, width, activation, operations=operations, rng=rng, remat=remat))
            width = stage.width
        self.stages = nnx.List(stages)
        head = spec.head_width
        self.head = ConvNorm(1, width, head, 1, activation, operations=operations, rng=rng) if head else None
        width = head or width
        self.maps_norm = BatchNorm(width, activation, operations=operations) if spec.final_norm == "batch" else None
        self.pooled_norm = LayerNorm(width, operations=operations) if spec.final_norm == "layer" else None
        self.hidden = squeeze_layer(width, spec.hidden_width, rng=rng) if spec.hidden_width else None
        self.classifier = classifier(spec.hidden_width or width, spec.num_classes, rng=rng)

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool, dropout_key: Array | None = None, frozen: bool = False
    ) -> Float[Array, "n classes"]:
        """Logits; those of a `frozen` network come from features as in evaluation.

        Raises `ValueError` for training with dropout or stochastic depth but no `dropout_key`.
        """
        if train and (self.dropout or self.stochastic_depth) and dropout_key is None:
            rates = f"dropout {self.dropout} and stochastic depth {self.stochastic_depth}"
            raise ValueError(f"training with {rates} needs `dropout_key`, but got None")
        body = train and not frozen
        kept: Sequence[Array | None] = [None] * len(self.depths)
        if body and self.stochastic_depth and dropout_key is not None:
            kept = self._kept(dropout_key, len(images))
        images = images.astype(self.precision)
        x = self.stem(images, train=body) if isinstance(self.stem, ConvNorm) else self.stem(images)
        if self.stem_norm is not None:
            x = self.stem_norm(x)
        if self.pool_stride > 1:
            x = self.operations.pool(x, self.pool_stride)
        for stage, some in zip(self.stages, kept, strict=True):
            x = stage(x, train=body, kept=some)
        if self.head is not None:
            x = self.head(x, train=body)
        if self.maps_norm is not None:
            x = self.maps_norm(x, train=body)
        pooled = self.operations.average(x)
        if self.pooled_norm is not None:
            pooled = self.pooled_norm(pooled)
        if self.hidden is not None:
            pooled = activate(self.hidden(pooled), self.activation)
        if train and self.dropout and dropout_key is not None:
            drawn = jax.random.bernoulli(dropout_key, 1 - self.dropout, pooled.shape)
            pooled = jnp.where(drawn, pooled / (1 - self.dropout), 0)
        return self.classifier(pooled)

    def _kept(self, key: Array, images: int) -> list[Float[Array, "depth n"]]:
        """The `Kept` of the blocks of each stage."""
        blocks = sum(self.depths)
        kept_rates = 1 - self.stochastic_depth * np.arange(blocks, dtype=np.float32)[:, None] / blocks
        drawn = jax.random.uniform(jax.random.fold_in(key, _DEPTH_STREAM), (blocks, images))
        kept = jnp.where(drawn < kept_rates, 1 / kept_rates, 0)
        return jnp.split(kept, np.cumsum(self.depths)[:-1])
