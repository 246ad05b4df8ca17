"""The layers of a network as PyTorch's libraries know them: their arrays by our names, and the checks of exporters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from scalesearch.errors import InputError
from scalesearch.export.blocks import Block, blocks_of
from scalesearch.export.mapping import Entry, Kind
from scalesearch.scaling.architecture import ArchitectureSpec

_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
"""The arrays of a batch normalisation: ours, PyTorch's."""

RESIDUAL = frozenset({"basic", "bottleneck"})
"""Kinds of blocks of a ResNet."""

LAYERS = {
    "mbconv": ("expand", "depthwise", "excite.reduce", "excite.expand", "project"),
    "fused_mbconv": ("expand", "project"),
    "separable": ("depthwise", "pointwise"),
    "basic": ("first", "second", "shortcut"),
    "bottleneck": ("reduce", "middle", "expand", "shortcut"),
}
"""The layers of each kind of block that PyTorch's libraries may have, by our names."""


class Layer(NamedTuple):
    """A layer with a kernel, and the batch normalisation behind it or its bias.

    Attributes:
        name: its plain name, as in `models.names`: `stages.2.0.expand`.
        role: the part of the name within its block; the name itself outside of blocks.
        kind: what the kernel is.
        shape: that of the kernel, in our layout.
        block: the block that it is in.
    """

    name: str
    role: str
    kind: Kind
    shape: tuple[int, ...]
    block: Block | None = None

    @property
    def normed(self) -> bool:
        """Whether batch normalisation follows, and there is no bias."""
        return self.kind in ("convolution", "depthwise")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each array of the layer, by our names."""
        width = self.shape[-1:]
        rest = {f"{self.name}.norm.{part}": width for part in _NORM} if self.normed else {f"{self.name}.bias": width}
        return {f"{self.name}.kernel": self.shape, **rest}


Names = Callable[[Layer], tuple[str, str]]
"""The library's names of a layer and of its batch normalisation, which is the empty text for a layer without."""


def layers_of(spec: ArchitectureSpec) -> list[Layer]:
    """The layers of a network whose blocks are in `LAYERS`, in the order of computation."""
    stem = spec.stem
    layers = [Layer("stem", "stem", "convolution", (stem.kernel_size, stem.kernel_size, spec.in_channels, stem.width))]
    width = stem.width
    for block in (block for stage in blocks_of(spec) for block in stage):
        for role, (kind, shape) in _block_layers(block).items():
            layers.append(Layer(f"{block.name}.{role}", role, kind, shape, block))
        width = block.width
    if spec.head_width:
        layers.append(Layer("head", "head", "convolution", (1, 1, width, spec.head_width)))
    return [*layers, Layer("classifier", "classifier", "dense", (spec.head_width or width, spec.num_classes))]


def table_of(spec: ArchitectureSpec, names: Names) -> list[Entry]:
    """The table of a library that calls the layers by `names`."""
    table = []
    for layer in layers_of(spec):
        ours, (convolution, norm) = layer.name, names(layer)
        table.append(Entry(f"{ours}.kernel", f"{convolution}.weight", layer.kind))
        if layer.normed:
            table += [Entry(f"{ours}.norm.{part}", f"{norm}.{theirs}", "vector") for part, theirs in _NORM.items()]
        else:
            table.append(Entry(f"{ours}.bias", f"{convolution}.bias", "vector"))
    return table


def _block_layers(block: Block) -> dict[str, tuple[Kind, tuple[int, ...]]]:
    """Kind and shape of the kernels of a block, by their roles."""
    k, width_in, inner, squeezed, width = block.kernel_size, block.width_in, block.inner, block.squeezed, block.width
    found: dict[str, tuple[Kind, tuple[int, ...]]] = {}
    if block.kind == "mbconv":
        if block.expands:
            found["expand"] = ("convolution", (1, 1, width_in, inner))
        found["depthwise"] = ("depthwise", (k, k, 1, inner))
        if squeezed:
            found["excite.reduce"] = ("pointwise", (inner, squeezed))
            found["excite.expand"] = ("pointwise", (squeezed, inner))
        found["project"] = ("convolution", (1, 1, inner, width))
    elif block.kind == "fused_mbconv":
        found["expand"] = ("convolution", (k, k, width_in, inner if block.expands else width))
        if block.expands:
            found["project"] = ("convolution", (1, 1, inner, width))
    elif block.kind == "separable":
        found["depthwise"] = ("depthwise", (k, k, 1, width_in))
        found["pointwise"] = ("convolution", (1, 1, width_in, width))
    elif block.kind == "basic":
        found["first"] = ("convolution", (k, k, width_in, width))
        found["second"] = ("convolution", (k, k, width, width))
    elif block.kind == "bottleneck":
        found["reduce"] = ("convolution", (1, 1, width_in, inner))
        found["middle"] = ("convolution", (k, k, inner, inner))
        found["expand"] = ("convolution", (1, 1, inner, width))
    else:
        raise ValueError(f"`LAYERS` must have the kind of every block, but lacks {block.kind}")
    if block.kind in RESIDUAL and not block.same_shape:
        found["shortcut"] = ("convolution", (1, 1, width_in, width))
    return found


def refuse(library: str, reason: str) -> NoReturn:
    """Raises `InputError`: the library has no such network."""
    raise InputError(f"{library} cannot build this network exactly: {reason}")


def check_kinds(spec: ArchitectureSpec, library: str, kinds: Sequence[str]) -> frozenset[str]:
    """The kinds of blocks of `spec`, whose other parts are those of an EfficientNet, a MobileNet or a ResNet.

    Raises `InputError` for a kind that is not among `kinds`, and for parts of other networks.
    """
    blocks = [block for stage in blocks_of(spec) for block in stage]
    found = frozenset(block.kind for block in blocks)
    for kind in sorted(found - {*kinds}):
        refuse(library, f"it has no `{kind}` blocks that an export could use, only {', '.join(kinds)}")
    if found & RESIDUAL and (len(found) > 1 or len({stage.expand_ratio for stage in spec.stages}) > 1):
        refuse(library, "the blocks of its ResNets are all of one kind, with one expansion")
    if spec.stem.norm != "batch" or spec.final_norm != "none" or spec.hidden_width or spec.stem.kernel_size % 2 == 0:
        refuse(library, "its stem is a convolution with batch normalisation, and its classifier one layer")
    if found & RESIDUAL:
        if spec.head_width:
            refuse(library, f"its ResNets have no head, but `head_width` is {spec.head_width}")
        if any(block.kernel_size != 3 for block in blocks):
            refuse(library, "the blocks of its ResNets have kernels of 3×3")
        if spec.padding != "symmetric":
            refuse(library, "its ResNets pad symmetrically")
    elif spec.stem.pool_stride > 1:
        refuse(library, "only its ResNets have a pool behind the stem")
    return found
