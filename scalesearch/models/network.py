"""The network of an `ArchitectureSpec`: stem, stages, head, classifier."""

from __future__ import annotations

import dataclasses

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
    ) -> None:
        """Initial values, drawn from `rng` on the host, are numpy arrays: nothing is compiled.

        `dropout` is the fraction of pooled features dropped in training. Raises `ValueError` outside [0, 1).
        `precision` is that of maps and products; variables, batch statistics and logits are float32. With `remat` the
        gradient computes the inside of each block again instead of keeping it.
        """
        if not 0 <= dropout < 1:
            raise ValueError(f"`0 <= dropout < 1` must hold, but got {dropout!r}")
        operations = dataclasses.replace(operations, epsilon=spec.norm_epsilon, padding=spec.padding)
        self.operations, self.dropout, self.pool_stride = operations, dropout, spec.stem.pool_stride
        self.precision, self.activation = precision, spec.activation
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
        self, images: Float[Array, "n h w c"], *, train: bool, dropout_key: Array | None = None
    ) -> Float[Array, "n classes"]:
        """Logits. Raises `ValueError` for training with dropout but no `dropout_key`."""
        if train and self.dropout and dropout_key is None:
            raise ValueError(f"training with dropout {self.dropout} needs `dropout_key`, but got None")
        images = images.astype(self.precision)
        x = self.stem(images, train=train) if isinstance(self.stem, ConvNorm) else self.stem(images)
        if self.stem_norm is not None:
            x = self.stem_norm(x)
        if self.pool_stride > 1:
            x = self.operations.pool(x, self.pool_stride)
        for stage in self.stages:
            x = stage(x, train=train)
        if self.head is not None:
            x = self.head(x, train=train)
        if self.maps_norm is not None:
            x = self.maps_norm(x, train=train)
        pooled = self.operations.average(x)
        if self.pooled_norm is not None:
            pooled = self.pooled_norm(pooled)
        if self.hidden is not None:
            pooled = activate(self.hidden(pooled), self.activation)
        if train and self.dropout and dropout_key is not None:
            kept = jax.random.bernoulli(dropout_key, 1 - self.dropout, pooled.shape)
            pooled = jnp.where(kept, pooled / (1 - self.dropout), 0)
        return self.classifier(pooled)
