"""A network of timm, torchvision or transformers, read without them, gives its logits in ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
import transformers

from scalesearch.export.origins import import_network
from tests.interop.logits import images_for, our_logits, randomise, their_logits

LARGEST = 1e-4

TIMM = {
    "efficientnet_b0": ("efficientnet-b0", (64, 65)),
    "tf_efficientnet_b0": ("efficientnet-b0", (64, 65)),
    "efficientnet_b3": ("efficientnet-b3", (64,)),
    "efficientnet_lite0": ("efficientnet-lite0", (64,)),
    "tf_efficientnetv2_s": ("efficientnet-v2-s", (64,)),
    "mobilenetv1_100": ("mobilenet-v1", (64,)),
    "mobilenetv2_100": ("mobilenet-v2", (64,)),
    "resnet18": ("resnet-18", (64,)),
    "resnet50": ("resnet-50", (64, 65)),
}
TORCHVISION = {
    "efficientnet_b0": ("efficientnet-b0", (64, 65)),
    "efficientnet_b3": ("efficientnet-b3", (64,)),
    "efficientnet_b5": ("efficientnet-b5", (64,)),
    "efficientnet_v2_s": ("efficientnet-v2-s", (64,)),
    "mobilenet_v2": ("mobilenet-v2", (64,)),
    "resnet18": ("resnet-18", (64,)),
    "resnet50": ("resnet-50", (64, 65)),
    "wide_resnet50_2": ("wide-resnet-50-2", (64,)),
}


def compare(source: str, name: str, model: torch.nn.Module, sizes: tuple[int, ...], differ) -> None:
    card, arrays = import_network(source)
    library = source.partition(":")[0]
    assert card.name == f"{name} of {library}"
    assert card.spec.num_classes == 10
    for size in sizes:
        images = images_for(card.spec, size)
        theirs = their_logits(model, images)
        assert abs(theirs).max() > 0.1
        what = f"import {library}: {model.name} at {size}"
        assert differ(what, our_logits(card.spec, arrays, images), theirs) < LARGEST


@pytest.mark.parametrize("name", list(TIMM))
def test_timm(name: str, tmp_path: Path, differ) -> None:
    model = randomise(timm.create_model(name, num_classes=10))
    model.name = name
    path = tmp_path / f"{name}.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    compare(f"timm:{path}", *TIMM[name][:1], model, TIMM[name][1], differ)


def test_timm_says_in_its_configuration_which_padding_it_has(tmp_path: Path) -> None:
    model = randomise(timm.create_model("tf_efficientnet_b0", num_classes=10))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert import_network(f"timm:{tmp_path / 'model.safetensors'}")[0].spec.padding == "symmetric"
    config = {"architecture": "tf_efficientnet_b0", "pretrained_cfg": {"tag": "ap_in1k"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    card, _ = import_network(f"timm:{tmp_path / 'model.safetensors'}")
    assert (card.spec.padding, card.spec.norm_epsilon, card.preprocessing.mean) == ("same", 1e-3, (127.5,) * 3)


@pytest.mark.parametrize("name", list(TORCHVISION))
def test_torchvision(name: str, tmp_path: Path, differ) -> None:
    model = randomise(torchvision.models.get_model(name, num_classes=10))
    model.name = name
    path = tmp_path / "weights.pth"
    # PyTorch's older format is that of several of torchvision's files.
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=name != "resnet50")
    compare(f"torchvision:{path}", *TORCHVISION[name][:1], model, TORCHVISION[name][1], differ)


def test_transformers(tmp_path: Path, differ) -> None:
    resnet = transformers.ResNetConfig(num_labels=10)
    # EfficientNet-B0's lists, at 224 px where all maps but the last have even sizes
    b0 = transformers.EfficientNetConfig(
        num_labels=10, image_size=224, width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280
    )
    for name, config, size in (("resnet-50", resnet, 64), ("efficientnet-b0", b0, 64)):
        model = randomise(transformers.AutoModelForImageClassification.from_config(config))
        model.save_pretrained(tmp_path / name)
        model.name = name
        compare(f"transformers:{tmp_path / name}", name, model, (size,), differ)
