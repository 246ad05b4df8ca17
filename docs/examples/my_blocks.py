"""The flax modules of `my_nets.py`: the gated block, and the same network as a Linen module."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from my_nets import gate_width

from scalesearch.models.layers import ConvNorm, DepthwiseNorm, squeeze_layer


class GatedBlock(nnx.Module):
    """One block of a `Gated` stage, of scalesearch's own layers, which are fast on a CPU and a GPU alike."""

    def __init__(self, stage, width_in, stride, activation, *, operations, rng):
        use = {"operations": operations, "rng": rng}
        self.depthwise = DepthwiseNorm(stage.kernel_size, width_in, stride, activation, **use)
        self.value = ConvNorm(1, width_in, stage.width, 1, activation, **use)
        self.gate = ConvNorm(1, width_in, stage.width, 1, "none", **use)
        inner = int(gate_width(np.asarray(stage.width), stage.se_ratio))
        self.reduce = squeeze_layer(stage.width, inner, rng=rng) if stage.se_ratio else None
        self.expand = squeeze_layer(inner, stage.width, rng=rng) if stage.se_ratio else None

    def __call__(self, x, *, train):
        y = self.depthwise(x, train=train)
        y = self.value(y, train=train) * jax.nn.sigmoid(self.gate(y, train=train))
        if self.reduce is None:
            return y
        channels = self.expand(jax.nn.swish(self.reduce(y.mean((1, 2)))))
        return y * jax.nn.sigmoid(channels)[:, None, None, :].astype(y.dtype)
