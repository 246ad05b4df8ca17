"""The computation of `models.network` as a sequence of layers, which a `Builder` makes in its library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Literal, NamedTuple, TypeVar

from scalesearch.export.blocks import Block, blocks_of
from scalesearch.scaling.architecture import Activation, ArchitectureSpec

ActivationOrNone = Activation | Literal["none"]
Gate = Literal["sigmoid", "hard_sigmoid"]
T = TypeVar("T")


class Convolution(NamedTuple):
    """A convolution of square maps.

    Attributes:
        name: its plain name; the kernel is `name.kernel`, the bias `name.bias`.
        kernel_size, width_in, width, stride: its sizes.
        size: height and width of its map.
        pads: zeros before and after the map, along each axis.
        group_width: input channels of each group; `width_in` for one group, 1 if it is depthwise.
        biased: whether it has a bias.
    """

    name: str
    kernel_size: int
    width_in: int
    width: int
    stride: int
    size: int
    pads: tuple[int, int]
    group_width: int
    biased: bool = False

    @property
    def groups(self) -> int:
        """The number of groups."""
        return self.width_in // self.group_width


class Builder(ABC, Generic[T]):
    """Makes layers of a library. Maps and vectors are values of the library; names are those of `models.names`."""

    @abstractmethod
    def convolve(self, x: T, layer: Convolution) -> T:
        """The convolution, with its bias if it has one."""

    @abstractmethod
    def normalise(self, x: T, name: str) -> T:
        """Batch normalisation by the stored statistics."""

    @abstractmethod
    def layer_normalise(self, x: T, name: str, *, maps: bool) -> T:
        """Layer normalisation over the channels of maps, or of vectors."""

    @abstractmethod
    def activate(self, x: T, activation: ActivationOrNone, name: str) -> T:
        """The activation; `name` is that of the layer whose result x is."""

    @abstractmethod
    def excite(self, x: T, name: str, widths: tuple[int, int], activation: ActivationOrNone, gate: Gate) -> T:
        """Squeeze-excite; `widths` are those of the maps and between the two layers."""

    @abstractmethod
    def rescale(self, x: T, name: str) -> T:
        """Maps times the factor of each channel, which is the array `name`."""

    @abstractmethod
    def add(self, x: T, y: T, name: str) -> T:
        """The sum; `name` is that of the block."""

    @abstractmethod
    def pool(self, x: T, stride: int) -> T:
        """The largest value of each 3×3 window; one place is padded on each side."""

    @abstractmethod
    def average(self, x: T) -> T:
        """The mean of each channel over the map, as vectors."""

    @abstractmethod
    def dense(self, x: T, name: str, widths: tuple[int, int]) -> T:
        """The fully connected layer from `widths[0]` to `widths[1]`."""

    def convolve_and_normalise(self, x: T, layer: Convolution) -> T:
        """The convolution, then its batch normalisation."""
        return self.normalise(self.convolve(x, layer), f"{layer.name}.norm")


def build(spec: ArchitectureSpec, builder: Builder[T], images: T) -> T:
    """The logits of standardised `images`. Raises `InputError` for a network with code of the user's own."""
    return _Walk(spec, builder).logits(images)


class _Walk(Generic[T]):
    """`build`, with the size of the maps as it goes."""

    def __init__(self, spec: ArchitectureSpec, builder: Builder[T]) -> None:
        self.spec, self.builder, self.size, self.stages = spec, builder, spec.resolution, blocks_of(spec)

    def logits(self, x: T) -> T:
        spec, make = self.spec, self.builder
        stem, width = spec.stem, spec.stem.width
        sizes = (stem.kernel_size, spec.in_channels, width, stem.stride)
        if stem.norm == "batch":
            x = self._conv_norm(x, "stem", *sizes, spec.activation)
        else:
            x = self._conv(x, "stem", *sizes, biased=stem.norm == "layer")
            if stem.norm == "layer":
                x = make.layer_normalise(x, "stem_norm", maps=True)
        if stem.pool_stride > 1:
            x, self.size = make.pool(x, stem.pool_stride), -(-self.size // stem.pool_stride)
        for blocks in self.stages:
            for block in blocks:
                x = getattr(self, f"_{block.kind}")(x, block)
                width = block.width
        if spec.head_width:
            x, width = self._conv_norm(x, "head", 1, width, spec.head_width, 1, spec.activation), spec.head_width
        if spec.final_norm == "batch":
            x = make.activate(make.normalise(x, "maps_norm"), spec.activation, "maps_norm")
        x = make.average(x)
        if spec.final_norm == "layer":
            x = make.layer_normalise(x, "pooled_norm", maps=False)
        if spec.hidden_width:
            x = make.activate(make.dense(x, "hidden", (width, spec.hidden_width)), spec.activation, "hidden")
        return make.dense(x, "classifier", (spec.hidden_width or width, spec.num_classes))

    # The kinds of blocks, as in `models.blocks`.

    def _mbconv(self, x: T, block: Block, squeeze: ActivationOrNone | None = None, gate: Gate = "sigmoid") -> T:
        name, activation, inner = block.name, block.activation, block.inner
        y = self._conv_norm(x, f"{name}.expand", 1, block.width_in, inner, 1, activation) if block.expands else x
        sizes = (block.kernel_size, inner, inner, block.stride)
        y = self._conv_norm(y, f"{name}.depthwise", *sizes, activation, group_width=1)
        if block.squeezed:
            y = self.builder.excite(y, f"{name}.excite", (inner, block.squeezed), squeeze or activation, gate)
        y = self._conv_norm(y, f"{name}.project", 1, inner, block.width, 1, "none")
        return self.builder.add(y, x, name) if block.same_shape else y

    def _bneck(self, x: T, block: Block) -> T:
        return self._mbconv(x, block, "relu", "hard_sigmoid")

    def _fused_mbconv(self, x: T, block: Block) -> T:
        sizes = (block.kernel_size, block.width_in, block.inner if block.expands else block.width, block.stride)
        y = self._conv_norm(x, f"{block.name}.expand", *sizes, block.activation)
        if block.expands:
            y = self._conv_norm(y, f"{block.name}.project", 1, block.inner, block.width, 1, "none")
        return self.builder.add(y, x, block.name) if block.same_shape else y

    def _separable(self, x: T, block: Block) -> T:
        sizes = (block.kernel_size, block.width_in, block.width_in, block.stride)
        x = self._conv_norm(x, f"{block.name}.depthwise", *sizes, block.activation, group_width=1)
        return self._conv_norm(x, f"{block.name}.pointwise", 1, block.width_in, block.width, 1, block.activation)

    def _basic(self, x: T, block: Block) -> T:
        name, k, size = block.name, block.kernel_size, self.size
        y = self._conv_norm(x, f"{name}.first", k, block.width_in, block.width, block.stride, block.activation)
        y = self._conv_norm(y, f"{name}.second", k, block.width, block.width, 1, "none")
        return self._joined(y, x, block, size)

    def _bottleneck(self, x: T, block: Block) -> T:
        name, inner, size = block.name, block.inner, self.size
        y = self._conv_norm(x, f"{name}.reduce", 1, block.width_in, inner, 1, block.activation)
        sizes = (block.kernel_size, inner, inner, block.stride)
        y = self._conv_norm(y, f"{name}.middle", *sizes, block.activation, group_width=block.group_width or inner)
        if block.squeezed:
            y = self.builder.excite(y, f"{name}.excite", (inner, block.squeezed), block.activation, "sigmoid")
        y = self._conv_norm(y, f"{name}.expand", 1, inner, block.width, 1, "none")
        return self._joined(y, x, block, size)

    _grouped_bottleneck = _bottleneck

    def _preactivation(self, x: T, block: Block) -> T:
        name, make, k = block.name, self.builder, block.kernel_size
        z = make.activate(make.normalise(x, f"{name}.norm"), block.activation, f"{name}.norm")
        size = self.size
        y = self._conv_norm(z, f"{name}.first", k, block.width_in, block.width, block.stride, block.activation)
        y = self._conv(y, f"{name}.second", k, block.width, block.width, 1)
        if not block.same_shape:
            self.size = size
            x = self._conv(z, f"{name}.shortcut", 1, block.width_in, block.width, block.stride)
        return make.add(y, x, name)

    def _convnext(self, x: T, block: Block) -> T:
        name, make, width = block.name, self.builder, block.width
        if not block.same_shape:
            x = make.layer_normalise(x, f"{name}.reduce_norm", maps=True)
            x = self._conv(x, f"{name}.reduce", block.stride, block.width_in, width, block.stride, biased=True)
        y = self._conv(x, f"{name}.depthwise", block.kernel_size, width, width, 1, biased=True, group_width=1)
        y = make.layer_normalise(y, f"{name}.norm", maps=True)
        y = self._conv(y, f"{name}.expand", 1, width, block.inner, 1, biased=True)
        y = self._conv(
            make.activate(y, block.activation, f"{name}.expand"),
            f"{name}.project",
            1,
            block.inner,
            width,
            1,
            biased=True,
        )
        return make.add(make.rescale(y, f"{name}.layer_scale"), x, name)

    def _joined(self, y: T, x: T, block: Block, size: int) -> T:
        """A residual block's branch `y` and its input `x`, whose maps are of `size`, activated."""
        if not block.same_shape:
            self.size = size
            x = self._conv_norm(x, f"{block.name}.shortcut", 1, block.width_in, block.width, block.stride, "none")
        return self.builder.activate(self.builder.add(y, x, block.name), block.activation, f"{block.name}.add")

    # Layers.

    def _conv_norm(
        self,
        x: T,
        name: str,
        k: int,
        width_in: int,
        width: int,
        stride: int,
        activation: ActivationOrNone,
        *,
        group_width: int = 0,
    ) -> T:
        layer = self._layer(name, k, width_in, width, stride, group_width)
        return self.builder.activate(self.builder.convolve_and_normalise(x, layer), activation, f"{name}.norm")

    def _conv(
        self,
        x: T,
        name: str,
        k: int,
        width_in: int,
        width: int,
        stride: int,
        *,
        biased: bool = False,
        group_width: int = 0,
    ) -> T:
        return self.builder.convolve(
            x, self._layer(name, k, width_in, width, stride, group_width)._replace(biased=biased)
        )

    def _layer(self, name: str, k: int, width_in: int, width: int, stride: int, group_width: int) -> Convolution:
        size, places = self.size, -(-self.size // stride)
        if k % 2 == 0:  # in patches
            pads = (0, places * k - size)
        elif self.spec.padding == "symmetric":
            pads = (k // 2, k // 2)
        else:
            total = max((places - 1) * stride + k - size, 0)
            pads = (total // 2, total - total // 2)
        self.size = places
        return Convolution(name, k, width_in, width, stride, size, pads, group_width or width_in)
