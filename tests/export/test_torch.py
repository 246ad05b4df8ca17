"""The exporters for timm, torchvision and transformers and their importers, without these libraries."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from scalesearch.baselines.published import baseline
from scalesearch.errors import InputError
from scalesearch.export.origins import import_network
from scalesearch.export.torch_layers import layers_of
from scalesearch.export.write import is_trained
from scalesearch.models.names import shapes_of
from scalesearch.runtime.files import write_folder
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.cost.count import complexity
from tests.export.networks import NETWORKS, card_of, efficientnets, network, random_arrays

LIBRARIES = ("timm", "torchvision", "transformers")
FILE = "model.safetensors"
PUBLISHED = {name: baseline(name).spec for name in ("mobilenet-v1", "mobilenet-v2", "resnet-18", "resnet-50")}
SMALL = {name: spec for name, spec in NETWORKS.items() if "transformers" not in name}


def exporter(library: str) -> Any:
    return importlib.import_module(f"scalesearch.export.{library}")


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_layers_are_the_arrays_of_our_network(name: str) -> None:
    shapes = {key: shape for layer in layers_of(NETWORKS[name]) for key, shape in layer.shapes.items()}
    assert shapes == shapes_of(NETWORKS[name])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"])
def test_the_tables_hold_every_array_of_the_efficientnets(library: str, name: str) -> None:
    spec = efficientnets()[name]
    shapes = {key: shape for layer in layers_of(spec) for key, shape in layer.shapes.items()}
    table = exporter(library).table(spec)
    assert [entry.ours for entry in table] == list(shapes)
    assert len({entry.theirs for entry in table}) == len(table)
    trained = [np.prod(shape) for key, shape in shapes.items() if not key.endswith((".mean", ".var"))]
    assert sum(trained) == complexity(spec).params


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", ["odd efficientnet", "odd mobilenet-v2", "odd basic resnet", "for transformers, same"])
def test_a_network_goes_there_and_back(library: str, name: str, tmp_path: Path) -> None:
    spec = NETWORKS[name]
    card, arrays = card_of(spec, classes=tuple("abcdefghij")), random_arrays(spec)
    try:
        exporter(library).export(card, arrays, tmp_path)
    except InputError as error:
        assert str(error).startswith(f"{library} cannot build this network exactly: ")  # noqa: PT017
        assert list(tmp_path.iterdir()) == []
        return
    back, returned = import_network(f"{library}:{tmp_path if library == 'transformers' else tmp_path / FILE}")
    assert back == card
    assert returned.keys() == arrays.keys()
    assert all((returned[key] == arrays[key]).all() for key in arrays)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("name", [*SMALL, *PUBLISHED])
def test_the_definition_alone_is_a_file_of_python(library: str, name: str, tmp_path: Path) -> None:
    spec = (SMALL | PUBLISHED)[name]
    try:
        exporter(library).export(card_of(spec), None, tmp_path)
    except InputError:
        assert library == "torchvision"
        return
    assert {path.name for path in tmp_path.iterdir()} == {"model.py", "card.json"}
    text = (tmp_path / "model.py").read_text(encoding="utf-8")
    names = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert {"build", "create_model"} <= names
    assert "weights=None" in text
    assert max(map(len, text.splitlines())) < 400


def test_model_py_says_how_images_become_its_input(tmp_path: Path) -> None:
    spec = NETWORKS["odd efficientnet"]
    exporter("timm").export(card_of(spec, classes=tuple("abcdefghij")), random_arrays(spec), tmp_path)
    tree = ast.parse((tmp_path / "model.py").read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id != "STAGES"
    }
    assert constants["RESOLUTION"] == 32
    assert constants["MEAN"] == pytest.approx((100 / 255, 101 / 255, 102 / 255))
    assert constants["STD"] == pytest.approx((60 / 255,) * 3)
    assert "cut to the square in their middle, resized to 32 × 32" in ast.get_docstring(tree)
    assert json.loads((tmp_path / "card.json").read_text())["classes"] == list("abcdefghij")


def test_the_resnet_of_transformers_has_its_own_epsilon(tmp_path: Path) -> None:
    spec = NETWORKS["quarter bottleneck resnet"]
    arrays = random_arrays(spec)
    exporter("transformers").export(card_of(spec), arrays, tmp_path)
    card, returned = import_network(f"transformers:{tmp_path}")
    assert card.spec == dataclasses.replace(spec, norm_epsilon=1e-5)
    scale, var = arrays["stem.norm.scale"], arrays["stem.norm.var"]
    there = returned["stem.norm.scale"] / np.sqrt(returned["stem.norm.var"] + 1e-5)
    assert there == pytest.approx(scale / np.sqrt(var + 1e-3), rel=1e-6)


_MB = (3, 1, 16, 6, 2, 0.25)
_STEM = StemSpec(32, 3, 2)
CANNOT: list[tuple[str, ArchitectureSpec, str]] = [
    ("timm", dataclasses.replace(baseline("convnext-t").spec), "no `convnext` blocks"),
    ("timm", baseline("mobilenet-v3-small").spec, "no `bneck` blocks"),
    ("timm", network(_STEM, [(3, 1, 16, 6, 3, 0.25)], 64), "strides of its blocks are 1 or 2"),
    ("timm", network(StemSpec(8, 4, 4), [_MB], 64), "its stem is a convolution"),
    ("timm", network(_STEM, [(5, 1, 16, 1, 1, 0)], 0, block="basic"), "kernels of 3×3"),
    ("timm", network(_STEM, [(3, 1, 16, 1, 1, 0)], 64, block="basic"), "no head"),
    ("timm", network(_STEM, [(3, 1, 16, 1, 1, 0)], 0, block="basic", padding="same"), "pad symmetrically"),
    ("timm", network(_STEM, [(3, 1, 16, 1, 1, 0, "basic"), _MB], 0), "all of one kind"),
    ("timm", network(StemSpec(32, 3, 2, pool_stride=2), [_MB], 64), "a pool behind the stem"),
    ("torchvision", network(_STEM, [_MB], 64, padding="same"), "pads symmetrically"),
    ("torchvision", network(_STEM, [_MB], 64, "hard_swish"), "EfficientNet is swish"),
    ("torchvision", network(_STEM, [(5, 1, 16, 6, 2, 0)], 64, "relu6"), "3×3 without squeeze-excite"),
    ("torchvision", network(_STEM, [(3, 1, 16, 1, 1, 0)], 0, "gelu", block="basic"), "ResNets is relu"),
    ("torchvision", network(StemSpec(8, 3, 2), [(3, 1, 16, 1.1, 2, 0.25)], 64), "no expansion where"),
    ("transformers", network(StemSpec(30, 3, 2), [_MB], 1280), "none gives 30 and 1280"),
    ("transformers", network(StemSpec(32, 5, 2), [_MB], 1280), "3×3 with stride 2"),
    ("transformers", network(_STEM, [(3, 1, 16, 6, 2, 0)], 1280), "always have squeeze-excite"),
    ("transformers", network(_STEM, [_MB, (3, 1, 24, 6, 2, 0.5)], 1280), "one ratio in all stages"),
    ("transformers", network(_STEM, [(3, 1, 16, 2.5, 2, 0.25)], 1280), "whole numbers"),
    ("transformers", network(_STEM, [(3, 1, 32, 6, 1, 0.25)], 1280), "never adds its input"),
    ("transformers", network(_STEM, [_MB], 0), "`head_width` is 0"),
    ("transformers", network(_STEM, [_MB], 1280, "hard_swish"), "no activation hard_swish"),
    ("transformers", network(_STEM, [(3, 1, 16, 1, 1, 0)], 0, "relu", block="basic"), "7×7 with stride 2"),
    ("transformers", PUBLISHED["mobilenet-v1"], "no `separable` blocks"),
    ("transformers", baseline("wide-resnet-50-2").spec, "a quarter of the width"),
]


@pytest.mark.parametrize(("library", "spec", "reason"), CANNOT, ids=lambda value: str(value)[:30])
def test_what_a_library_cannot_build_is_refused_with_the_reason(
    library: str, spec: ArchitectureSpec, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        exporter(library).export(card_of(spec), None, tmp_path / "new")
    assert str(caught.value).startswith(f"{library} cannot build this network exactly: ")
    assert reason in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """MobileNetV2 by torchvision's names, as a stranger's file holds it."""
    folder = tmp_path_factory.mktemp("mobilenet")
    spec = dataclasses.replace(PUBLISHED["mobilenet-v2"], num_classes=7, in_channels=1)
    exporter("torchvision").export(card_of(spec), random_arrays(spec), folder)
    with safe_open(folder / FILE, framework="numpy") as file:
        assert file.metadata()["format"] == "pt"
    return load_file(folder / FILE)


def test_a_published_network_is_found_by_its_shapes(mobilenet: dict[str, np.ndarray], tmp_path: Path) -> None:
    save_file(mobilenet, tmp_path / "anything.safetensors")
    card, arrays = import_network(f"torchvision:{tmp_path / 'anything.safetensors'}")
    changes = {"num_classes": 7, "in_channels": 1, "norm_epsilon": 1e-5}
    assert card.spec == dataclasses.replace(PUBLISHED["mobilenet-v2"], **changes)
    assert (card.name, card.preprocessing) == ("mobilenet-v2 of torchvision", None)
    assert (mobilenet["features.2.conv.0.0.weight"][:, :, 0, 0] == arrays["stages.1.0.expand.kernel"][0, 0].T).all()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("features.2.conv.0.0.weight", None, "`features.2.conv.0.0.weight` is missing"),
        ("features.99.weight", np.zeros(3, np.float32), "`features.99.weight` has no place"),
        ("features.0.1.weight", np.zeros(9, np.float32), "`features.0.1.weight` must have shape (32,), but has (9,)"),
        (
            "features.0.1.weight",
            np.full(32, np.nan, np.float32),
            "`features.0.1.weight` holds numbers that are not finite",
        ),
    ],
)
def test_what_cannot_become_ours_is_refused_with_its_tensors(
    mobilenet: dict[str, np.ndarray], name: str, value: np.ndarray | None, reason: str, tmp_path: Path
) -> None:
    changed = {key: array for key, array in {**mobilenet, name: value}.items() if array is not None}
    save_file(changed, tmp_path / "a.safetensors")
    with pytest.raises(InputError) as caught:
        import_network(f"torchvision:{tmp_path / 'a.safetensors'}")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["timm", "timm:", "keras3:file", "file.safetensors"])
def test_weights_are_named_by_library_and_file(source: str) -> None:
    with pytest.raises(
        InputError, match="must be named as timm:FILE, torchvision:FILE, transformers:FILE, keras:FILE, but got"
    ):
        import_network(source)


@pytest.mark.parametrize(
    ("file", "padding", "epsilon"),
    [("efficientnet_b0.ra_in1k", "symmetric", 1e-5), ("tf_efficientnet_b0.ns_jft_in1k", "same", 1e-3)],
)
def test_padding_and_epsilon_are_those_of_the_origin(file: str, padding: str, epsilon: float, tmp_path: Path) -> None:
    spec = dataclasses.replace(efficientnets()["b0"], num_classes=3)
    exporter("timm").export(card_of(spec), random_arrays(spec), tmp_path)
    save_file(load_file(tmp_path / FILE), tmp_path / f"{file}.safetensors")  # without our card
    (tmp_path / "card.json").unlink()
    card, _ = import_network(f"timm:{tmp_path / file}.safetensors")
    assert (card.spec.padding, card.spec.norm_epsilon) == (padding, epsilon)


def test_an_exported_network_is_no_trained_model_and_is_replaced_by_the_next_export(tmp_path: Path) -> None:
    card = card_of(NETWORKS["odd mobilenet-v1"])
    for _ in range(2):
        write_folder(tmp_path / "net", lambda folder: exporter("timm").export(card, None, folder))
    assert not is_trained(tmp_path / "net")


@pytest.mark.parametrize(("text", "reason"), [("{", "not valid JSON"), ("{}", "missing key `name`")])
def test_a_broken_card_is_one_line(text: str, reason: str, tmp_path: Path) -> None:
    exporter("timm").export(card_of(NETWORKS["odd mobilenet-v1"]), None, tmp_path)
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "a.safetensors")
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(InputError, match=f"^{tmp_path / 'card.json'}: {reason}"):
        import_network(f"timm:{tmp_path / 'a.safetensors'}")


def test_weights_that_were_trained_further_lie_beside_our_card(tmp_path: Path) -> None:
    spec = NETWORKS["odd mobilenet-v1"]
    exporter("timm").export(card_of(spec, classes=tuple("abcdefghij")), random_arrays(spec), tmp_path)
    tensors = load_file(tmp_path / FILE)
    tensors |= {key: array[:4] for key, array in tensors.items() if key.startswith("classifier")}
    save_file(tensors, tmp_path / "further.safetensors")
    card, arrays = import_network(f"timm:{tmp_path / 'further.safetensors'}")
    assert (card.spec, card.classes) == (dataclasses.replace(spec, num_classes=4), ())
    assert arrays["classifier.kernel"].shape == (22, 4)
