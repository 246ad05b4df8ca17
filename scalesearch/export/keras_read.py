"""keras:FILE: EfficientNetB0 to B7 and MobileNetV2 of keras.applications, from a file that Keras wrote.

Only arrays and the JSON of a configuration are read: no code, and no layer of Keras is built.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from scalesearch.baselines.efficientnet import published
from scalesearch.baselines.published import baseline
from scalesearch.errors import InputError
from scalesearch.export.graph import Convolution
from scalesearch.export.keras_files import KerasFile, read_file
from scalesearch.export.keras_names import layers, pad_name, table
from scalesearch.export.mapping import from_library
from scalesearch.export.torch_layers import layers_of
from scalesearch.runtime.text import first_line
from scalesearch.scaling.architecture import ArchitectureSpec, Padding
from scalesearch.scaling.compound import scale
from scalesearch.trained.card import ModelCard, NamedArrays
from scalesearch.trained.leaves import check_names

_READ = "EfficientNetB0 to B7 and MobileNetV2 of keras.applications can be read"
# The files of ImageNet hold the standard deviation in the place of the variance (tensorflow#49930).
_IMAGENET_STD = (0.229, 0.224, 0.225)
_NORMALIZATION = re.compile(r"normalization(_\d+)?/(\w+)")  # numbered in a process that builds several models


def read(path: Path) -> tuple[ModelCard, NamedArrays]:
    """The network in `path` and its arrays by our names.

    `path` is a .keras file, or weights or a model in an HDF5 file (.weights.h5, .h5). The spec carries the padding and
    the epsilon of Keras. Raises `InputError` for another network, with the reason, and for a file that is not whole.
    """
    file, where = read_file(path), str(path)
    spec = _spec(file, where)
    try:
        spec = _as_configured(spec, file, where) if file.layers else _as_published(spec, where)
        preprocessing = _preprocessing(file, spec, where)
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{where}: the configuration of a layer is not one of Keras ({reason})") from None
    theirs = {name: array for name, array in file.arrays.items() if not _NORMALIZATION.match(name)}
    arrays = from_library(theirs, table(spec), "keras", where)
    shapes = {name: shape for layer in layers_of(spec) for name, shape in layer.shapes.items()}
    check_names(arrays, shapes, where)
    document = {"name": path.name, "spec": spec.to_json(), "preprocessing": preprocessing}
    return ModelCard.model_validate(document), arrays


def _spec(file: KerasFile, where: str) -> ArchitectureSpec:
    """The network by the names and shapes of the arrays, at the resolution and with the strides that are published."""
    kernels = {name.split("/")[0]: array for name, array in file.arrays.items() if name.endswith("/kernel")}
    if "stem_conv" in kernels and "block1a_dwconv" in kernels:
        stem, head, known = "stem_conv", "top_conv", baseline("efficientnet-b0").spec
        names = re.findall(r"^block(\d+)[a-z]+_project_conv$", "\n".join(kernels), re.MULTILINE)
        depths = tuple(names.count(str(stage + 1)) for stage in range(len(known.stages)))
        projections = [f"block{stage + 1}a_project_conv" for stage in range(len(depths))]
    elif "Conv1" in kernels and "expanded_conv_project" in kernels:
        stem, head, known = "Conv1", "Conv_1", baseline("mobilenet-v2").spec
        depths = known.depths
        firsts = [sum(depths[:stage]) for stage in range(len(depths))]
        projections = [f"block_{first}_project" if first else "expanded_conv_project" for first in firsts]
    elif "conv1_conv" in kernels:
        raise InputError(
            f"{where}: Keras' ResNet cannot become ours: its convolutions have biases, and a block's stride is in its "
            "first 1×1 convolution; that of torchvision can"
        )
    else:
        raise InputError(f"{where}: {_READ}, but it holds another network")
    for name in (stem, *projections, head, "predictions"):
        if name not in kernels:
            raise InputError(f"{where}: lacks the layer `{name}`; {_READ}, with their classifier (include_top=True)")
        if kernels[name].ndim < 2:
            raise InputError(f"{where}: `{name}/kernel` must have several axes, but has shape {kernels[name].shape}")
    widths = tuple(int(kernels[name].shape[-1]) for name in (stem, *projections, head))
    if not all(depths):
        raise InputError(f"{where}: {_READ}, but it has depths {depths}")
    return dataclasses.replace(
        known.with_sizes(depths, widths, known.resolution),
        in_channels=int(kernels[stem].shape[-2]),
        num_classes=int(kernels["predictions"].shape[-1]),
        padding="same",
    )


def _as_published(spec: ArchitectureSpec, where: str) -> ArchitectureSpec:
    """`spec` at the resolution of the published network of its sizes: a file of weights says nothing of strides."""
    b0 = baseline("efficientnet-b0")
    members = [b0.spec, *(scale(b0.spec, each.coefficients, b0.rounding) for each in published())]
    for one in members:
        if (one.depths, one.widths) == (spec.depths, spec.widths):
            return dataclasses.replace(spec, resolution=one.resolution)
    if spec.activation == "relu6":
        return spec
    raise InputError(
        f"{where}: {_READ}; weights of another size need their configuration: save the whole model as a .keras file"
    )


def _as_configured(spec: ArchitectureSpec, file: KerasFile, where: str) -> ArchitectureSpec:
    """`spec` with the resolution, the padding and the epsilon of the configuration.

    Raises `InputError` where the configuration says something else than the spec: strides, activations.
    """
    shape = next((layer["batch_shape"] for layer in file.layers.values() if "batch_shape" in layer), None)
    if shape is None or len(shape) != 4 or not isinstance(shape[1], int) or shape[1] != shape[2]:
        raise InputError(f"{where}: the input must be square and of a fixed size, but got {shape}")
    epsilons = {layer["epsilon"] for name, layer in file.layers.items() if f"{name}/gamma" in file.arrays}
    if len(epsilons) != 1:
        raise InputError(f"{where}: every batch normalisation must have one epsilon, but got {sorted(epsilons)}")
    spec = dataclasses.replace(spec, resolution=shape[1], norm_epsilon=float(epsilons.pop()))
    allowed = ("silu", "swish") if spec.activation == "swish" else ("relu6",)
    for name, layer in file.layers.items():
        function = layer.get("activation", allowed[0])
        if "max_value" in layer:  # a layer of its own
            function = "relu6" if layer["max_value"] == 6 else "relu up to another value"
        if name.endswith(("_activation", "_relu")) and function not in allowed:
            raise InputError(f"{where}: `{name}` must be {allowed[0]}, but is {function}")
    paddings: tuple[Padding, ...] = ("same", "symmetric")
    for padding in paddings:
        padded = dataclasses.replace(spec, padding=padding)
        wrong = next(
            (name for name, each in layers(padded).convolutions.items() if not _agrees(name, each, file)), None
        )
        if wrong is None:
            return padded
    raise InputError(f"{where}: the stride or the padding of `{wrong}` is not that of keras.applications")


def _agrees(name: str, layer: Convolution, file: KerasFile) -> bool:
    """Whether a convolution has the stride and the padding of the configuration."""
    found = file.layers.get(name, {})
    if found.get("strides") not in ([layer.stride] * 2, layer.stride):
        return False
    pad = file.layers.get(pad_name(name))
    if found.get("padding") == "same" and pad is None:
        places = -(-layer.size // layer.stride)
        total = max((places - 1) * layer.stride + layer.kernel_size - layer.size, 0)
        return layer.pads == (total // 2, total - total // 2)
    pads = [[0, 0], [0, 0]] if pad is None else [list(each) for each in pad["padding"]]
    return pads == [list(layer.pads)] * 2


def _preprocessing(file: KerasFile, spec: ArchitectureSpec, where: str) -> dict[str, Any] | None:
    """Mean and deviation of grey levels that the first layers of the file subtract and divide by."""
    channels = spec.in_channels
    if spec.activation == "relu6":  # `mobilenet_v2.preprocess_input`: from −1 to 1
        return _card_part(spec, np.full(channels, 127.5), np.full(channels, 127.5))
    if not file.layers:
        parts = {found[2]: array for name, array in file.arrays.items() if (found := _NORMALIZATION.match(name))}
        mean, variance = parts.get("mean", np.zeros(channels)), parts.get("variance", np.ones(channels))
        imagenet = variance.shape == (3,) and np.allclose(variance, _IMAGENET_STD, atol=1e-6)
        return _card_part(spec, 255 * mean, 255 * (variance if imagenet else np.sqrt(variance)))
    scales, norm = [], None
    for layer in file.layers.values():
        if "scale" in layer and "offset" in layer:
            if np.any(layer["offset"]):
                raise InputError(f"{where}: `{layer['name']}` must have no offset")
            scales.append((norm is not None, np.asarray(layer["scale"], np.float64)))
        elif "variance" in layer and "mean" in layer:
            norm = layer
    if norm is None:
        return None
    if norm["mean"] is None:  # adapted, and stored as arrays
        norm = {part: file.arrays[f"{norm['name']}/{part}"] for part in ("mean", "variance")}
    mean, variance = (np.asarray(norm[part], np.float64).reshape(-1) for part in ("mean", "variance"))
    before, after = (np.prod([scale for late, scale in scales if late is place], axis=0) for place in (False, True))
    return _card_part(spec, mean / before, np.sqrt(variance) / (before * after))


def _card_part(spec: ArchitectureSpec, mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    return {"resolution": spec.resolution, "mean": np.ravel(mean).tolist(), "std": np.ravel(std).tolist()}
