"""A loaded model: what training's evaluation says of the same weights, any kind of images, bad folders."""

from __future__ import annotations

import dataclasses
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import scalesearch
from scalesearch.data.feed import EpochData, prepare
from scalesearch.data.images import Split
from scalesearch.data.sources import read_source
from scalesearch.data.splits import load_splits
from scalesearch.errors import InputError
from scalesearch.models.names import initial_arrays, named_arrays
from scalesearch.models.ops.select import select
from scalesearch.models.own import build_network
from scalesearch.runtime.cache import cache_folder
from scalesearch.study.sections import DataSection, Study
from scalesearch.trained.card import CARD_FILE, ModelCard, NamedArrays, Preprocessing
from scalesearch.trained.evaluation import evaluate_images
from scalesearch.trained.labelled import Labelled
from scalesearch.trained.model import Model
from scalesearch.trained.weights import WEIGHTS_FILE, write_weights
from scalesearch.training import step
from scalesearch.training.state import TrainState, layout_of, weights_of
from tests.models_on_disk import tiny_card, write_model, write_pictures


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return scalesearch.load_model(folder)


@pytest.mark.parametrize("kind", ["arrays", "pictures"])
def test_it_says_of_validation_images_what_training_says(study: Study, tmp_path: Path, kind: str):
    splits = load_splits(study.data)
    train, validation = splits.train, splits.validation
    if kind == "pictures":  # neither square nor of the network's size
        for name in ("one", "two"):
            write_pictures(tmp_path / "set" / name, 20, size=(11, 9), seed=len(name + kind))
            write_pictures(tmp_path / "set" / name / "more", 17, size=(7, 13), seed=3)
        source = read_source(DataSection(source=f"folder:{tmp_path / 'set'}"))
        train = validation = source.train
    spec = study.baseline.spec()
    network = build_network(
        spec, operations=select("auto", "cpu"), dropout=0.0, rng=np.random.default_rng(4), precision="float32"
    )
    state = TrainState(jnp.int32(1), weights_of(network), (), None)
    data = prepare(train, validation, spec.resolution, 32)
    assert isinstance(data, EpochData)
    loss, accuracy = step.evaluate(state, data, layout_of(network))

    how = Preprocessing(resolution=spec.resolution, mean=tuple(data.mean.tolist()), std=tuple(data.std.tolist()))
    arrays = named_arrays(nnx.state(network, (nnx.Param, nnx.BatchStat)))
    loaded = Model(tiny_card(study, preprocessing=how), arrays)
    found = evaluate_images(loaded, Labelled(validation, "validation", "tiny"))
    assert found.accuracy == pytest.approx(float(accuracy), abs=1e-7)
    assert found.cross_entropy == pytest.approx(float(loss), rel=1e-6)  # float32, in another order


def test_images_of_any_kind_are_the_same_images(model: Model, tmp_path: Path):
    paths = write_pictures(tmp_path, 7)
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])[..., None]
    expected = model(pixels)
    assert expected.shape == (7, 10)
    np.testing.assert_allclose(expected.sum(1), 1, rtol=1e-6)
    assert np.ptp(expected, axis=0).min() > 1e-4  # the images differ
    for one in ([*map(str, paths)], paths, [Image.open(path) for path in paths]):
        np.testing.assert_array_equal(model(one), expected)
    for single in (pixels[3], paths[3], str(paths[3]), Image.open(paths[3])):
        np.testing.assert_allclose(model(single), expected[3:4], rtol=1e-5)
    logits = model.logits(pixels)
    np.testing.assert_allclose(logits.argmax(1), expected.argmax(1))
    assert model([]).shape == model(pixels[:0]).shape == (0, 10)


def test_images_of_another_shape_are_made_square_by_the_cards_fit(card: ModelCard, model: Model):
    wide = np.random.default_rng(2).integers(0, 256, (1, 6, 10, 1), dtype=np.uint8)
    np.testing.assert_array_equal(model(wide), model(wide[:, :, 2:8]))
    assert card.preprocessing is not None
    pads = card.model_copy(update={"preprocessing": card.preprocessing.model_copy(update={"fit": "pad"})})
    padded = Model(pads, initial_arrays(card.spec, 0))
    square = np.pad(wide, ((0, 0), (2, 2), (0, 0), (0, 0)))
    np.testing.assert_array_equal(padded(wide), padded(square))
    assert not np.allclose(padded(wide), model(wide))


def test_the_resolution_is_that_of_the_preprocessing(card: ModelCard):
    how = Preprocessing(resolution=8, mean=(33.0,), std=(79.0,))
    other = Model(card.model_copy(update={"preprocessing": how}), initial_arrays(card.spec, 0))
    assert (other.spec.resolution, card.spec.resolution) == (8, 6)
    assert repr(other) == "<Model tiny φ = 0: 8×8 px, grey, 10 classes>"


def test_odd_numbers_of_images_need_no_other_program(model: Model, tmp_path: Path):
    images = np.zeros((70, 6, 6, 1), np.uint8)
    model(images[:1])
    model(images[:32])
    before = sorted((cache_folder() / "serving").iterdir())
    assert [len(model(images[:count])) for count in (2, 5, 33, 70)] == [2, 5, 33, 70]
    assert sorted((cache_folder() / "serving").iterdir()) == before


def test_a_later_start_builds_no_network(folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch):
    images = np.full((1, 6, 6, 1), 99, np.uint8)
    expected = model(images)
    monkeypatch.setattr("scalesearch.models.own.build_network", None)
    np.testing.assert_array_equal(scalesearch.load_model(folder)(images), expected)


@pytest.mark.parametrize("cut", [True, False])
def test_damaged_programs_are_made_again(folder: Path, model: Model, cut: bool, monkeypatch: pytest.MonkeyPatch):
    images = np.full((1, 6, 6, 1), 99, np.uint8)
    expected = model(images)
    for path in (cache_folder() / "serving").iterdir():
        content = bytearray(path.read_bytes()[: 100 if cut else None])
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    monkeypatch.setattr(pickle, "loads", None)  # nothing of it is looked at
    np.testing.assert_array_equal(scalesearch.load_model(folder)(images), expected)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (np.zeros((2, 6, 6, 1), np.float32), r"uint8 of shape \(n, h, w, 1\) or \(h, w, 1\), but got float32 \(2, 6,"),
        (np.zeros((2, 6, 6, 3), np.uint8), r"but got uint8 \(2, 6, 6, 3\)"),
        (np.zeros((6, 6), np.uint8), r"but got uint8 \(6, 6\)"),
        (np.zeros((6, 0, 1), np.uint8), r"but got uint8 \(6, 0, 1\)"),
        (["missing.png"], "missing.png: cannot be read"),
        ([1], "got a int"),
    ],
)
def test_images_that_it_cannot_take(model: Model, images: np.ndarray, reason: str):
    with pytest.raises(InputError, match=reason):
        model(images)


def _without(arrays: NamedArrays) -> None:
    del arrays["stem.kernel"]


def _with_more(arrays: NamedArrays) -> None:
    arrays["stem.extra"] = np.zeros(1, np.float32)


def _misshapen(arrays: NamedArrays) -> None:
    arrays["classifier.kernel"] = arrays["classifier.kernel"][:, :7].copy()


def _not_finite(arrays: NamedArrays) -> None:
    arrays["classifier.bias"] = np.full_like(arrays["classifier.bias"], np.nan)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_without, "lacks `stem"),
        (_with_more, "what the network does not have: `stem.extra`"),
        (_misshapen, r"`classifier.kernel` must have shape \(8, 10\), but has \(8, 7\)"),
        (_not_finite, "`classifier.bias` holds numbers that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    card: ModelCard, tmp_path: Path, spoil: Callable[[NamedArrays], None], reason: str
):
    arrays = initial_arrays(card.spec, 0)
    spoil(arrays)
    with pytest.raises(InputError, match=f"{WEIGHTS_FILE}: .*{reason}"):
        scalesearch.load_model(write_model(tmp_path / "model", card, arrays))


def test_half_a_model_is_refused(card: ModelCard, tmp_path: Path):
    folder = write_model(tmp_path / "model", card)
    weights = folder / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        scalesearch.load_model(folder)
    for dtype, shape in (("F32", [1] * 65), ("F8_E4M3", [4])):
        header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, 4]}}).encode()
        weights.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
        with pytest.raises(InputError, match="holds an array that numpy cannot"):
            scalesearch.load_model(folder)
    weights.unlink()
    with pytest.raises(InputError, match=f"model: half a model: its folder lacks {WEIGHTS_FILE}"):
        scalesearch.load_model(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, f"{CARD_FILE}: `schema_version` must be .*1.*, but got 2"),
        ({"preprocessing": None}, "a definition without trained weights"),
    ],
)
def test_cards_that_it_cannot_take(card: ModelCard, tmp_path: Path, change: dict[str, object], reason: str):
    folder = write_model(tmp_path / "model", card)
    document = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    (folder / CARD_FILE).write_text(json.dumps({**document, **change}), encoding="utf-8")
    with pytest.raises(InputError, match=reason):
        scalesearch.load_model(folder)


def test_what_a_card_promises_is_held_against_its_weights_and_the_memory(card: ModelCard):
    """A network of these sizes would take terabytes, or minutes to list its blocks."""
    spec, weights = card.spec, initial_arrays(card.spec, 0)
    deep = spec.with_sizes((10**8,) * len(spec.depths), spec.widths, spec.resolution)
    wide = spec.with_sizes(spec.depths, (10**6,) * len(spec.widths), spec.resolution)
    for large in (deep, wide, dataclasses.replace(spec, num_classes=10**8)):
        with pytest.raises(InputError, match=r"its network has at least [\d,]{9,} parameters, but it holds"):
            Model(card.model_copy(update={"spec": large}), weights)
    how = Preprocessing(resolution=10**6, mean=(33.0,), std=(79.0,))
    with pytest.raises(InputError, match="an image of 1,000,000 px, `resolution` of the preprocessing, does not fit"):
        Model(card.model_copy(update={"preprocessing": how}), weights)


def test_weights_of_another_number_of_classes(card: ModelCard, tmp_path: Path):
    folder = write_model(tmp_path / "model", card)
    write_weights(folder, initial_arrays(dataclasses.replace(card.spec, num_classes=7), 0))
    with pytest.raises(InputError, match=r"`classifier.bias` must have shape \(10,\), but has \(7,\)"):
        scalesearch.load_model(folder)


def test_a_split_without_images_is_refused(model: Model):
    empty = Split(np.zeros((0, 6, 6, 1), np.uint8), np.zeros(0, np.int32))
    with pytest.raises(InputError, match="its test split has no images"):
        evaluate_images(model, Labelled(empty, "test", "tiny"))
