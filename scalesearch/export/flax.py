"""flax: network.py, which builds the network with plain Flax NNX and without scalesearch, and weights.safetensors."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2

from scalesearch.export.blocks import Block, blocks_of
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.count import complexity
from scalesearch.trained.card import ModelCard, NamedArrays
from scalesearch.trained.weights import write_weights

NETWORK_FILE = "network.py"
MOMENTUM = 0.99
"""Of batch statistics in further training, as in the released EfficientNet."""

_ACTIVATIONS = {
    "swish": "jax.nn.swish",
    "relu": "jax.nn.relu",
    "relu6": "jax.nn.relu6",
    "hard_swish": "jax.nn.hard_swish",
    "gelu": "partial(jax.nn.gelu, approximate=False)",
}
_CLASSES = {
    "mbconv": "MBConv",
    "bneck": "MBConv",
    "fused_mbconv": "FusedMBConv",
    "separable": "Separable",
    "basic": "Basic",
    "bottleneck": "Bottleneck",
    "grouped_bottleneck": "Bottleneck",
    "preactivation": "Preactivation",
    "convnext": "ConvNeXt",
}


def export(card: ModelCard, arrays: NamedArrays | None, target: Path) -> None:
    """Writes both files into the folder `target`; without `arrays`, network.py alone."""
    (target / NETWORK_FILE).write_text(source(card, weighted=arrays is not None), encoding="utf-8")
    if arrays is not None:
        write_weights(target, arrays)


def source(card: ModelCard, *, weighted: bool) -> str:
    """The text of network.py."""
    spec, stages = card.spec, blocks_of(card.spec)
    blocks = [block for stage in stages for block in stage]
    counted, preprocessing = complexity(spec), card.preprocessing
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("scalesearch.export"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    kernels = [spec.stem.kernel_size, *(block.stride for block in blocks if block.kind == "convnext")]
    layer_norms = "convnext" in {block.kind for block in blocks} or "layer" in (spec.stem.norm, spec.final_norm)
    return environment.get_template("flax_network.py.jinja").render(
        name=" ".join(card.name.split()).replace("\\", "/").replace('"', "'"),
        version=version("scalesearch"),
        macs=f"{counted.macs:,}",
        params=f"{counted.params:,}",
        weighted=weighted,
        resolution=spec.resolution,
        channels=spec.in_channels,
        num_classes=spec.num_classes,
        classes=_tuple([json.dumps(each, ensure_ascii=False) for each in card.classes]),
        mean=preprocessing and preprocessing.mean,
        std=preprocessing and preprocessing.std,
        fit=preprocessing and preprocessing.fit,
        activation=_ACTIVATIONS[spec.activation],
        gelu="gelu" in {spec.activation, *(block.activation for block in blocks)},
        epsilon=spec.norm_epsilon,
        momentum=MOMENTUM,
        same=spec.padding == "same",
        patches=any(size % 2 == 0 for size in kernels),
        biased=layer_norms,
        layer_norm=layer_norms,
        kinds={block.kind for block in blocks},
        squeezes=any(block.squeezed for block in blocks),
        residual=any(block.kind in ("basic", "bottleneck", "grouped_bottleneck") for block in blocks),
        stages=[_row(stage, spec) for stage in stages],
        stem=_stem(spec),
        stem_norm=spec.stem.norm == "layer",
        stem_width=spec.stem.width,
        pool_stride=spec.stem.pool_stride,
        head_width=spec.head_width,
        final_norm=spec.final_norm,
        last_width=spec.head_width or spec.stages[-1].width,
        hidden_width=spec.hidden_width,
    )


def _stem(spec: ArchitectureSpec) -> str:
    stem = spec.stem
    kind, biased = "ConvNorm" if stem.norm == "batch" else "Conv", ", use_bias=True" if stem.norm == "layer" else ""
    return f"{kind}({spec.in_channels}, {stem.width}, {stem.kernel_size}, {stem.stride}{biased}, rngs=rngs)"


def _row(blocks: list[Block], spec: ArchitectureSpec) -> str:
    """The arguments of a `Stage` in network.py."""
    first = blocks[0]
    others = _sizes(blocks[1], spec) if len(blocks) > 1 else "{}"
    numbers = map(str, (len(blocks), first.width, first.kernel_size, first.stride))
    return _call("Stage", [_CLASSES[first.kind], *numbers, _sizes(first, spec), others], indent=4)


def _tuple(values: list[str]) -> str:
    return _call("", values) if len(values) > 1 else "".join(f"({value},)" for value in values)


def _call(function: str, values: list[str], indent: int = 0) -> str:
    """A call or a tuple as Python's source: in one line if it fits."""
    line = f"{function}({', '.join(values)})"
    if indent + len(line) < 100:
        return line
    return "\n".join([f"{function}(", *(f"{' ' * (indent + 4)}{value}," for value in values), f"{' ' * indent})"])


def _sizes(block: Block, spec: ArchitectureSpec) -> str:
    """What the class of a block takes beside its widths, as Python's source."""
    sizes: dict[str, Any] = {}
    if block.kind in ("mbconv", "bneck", "fused_mbconv"):
        sizes["inner"] = block.inner if block.expands else 0
    elif block.kind in ("bottleneck", "grouped_bottleneck", "convnext"):
        sizes["inner"] = block.inner
    if block.kind in ("mbconv", "bneck", "grouped_bottleneck"):
        sizes["squeezed"] = block.squeezed
    if block.group_width:
        sizes["groups"] = block.inner // block.group_width
    if block.kind == "bneck":
        sizes["squeeze"] = "HARD"
    if block.activation != spec.activation:
        sizes["activation"] = _ACTIVATIONS[block.activation]
    return "{" + ", ".join(f'"{key}": {value}' for key, value in sizes.items()) + "}"
