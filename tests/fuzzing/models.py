"""The readers of trained models, of their trainings, and of other libraries' networks."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scalesearch.baselines.published import baseline
from scalesearch.export import keras_names, timm, torchvision, transformers
from scalesearch.export.graph import Convolution
from scalesearch.export.keras_names import NORM, pad_name
from scalesearch.export.mapping import to_library
from scalesearch.export.opened import open_network
from scalesearch.export.torch_file import read_torch_file
from scalesearch.models.names import shapes_of
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage
from scalesearch.trained.card import CARD_FILE, ModelCard, NamedArrays, Preprocessing, card_text
from scalesearch.trained.checkpoint import Checkpoints
from scalesearch.trained.curves import read_curves
from scalesearch.trained.model import read_model
from scalesearch.trained.weights import read_folder, write_weights
from tests.fuzzing.targets import Target

GOLDEN = Path(__file__).parents[1] / "golden" / "torch"
ROW = "epoch,learning_rate,train_loss,val_loss,val_accuracy,val_balanced_accuracy,images_per_second,seconds\n"
ROWS = f"{ROW}1,0.004,2.01,1.52,0.5,,3000,1.1\n2,0.003,1.41,1.12,0.7,0.6,3000,1.1\n"


def network(stem: int = 3) -> ArchitectureSpec:
    """A network that every library has."""
    stage = make_stage("mbconv", kernel_size=3, stride=2, expand_ratio=2, width=4, depth=2, se_ratio=0.25)
    first = make_stage("mbconv", kernel_size=3, stride=1, expand_ratio=1, width=3, depth=1, se_ratio=0.25)
    return ArchitectureSpec(8, 3, 2, StemSpec(stem, 3, 2), (first, stage), 6)


def arrays_of(spec: ArchitectureSpec) -> NamedArrays:
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.1, 1, shape).astype(np.float32) for name, shape in shapes_of(spec).items()}


def card_of(spec: ArchitectureSpec) -> ModelCard:
    how = Preprocessing(resolution=8, mean=(100.0, 101.0, 102.0), std=(60.0, 60.0, 60.0))
    return ModelCard(name="tiny", spec=spec, preprocessing=how, classes=("cat", "dog"))


# What training writes.


def model_folders(folder: Path) -> None:
    for number, spec in enumerate((network(), dataclasses.replace(network(), activation="relu"))):
        place = folder / str(number)
        place.mkdir()
        (place / CARD_FILE).write_text(card_text(card_of(spec)), encoding="utf-8")
        write_weights(place, arrays_of(spec))


def checkpoint_folders(folder: Path) -> None:
    place = folder / "run"
    place.mkdir()
    with Checkpoints(place) as checkpoints:
        for number in (1, 2):
            arrays = {"weights.stem.kernel": np.full((3, 3), number, np.float32), "step": np.array(number, np.int32)}
            checkpoints.save(number, arrays, {"epoch": number, "rows": []}, (0.5, -1.0))


def read_checkpoints(folder: Path) -> None:
    with Checkpoints(folder) as checkpoints:
        checkpoints.last()


def curve_files(folder: Path) -> None:
    (folder / "0").mkdir()
    (folder / "0" / "curves.csv").write_text(ROWS)


# What other libraries write.


def torch_files(folder: Path) -> None:
    for path in GOLDEN.glob("*.pth"):
        (folder / path.stem).mkdir()
        (folder / path.stem / "net.pth").write_bytes(path.read_bytes())


def exported(export: Callable[..., None], folder: Path) -> None:
    spec = network(32 if export is transformers.export else 3)
    spec = dataclasses.replace(spec, head_width=1280) if export is transformers.export else spec
    export(card_of(spec), arrays_of(spec), folder / "0")


def read_foreign(library: str, place: str, folder: Path) -> None:
    """Reads a network of another library."""
    open_network(f"{library}:{folder / place}")


def keras_files(folder: Path) -> None:
    """Files as Keras writes them, of networks of its names with few channels."""
    for name, suffix in (("efficientnet-b0", ".keras"), ("mobilenet-v2", ".keras"), ("mobilenet-v2", ".weights.h5")):
        known = dataclasses.replace(baseline(name).spec, padding="same", num_classes=3)
        depths = known.depths if name == "mobilenet-v2" else (1,) * len(known.stages)
        spec = known.with_sizes(depths, (2,) * len(known.widths), 32)
        listed = keras_names.layers(spec)
        theirs = to_library(arrays_of(spec), listed.entries, "keras")
        groups: dict[str, dict[str, np.ndarray]] = {}
        for place, array in theirs.items():
            layer, _, variable = place.partition("/")
            groups.setdefault(layer, {})[variable] = array
        stream = io.BytesIO()
        with h5py.File(stream, "w") as root:
            for number, (layer, variables) in enumerate(groups.items()):
                group = root.create_group(f"layers/layer_{number}/vars")
                group.attrs["name"] = layer
                order = [each for each in ("kernel", "bias", *NORM) if each in variables]
                for place, variable in enumerate(order):
                    group[str(place)] = variables[variable]
        (folder / f"{name}{suffix}").mkdir()
        target = folder / f"{name}{suffix}" / "net"
        if suffix != ".keras":
            target.write_bytes(stream.getvalue())
            continue
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("config.json", json.dumps({"config": {"layers": keras_layers(spec, listed, groups)}}))
            archive.writestr("model.weights.h5", stream.getvalue())


def keras_layers(spec: ArchitectureSpec, listed: Any, groups: Any) -> list[dict[str, Any]]:
    """The configurations of the layers."""
    layers: list[dict[str, Any]] = [{"name": "input", "batch_shape": [None, spec.resolution, spec.resolution, 3]}]
    for name, layer in listed.convolutions.items():
        assert isinstance(layer, Convolution)
        layers.append({"name": name, "strides": [layer.stride] * 2, "padding": "valid"})
        layers.append({"name": pad_name(name), "padding": [list(layer.pads)] * 2})
    layers += [
        {"name": name, "epsilon": spec.norm_epsilon} for name, variables in groups.items() if "gamma" in variables
    ]
    layers += [{"name": "rescaling", "scale": 1 / 255, "offset": 0.0}]
    layers += [{"name": "normalization", "mean": [0.5] * 3, "variance": [0.2] * 3}]
    return [{"class_name": "Layer", "config": layer} for layer in layers]


TARGETS = {
    "model": Target(model_folders, read_folder, (b"weights", b"stages.0.0", b'"F64"', b'"I8"', b'"BF16"')),
    "model_to_use": Target(model_folders, read_model, slow=True),
    "checkpoints": Target(checkpoint_folders, read_checkpoints, slow=True),
    "curves": Target(curve_files, read_curves),
    "torch": Target(torch_files, lambda folder: read_torch_file(folder / "net.pth")),
    "timm": Target(partial(exported, timm.export), partial(read_foreign, "timm", "model.safetensors")),
    "torchvision": Target(
        partial(exported, torchvision.export), partial(read_foreign, "torchvision", "model.safetensors")
    ),
    "transformers": Target(partial(exported, transformers.export), partial(read_foreign, "transformers", "")),
    "keras": Target(keras_files, partial(read_foreign, "keras", "net"), slow=True),
}
