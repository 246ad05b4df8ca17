"""The flax modules of `my_nets.py`: the gated block, and the whole network in Linen."""

import jax
import numpy as np
from flax import linen, nnx
from jax import numpy as jnp
from my_nets import gate_width

from scalesearch.models.layers import ConvNorm, DepthwiseNorm, squeeze_layer


class GatedBlock(nnx.Module):
    """One block of a `Gated` stage, made of scalesearch's layers, which are fast on a CPU and on a GPU.

    `stage` is the `Gated` stage, `activation` that of the network, `rng` a generator of numpy. `operations` is how this
    machine computes convolutions; layers of flax (`nnx.Conv`, `nnx.BatchNorm`) do not need it.
    """

    def __init__(self, stage, width_in, stride, activation, *, operations, rng):
        use = {"operations": operations, "rng": rng}
        inner = int(gate_width(np.asarray(stage.width), stage.se_ratio))
        self.depthwise = DepthwiseNorm(stage.kernel_size, width_in, stride, activation, **use)
        self.value = ConvNorm(1, width_in, stage.width, 1, activation, **use)
        self.gate = ConvNorm(1, width_in, stage.width, 1, "none", **use)
        self.reduce = squeeze_layer(stage.width, inner, rng=rng) if stage.se_ratio else None
        self.expand = squeeze_layer(inner, stage.width, rng=rng) if stage.se_ratio else None

    def __call__(self, x, *, train):
        """Maps of the stage's width, from x of shape (images, height, width, width_in)."""
        y = self.depthwise(x, train=train)
        y = self.value(y, train=train) * jax.nn.sigmoid(self.gate(y, train=train))
        if self.reduce is None:
            return y
        channels = self.expand(jax.nn.swish(self.reduce(y.mean((1, 2)))))
        return y * jax.nn.sigmoid(channels)[:, None, None, :].astype(y.dtype)


class LinenNet(nnx.Module):
    """A Linen network wrapped: what `ArchitectureSpec.module` names is built and called like this."""

    def __init__(self, spec, *, rngs):
        images = jnp.zeros((1, spec.resolution, spec.resolution, spec.in_channels))
        self.network = nnx.bridge.ToNNX(GatedNetwork(spec), rngs=rngs).lazy_init(images, train=False)

    def __call__(self, images, *, train):
        """Logits of shape (images, classes)."""
        return self.network(images, train=train, mutable=["batch_stats"] if train else False)


class GatedNetwork(linen.Module):
    """The network of a spec in Linen: stem, gated stages, pooling, dropout, classifier."""

    spec: object

    @linen.compact
    def __call__(self, x, *, train):
        """Logits of shape (images, classes)."""

        def convolution(x, width, kernel_size, stride=1, groups=1):
            size, strides = (kernel_size, kernel_size), (stride, stride)
            x = linen.Conv(width, size, strides, use_bias=False, feature_group_count=groups)(x)
            return linen.BatchNorm(use_running_average=not train, momentum=0.9)(x)

        stem = self.spec.stem
        x = linen.swish(convolution(x, stem.width, stem.kernel_size, stem.stride))
        for stage in self.spec.stages:
            for index in range(stage.depth):
                stride, channels = stage.stride if index == 0 else 1, x.shape[-1]
                x = linen.swish(convolution(x, channels, stage.kernel_size, stride, groups=channels))
                x = linen.swish(convolution(x, stage.width, 1)) * linen.sigmoid(convolution(x, stage.width, 1))
                if stage.se_ratio:
                    inner = int(gate_width(np.asarray(stage.width), stage.se_ratio))
                    gate = linen.Dense(stage.width)(linen.swish(linen.Dense(inner)(x.mean((1, 2)))))
                    x = x * linen.sigmoid(gate)[:, None, None, :]
        x = linen.Dropout(0.1, deterministic=not train)(x.mean((1, 2)))
        return linen.Dense(self.spec.num_classes)(x)
