"""Transfer: the weights that a training begins with, from a model of ours or of another library; what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scalesearch
from scalesearch.errors import InputError
from scalesearch.export.timm import export as export_to_timm
from scalesearch.export.write import export
from scalesearch.models.names import initial_arrays
from scalesearch.study.sections import Study
from scalesearch.trained.card import ModelCard, NamedArrays, Preprocessing, read_card
from scalesearch.trained.model import Model
from scalesearch.trained.plan import plan_job
from scalesearch.trained.transfer import transferred_spec, transferred_standard, transferred_weights
from scalesearch.trained.weights import read_folder, read_weights, write_weights
from tests.cli.tiny import ROOT, answer, complaint
from tests.export.nets import shaken
from tests.models_on_disk import tiny_card, write_model

RULE = ROOT / "studies" / "results" / "mnist_sample"
COLOUR = Preprocessing(resolution=6, mean=(120.0, 110.0, 90.0), std=(60.0, 70.0, 50.0))


@pytest.fixture(scope="module")
def arrays(card: ModelCard) -> NamedArrays:
    return shaken(initial_arrays(card.spec, 1))


@pytest.fixture(scope="module")
def origin(card: ModelCard, arrays: NamedArrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("origin") / "grey", card, arrays)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Images in colour of three classes."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "colour.npz"
    labels = np.repeat(["ash", "elm", "oak"], 20)
    np.savez(path, images=rng.integers(0, 256, (60, 6, 6, 3), dtype=np.uint8), labels=labels)
    return f"npz:{path}"


def in_colour(card: ModelCard, preprocessing: Preprocessing) -> tuple[ModelCard, NamedArrays]:
    spec = dataclasses.replace(card.spec, in_channels=3)
    changed = card.model_copy(update={"spec": spec, "preprocessing": preprocessing, "classes": tuple("abcdefghij")})
    return changed, shaken(initial_arrays(spec, 1))


def transferred(card: ModelCard, arrays: NamedArrays, channels: int) -> Model:
    """The model of the same classes for images of other channels."""
    spec, standard = transferred_spec(card, channels, 10, None), transferred_standard(card, channels)
    assert standard is not None
    how = Preprocessing(resolution=6, mean=standard.mean, std=standard.std)
    changed = card.model_copy(update={"spec": spec, "preprocessing": how})
    return Model(changed, transferred_weights(card, arrays, initial_arrays(spec, 0), card.classes))


def test_grey_images_are_to_a_colour_network_what_three_equal_channels_are(card: ModelCard) -> None:
    # Zeros that pad an image are the mean: a grey level of all channels only if their means are equal.
    colour = in_colour(card, COLOUR.model_copy(update={"mean": (110.0,) * 3}))
    grey = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 1), dtype=np.uint8)
    expected = Model(*colour).logits(np.repeat(grey, 3, axis=-1))
    found = transferred(*colour, 1).logits(grey)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    back = transferred(card.model_copy(update={"classes": colour[0].classes}), shaken(initial_arrays(card.spec, 1)), 3)
    original = Model(card, shaken(initial_arrays(card.spec, 1)))
    np.testing.assert_allclose(back.logits(np.repeat(grey, 3, axis=-1)), original.logits(grey), atol=1e-5)


def test_what_differs_between_the_means_of_channels_goes_to_the_statistics(card: ModelCard) -> None:
    colour, arrays = in_colour(card, COLOUR)
    fresh = initial_arrays(dataclasses.replace(colour.spec, in_channels=1), 0)
    begun, standard = transferred_weights(colour, arrays, fresh, ()), transferred_standard(colour, 1)
    assert standard is not None
    level = 77.0  # of a constant image, away from its border
    seen = arrays["stem.kernel"].sum((0, 1)).T @ ((level - np.array(COLOUR.mean)) / COLOUR.std)
    found = begun["stem.kernel"].sum((0, 1)).T @ ((level - np.array(standard.mean)) / standard.std)
    expected = seen - arrays["stem.norm.mean"]
    np.testing.assert_allclose(found - begun["stem.norm.mean"], expected, rtol=1e-5)


def test_a_classifier_is_kept_for_the_same_names_in_their_order(card: ModelCard, arrays: NamedArrays) -> None:
    named = card.model_copy(update={"classes": tuple("abcdefghij")})
    fresh = initial_arrays(card.spec, 5)
    turned = transferred_weights(named, arrays, fresh, tuple("jihgfedcba"))
    np.testing.assert_array_equal(turned["classifier.kernel"], arrays["classifier.kernel"][:, ::-1])
    np.testing.assert_array_equal(turned["classifier.bias"], arrays["classifier.bias"][::-1])
    for known, classes in ((named, tuple("abcdefghiX")), (named, ()), (card, ())):
        begun = transferred_weights(known, arrays, fresh, classes)
        np.testing.assert_array_equal(begun["classifier.kernel"], fresh["classifier.kernel"])
        np.testing.assert_array_equal(begun["stem.kernel"], arrays["stem.kernel"])


@pytest.mark.slow
def test_a_frozen_body_stays_as_it_was_and_the_folder_says_where_it_is_from(
    origin: Path, arrays: NamedArrays, images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, broken = tmp_path / "model", tmp_path / "broken"
    command = ["train", "--from", str(origin), "--data", images, "--out", str(folder), "--epochs", "2", "--freeze"]
    document = answer(capsys, *command)
    assert (document["epochs"], document["finished"]) == (2, True)
    card, begun = read_card(folder), read_folder(folder)[1]
    assert card.classes == ("ash", "elm", "oak")
    assert (card.spec.in_channels, card.spec.num_classes, card.spec.resolution) == (3, 3, 6)
    assert card.preprocessing is not None
    assert (card.preprocessing.mean, card.preprocessing.std) == ((33.0,) * 3, (79.0,) * 3)  # the origin's
    assert card.provenance["origin"]["source"] == str(origin)
    assert (card.training["frozen"], card.training["optimizer"]) == (True, "sgd")
    same = {name for name in arrays if not name.startswith("classifier") and np.array_equal(begun[name], arrays[name])}
    assert set(arrays) - same == {"stem.kernel", "classifier.kernel", "classifier.bias"}

    # Other weights are another training; those that do not fit are named.
    write_model(broken, read_card(origin), {**arrays, "stem.norm.bias": arrays["stem.norm.bias"] + 1})
    assert "`origin.digest` was" in complaint(capsys, *command[:2], broken, *command[3:], "--quiet", code=3)
    write_weights(broken, {**arrays, "stem.norm.bias": arrays["stem.norm.bias"] * np.nan})
    command[command.index(str(folder))] = str(tmp_path / "other")
    assert "`stem.norm.bias` holds numbers that are not finite" in complaint(
        capsys, *command[:2], broken, *command[3:], "--quiet"
    )
    assert not (tmp_path / "other").exists()


def test_weights_of_another_library_open_everywhere(
    card: ModelCard, arrays: NamedArrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"timm:{tmp_path / 'model.safetensors'}"
    export_to_timm(card, arrays, tmp_path)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 1), dtype=np.uint8)
    np.testing.assert_array_equal(scalesearch.load_model(source).logits(pictures), Model(card, arrays).logits(pictures))
    np.savez(tmp_path / "data.npz", images=np.repeat(pictures, 10, 0), labels=np.arange(30) % 10)
    assert answer(capsys, "evaluate", source, "--data", f"npz:{tmp_path / 'data.npz'}")["images"] == 30
    export(source, to="flax", path=tmp_path / "flax")
    np.testing.assert_array_equal(
        read_weights(tmp_path / "flax" / "weights.safetensors")["stem.kernel"], arrays["stem.kernel"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing to train: give a rule and its `phi`, or the network of --from"),
        ({"phi": 1.0, "origin": "grey"}, "`phi` chooses a network of a rule's family"),
        ({"origin": "grey"}, "name them by --data or --study"),
        ({"origin": "nowhere", "data": "mnist-sample"}, "nowhere: no trained model there"),
        ({"origin": "half", "data": "mnist-sample"}, "half: half a model: its folder lacks weights.safetensors"),
        ({"origin": "timm:nowhere.safetensors", "data": "mnist-sample"}, "nowhere.safetensors: no such file"),
        ({"origin": "four", "data": "colour"}, "takes images of 4 channels, which cannot become 3"),
        ({"origin": "grey", "data": "colour", "changes": {"frozen": True, "layer_rate": 0.5}}, "must be 1 where"),
        ({"rule": RULE, "phi": 0.0, "changes": {"frozen": True}}, "`frozen` belongs to a transfer"),
        ({"rule": RULE, "phi": 1.0, "resolution": 8}, "`resolution` belongs to a transfer"),
        ({"rule": RULE, "phi": 1.0, "origin": "grey"}, "is another network than the rule's"),
    ],
)
def test_bad_input(
    study: Study,
    card: ModelCard,
    images: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "grey", card)
    four = dataclasses.replace(card.spec, in_channels=4)
    write_model(tmp_path / "four", tiny_card(study, spec=four, preprocessing=None))
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.json").write_bytes((tmp_path / "grey" / "model.json").read_bytes())
    given: dict[str, Any] = dict.fromkeys(("rule", "phi", "origin", "study", "data", "resolution", "max_resolution"))
    given |= {"changes": {}, **arguments}
    if given["data"] == "colour":
        given["data"] = images
    with pytest.raises(InputError, match=message):
        plan_job(**given)
