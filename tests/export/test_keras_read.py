"""keras:FILE: networks of keras.applications become ours with the same logits, whatever Keras wrote."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import onnxruntime
import pytest

from scalesearch.errors import InputError
from scalesearch.export import keras, onnx
from scalesearch.trained.card import ModelCard, NamedArrays
from tests.export.nets import standardised

pytestmark = pytest.mark.long  # a process with Keras, and networks of real size


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("keras_peer.py")), str(folder)], check=True, capture_output=True
    )
    return folder


def _logits(card: ModelCard, arrays: NamedArrays, images: np.ndarray, tmp_path: Path) -> np.ndarray:
    """By onnxruntime, which compiles nothing; the graph gives our logits (test_onnx.py)."""
    onnx.export(card, arrays, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": standardised(card, images).transpose(0, 3, 1, 2)})
    return np.asarray(logits)


@pytest.mark.parametrize(
    ("file", "size", "resolution"),
    [
        ("efficientnet_64.keras", 64, 64),
        ("efficientnet.weights.h5", 64, 224),
        ("mobilenet_64.keras", 64, 64),
        ("mobilenet_65.keras", 65, 65),
        ("mobilenet.weights.h5", 64, 224),
        ("mobilenet.h5", 65, 65),
    ],
)
def test_logits_are_those_of_keras(files: Path, tmp_path: Path, file: str, size: int, resolution: int) -> None:
    card, arrays = keras.read(files / file)
    assert (card.spec.padding, card.spec.norm_epsilon, card.spec.num_classes) == ("same", 1e-3, 7)
    assert card.spec.resolution == resolution
    spec = dataclasses.replace(card.spec, resolution=size).to_json()
    card = ModelCard.model_validate({**card.to_json(), "spec": spec})
    peer = np.load(files / f"{re.split('[_.]', file)[0]}_{size}.npz")
    np.testing.assert_allclose(_logits(card, arrays, peer["images"], tmp_path), peer["logits"], atol=1e-4)


def test_our_own_file_is_read_with_its_padding(files: Path, tmp_path: Path) -> None:
    read, arrays = keras.read(files / "mobilenet_64.keras")
    spec = dataclasses.replace(read.spec, padding="symmetric", norm_epsilon=1e-5)
    card = ModelCard.model_validate({**read.to_json(), "spec": spec.to_json()})
    document = json.loads(zipfile.ZipFile(files / "mobilenet_64.keras").read("config.json"))
    for layer in document["config"]["layers"]:
        config = layer["config"]
        if layer["class_name"] == "ZeroPadding2D":
            config["padding"] = [[1, 1], [1, 1]]
        if layer["class_name"] == "BatchNormalization":
            config["epsilon"] = 1e-5
        if config["name"] == "Conv1":
            config["padding"] = "valid"
    document["config"]["layers"].append(
        {"class_name": "ZeroPadding2D", "config": {"name": "Conv1_pad", "padding": [[1, 1], [1, 1]]}}
    )
    file = _changed(files / "mobilenet_64.keras", tmp_path / "own.keras", config=json.dumps(document))
    found, same = keras.read(file)
    assert found.spec == card.spec
    assert all(np.array_equal(same[name], arrays[name]) for name in arrays)


def _changed(file: Path, target: Path, config: str | None = None, weights: bytes | None = None) -> Path:
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        new.writestr("config.json", config or old.read("config.json"))
        new.writestr("model.weights.h5", weights or old.read("model.weights.h5"))
    return target


def test_preprocessing(files: Path, tmp_path: Path) -> None:
    card, _ = keras.read(files / "mobilenet.weights.h5")
    assert card.preprocessing is not None
    assert (card.preprocessing.mean, card.preprocessing.std) == ((127.5,) * 3, (127.5,) * 3)
    # The files of ImageNet have deviations in the place of variances.
    file = tmp_path / "imagenet.weights.h5"
    file.write_bytes((files / "efficientnet.weights.h5").read_bytes())
    with h5py.File(file, "r+") as root:
        root["layers/normalization/vars/1"][...] = [0.229, 0.224, 0.225]
    card, _ = keras.read(file)
    assert card.preprocessing is not None
    np.testing.assert_allclose(card.preprocessing.std, 255 * np.array([0.229, 0.224, 0.225]), rtol=1e-6)


def test_other_networks_are_refused(files: Path, tmp_path: Path) -> None:
    file = tmp_path / "net.weights.h5"
    for layers, reason in (
        (("conv1_conv", "conv2_block1_1_conv"), "Keras' ResNet cannot become ours: its convolutions have biases"),
        (("Conv1", "expanded_conv_project"), r"lacks the layer `block_1_project`; .* \(include_top=True\)"),
        (
            ("conv1", "conv_dw_1"),
            "EfficientNetB0 to B7 and MobileNetV2 of keras.applications can be read, but it holds",
        ),
    ):
        with h5py.File(file, "w") as root:
            for count, name in enumerate(layers):
                variables = root.create_group(f"layers/conv2d_{count}/vars")
                variables.attrs["name"] = name
                variables["0"] = np.zeros((3, 3, 3, 5))
        with pytest.raises(InputError, match=reason):
            keras.read(file)
    document = zipfile.ZipFile(files / "mobilenet_64.keras").read("config.json").decode()
    for old, new, reason in (
        ('"strides": [2, 2]', '"strides": [3, 3]', "the stride or the padding of `Conv1` is not that"),
        ('"max_value": 6.0', '"max_value": 5.0', "`Conv1_relu` must be relu6"),
        ('"epsilon": 0.001', '"epsilon": 0.002', "must have one epsilon"),
        ('"batch_shape": [null, 64, 64, 3]', '"batch_shape": [null, null, null, 3]', "square and of a fixed size"),
        ('"epsilon": 0.001', '"epsilom": 0.001', "the configuration of a layer is not one of Keras"),
        ('"layers": [', '"layer": [', "its configuration is not that of a network"),
    ):
        assert old in document
        file = _changed(files / "mobilenet_64.keras", tmp_path / "net.keras", document.replace(old, new, 1))
        with pytest.raises(InputError, match=f"net.keras: .*{reason}"):
            keras.read(file)


def test_damaged_files_are_refused(files: Path, tmp_path: Path) -> None:
    file, whole = tmp_path / "net.weights.h5", (files / "mobilenet.weights.h5").read_bytes()
    for content, reason in (
        (b"", "not a whole file"),
        (whole[: len(whole) // 2], "not a whole file"),
        (b"x" * 99, "not a"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=reason):
            keras.read(file)
    with pytest.raises(InputError, match="no such file"):
        keras.read(tmp_path / "nowhere.h5")

    def spoilt(change: str) -> Path:
        stream = io.BytesIO(whole)
        with h5py.File(stream, "r+") as root:
            variables = root["layers/dense/vars"]
            del variables["0"]
            if change == "huge":
                variables.create_dataset("0", (1280, 2**40), "f4", chunks=(1, 1024))
            elif change == "link":
                variables["0"] = h5py.ExternalLink("/etc/passwd", "/x")
            elif change == "shape":
                variables.create_dataset("0", data=np.zeros((1281, 7), np.float32))
            else:
                variables.create_dataset("0", data=np.full((1280, 7), np.nan, np.float32))
        file.write_bytes(stream.getvalue())
        return file

    for change, reason in (
        ("huge", "`predictions/kernel` is not in the file itself"),
        ("link", "`0` in it is a link"),
        ("shape", r"`classifier.kernel` must have shape \(1280, 7\), but has \(1281, 7\)"),
        ("nan", "`classifier.kernel` holds numbers that are not finite"),
    ):
        with pytest.raises(InputError, match=reason):
            keras.read(spoilt(change))
