"""keras: a .keras file that Keras loads by itself gives the same logits for grey levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from scalesearch.baselines.published import baseline
from scalesearch.errors import InputError
from scalesearch.export import keras as exporter
from scalesearch.export.keras_names import table
from scalesearch.scaling.cost.count import complexity
from tests.export.nets import expected, grey_levels, trained

# Of Keras 3.15 with numpy 2, whenever it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def _loaded(target: Path) -> Any:
    import keras

    assert keras.backend.backend() == "jax"
    return keras.saving.load_model(target.rename(target.with_suffix(".keras")), safe_mode=True, compile=False)


@pytest.mark.parametrize("name", ["mobile", "residual", "hard"])
def test_logits_are_ours(tmp_path: Path, name: str) -> None:
    card, arrays = trained(name)
    target = tmp_path / "network"  # Keras by itself would refuse to write to a name without .keras
    exporter.export(card, arrays, target)
    assert list(tmp_path.iterdir()) == [target]
    model = _loaded(target)
    found = jax.jit(model)(grey_levels(card).astype(np.float32))  # one program, not one a layer
    np.testing.assert_allclose(found, expected(name), atol=1e-5)
    trainable = sum(int(np.prod(each.shape)) for each in model.trainable_weights)
    assert trainable == complexity(card.spec).params


def test_a_definition_is_an_untrained_network(tmp_path: Path) -> None:
    card, _ = trained("mobile")
    target = tmp_path / "network.keras"
    with pytest.warns(UserWarning, match="those of an untrained network"):
        exporter.export(card.model_copy(update={"preprocessing": None}), None, target)
    model = _loaded(target)
    assert not {"rescaling", "normalization"} & {layer.name for layer in model.layers}
    assert all(np.any(each) for each in model.trainable_weights if each.name == "kernel")


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        (
            "efficientnet-b0",
            ["stem_conv", "stem_bn", "block2b_expand_conv", "block2a_dwconv", "block7a_se_reduce", "top_bn"],
        ),
        ("mobilenet-v2", ["Conv1", "bn_Conv1", "expanded_conv_depthwise_BN", "block_16_expand", "Conv_1_bn"]),
        ("resnet-18", ["stem", "stem_bn", "stages_0_0_first", "stages_3_0_shortcut_bn"]),
    ],
)
def test_names_are_those_of_keras_applications(name: str, layers: list[str]) -> None:
    names = {entry.theirs.split("/")[0] for entry in table(baseline(name).spec)}
    assert {*layers, "predictions"} <= names


def test_what_keras_cannot_compute_is_refused(tmp_path: Path) -> None:
    card, arrays = trained("convnext")
    with pytest.raises(InputError, match="no layer for the layer scale"):
        exporter.export(card, arrays, tmp_path / "out.keras")
    card, arrays = trained("residual")
    document = {**card.to_json(), "spec": {**card.spec.to_json(), "activation": "swish"}}
    with pytest.raises(InputError, match="must follow relu or relu6, .* but follows swish"):
        exporter.export(type(card).model_validate(document), arrays, tmp_path / "out.keras")
    assert list(tmp_path.iterdir()) == []
