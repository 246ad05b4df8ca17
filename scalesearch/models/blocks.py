"""The four blocks of an `ArchitectureSpec`: mbconv, separable, basic, bottleneck."""

from __future__ import annotations

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scalesearch.models.layers import ConvNorm, DepthwiseNorm, SqueezeExcite
from scalesearch.models.ops.select import Forms, beside
from scalesearch.models.ops.shift.normalise import activate
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.cost.mbconv import squeeze_width
from scalesearch.scaling.stage import StageSpec

Maps = Float[Array, "n h w c"]


class MBConv(nnx.Module):
    """Expand 1×1, depthwise k×k, squeeze-excite, project 1×1 without activation (arXiv:1801.04381, 1905.11946)."""

    def __init__(
        self,
        stage: StageSpec,
        width_in: int,
        stride: int,
        activation: Activation,
        *,
        forms: Forms,
        rng: np.random.Generator,
    ) -> None:
        inner = width_in * stage.expand_ratio
        self.expand = (
            ConvNorm(1, width_in, inner, 1, activation, forms=forms, rng=rng) if stage.expand_ratio != 1 else None
        )
        self.depthwise = DepthwiseNorm(stage.kernel_size, inner, stride, activation, forms=forms, rng=rng)
        squeezed = int(squeeze_width(np.asarray(width_in), stage.se_ratio))
        self.excite = SqueezeExcite(inner, squeezed, activation, forms=forms, rng=rng) if stage.se_ratio else None
        self.project = ConvNorm(1, inner, stage.width, 1, "none", forms=forms, rng=rng)
        self.skip, self.forms = stride == 1 and width_in == stage.width, forms

    def __call__(self, x: Maps, *, train: bool) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""

        def branch(x: Maps) -> Maps:
            y = x if self.expand is None else self.expand(x, train=train)
            y = self.depthwise(y, train=train)
            y = y if self.excite is None else self.excite(y)
            return self.project(y, train=train)

        return beside(x, branch, self.forms) if self.skip else branch(x)


class Separable(nnx.Module):
    """Depthwise k×k, then 1×1, each with activation (MobileNetV1, arXiv:1704.04861)."""

    def __init__(
        self,
        stage: StageSpec,
        width_in: int,
        stride: int,
        activation: Activation,
        *,
        forms: Forms,
        rng: np.random.Generator,
    ) -> None:
        self.depthwise = DepthwiseNorm(stage.kernel_size, width_in, stride, activation, forms=forms, rng=rng)
        self.pointwise = ConvNorm(1, width_in, stage.width, 1, activation, forms=forms, rng=rng)

    def __call__(self, x: Maps, *, train: bool) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""
        return self.pointwise(self.depthwise(x, train=train), train=train)


class Basic(nnx.Module):
    """Two k×k convolutions beside a shortcut (arXiv:1512.03385 §3.3, projection where the shape changes)."""

    def __init__(
        self,
        stage: StageSpec,
        width_in: int,
        stride: int,
        activation: Activation,
        *,
        forms: Forms,
        rng: np.random.Generator,
    ) -> None:
        k, width = stage.kernel_size, stage.width
        self.activation = activation
        self.first = ConvNorm(k, width_in, width, stride, activation, forms=forms, rng=rng)
        self.second = ConvNorm(k, width, width, 1, "none", forms=forms, rng=rng)
        self.shortcut = _shortcut(width_in, width, stride, forms=forms, rng=rng)

    def __call__(self, x: Maps, *, train: bool) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""
        y = self.second(self.first(x, train=train), train=train)
        return activate(y + (x if self.shortcut is None else self.shortcut(x, train=train)), self.activation)


class Bottleneck(nnx.Module):
    """Reduce 1×1, k×k with the stride, expand 1×1, beside a shortcut (torchvision's ResNet)."""

    def __init__(
        self,
        stage: StageSpec,
        width_in: int,
        stride: int,
        activation: Activation,
        *,
        forms: Forms,
        rng: np.random.Generator,
    ) -> None:
        inner = stage.width // stage.expand_ratio
        self.activation = activation
        self.reduce = ConvNorm(1, width_in, inner, 1, activation, forms=forms, rng=rng)
        self.middle = ConvNorm(stage.kernel_size, inner, inner, stride, activation, forms=forms, rng=rng)
        self.expand = ConvNorm(1, inner, stage.width, 1, "none", forms=forms, rng=rng)
        self.shortcut = _shortcut(width_in, stage.width, stride, forms=forms, rng=rng)

    def __call__(self, x: Maps, *, train: bool) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""
        y = self.expand(self.middle(self.reduce(x, train=train), train=train), train=train)
        return activate(y + (x if self.shortcut is None else self.shortcut(x, train=train)), self.activation)


def _shortcut(width_in: int, width: int, stride: int, *, forms: Forms, rng: np.random.Generator) -> ConvNorm | None:
    if stride == 1 and width_in == width:
        return None
    return ConvNorm(1, width_in, width, stride, "none", forms=forms, rng=rng)


BLOCKS: dict[str, type[MBConv] | type[Separable] | type[Basic] | type[Bottleneck]] = {
    "mbconv": MBConv,
    "separable": Separable,
    "basic": Basic,
    "bottleneck": Bottleneck,
}
