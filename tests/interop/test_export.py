"""An exported network gives our logits in its library, and has as many parameters."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

from scalesearch.baselines.published import baseline
from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.count import complexity
from scalesearch.trained.card import NamedArrays
from tests.export.networks import NETWORKS, at, card_of, efficientnets, random_arrays
from tests.interop.logits import built, images_for, our_logits, their_logits

LARGEST = 1e-4

PUBLISHED = {
    name: at(baseline(name).spec, 64) for name in ("mobilenet-v2", "mobilenet-v1", "resnet-18", "resnet-50")
} | {name: at(spec, 64) for name, spec in efficientnets().items() if name in ("b0", "b3")}

REFUSED = {
    "timm": (),
    "torchvision": ("odd efficientnet, same", "odd mobilenet-v1", "mobilenet-v1", "for transformers, same"),
    "transformers": (
        "odd efficientnet",
        "odd efficientnet, same",
        "patchless stem, no head, grey",
        "fused",
        "six halvings",
        "odd mobilenet-v2",
        "mobilenet-v2",
        "odd mobilenet-v1",
        "mobilenet-v1",
        "odd basic resnet",
        "odd bottleneck resnet",
    ),
}


@cache
def arrays_of(name: str) -> tuple[ArchitectureSpec, NamedArrays]:
    spec = (NETWORKS | PUBLISHED)[name]
    return spec, random_arrays(spec)


@cache
def logits_of(name: str, size: int) -> np.ndarray:
    spec, arrays = arrays_of(name)
    return our_logits(spec, arrays, images_for(spec, size))


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
@pytest.mark.parametrize("name", [*NETWORKS, *PUBLISHED])
def test_an_exported_network_gives_our_logits(library: str, name: str, tmp_path: Path, differ) -> None:
    spec, arrays = arrays_of(name)
    export = importlib.import_module(f"scalesearch.export.{library}").export
    if name in REFUSED[library]:
        with pytest.raises(InputError, match=f"{library} cannot build this network exactly"):
            export(card_of(spec), arrays, tmp_path)
        return
    # transformers' padding is that of the resolution, as TensorFlow's
    sizes = [spec.resolution] if (library, spec.padding) == ("transformers", "same") else [spec.resolution, 65]
    export(card_of(spec), arrays, tmp_path)
    model = (
        AutoModelForImageClassification.from_pretrained(tmp_path, trust_remote_code=True)
        if library == "transformers"
        else built(tmp_path).create_model()
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == complexity(spec).params
    for size in sizes:
        theirs = their_logits(model, images_for(spec, size))
        assert abs(theirs).max() > 0.1
        assert differ(f"export {library}: {name} at {size}", logits_of(name, size), theirs) < LARGEST


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
@pytest.mark.parametrize("name", list(efficientnets()))
def test_efficientnets_have_as_many_parameters(library: str, name: str, tmp_path: Path) -> None:
    spec = efficientnets()[name]
    importlib.import_module(f"scalesearch.export.{library}").export(card_of(spec), None, tmp_path)
    with torch.device("meta"):
        if library == "transformers":
            config = importlib.import_module("transformers").AutoConfig.from_pretrained(tmp_path)
            model = AutoModelForImageClassification.from_config(config)
        else:
            model = built(tmp_path).create_model()
    assert sum(parameter.numel() for parameter in model.parameters()) == complexity(spec).params


def test_without_its_class_transformers_needs_a_row_and_a_column_of_zeros(tmp_path: Path) -> None:
    spec = NETWORKS["for transformers"]
    arrays, images = random_arrays(spec), images_for(spec, 32)
    importlib.import_module("scalesearch.export.transformers").export(card_of(spec), arrays, tmp_path)
    model = AutoModelForImageClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        padded = torch.nn.functional.pad(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), (1, 0, 1, 0))
        assert abs(model(padded).logits.numpy() - our_logits(spec, arrays, images)).max() < LARGEST


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_the_processor_of_transformers_scales_as_the_card_says(fit: str, tmp_path: Path) -> None:
    spec = NETWORKS["for transformers"]
    card = card_of(spec)
    card = card.model_copy(update={"preprocessing": card.preprocessing.model_copy(update={"fit": fit})})
    importlib.import_module("scalesearch.export.transformers").export(card, None, tmp_path)
    image = (images_for(spec, 32)[0] * 40 + 128).clip(0, 255).astype("uint8")
    values = AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="np")["pixel_values"]
    expected = (image - card.preprocessing.mean) / card.preprocessing.std
    assert abs(values[0].transpose(1, 2, 0) - expected).max() < 1e-4
