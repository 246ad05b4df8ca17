"""flax: network.py gives the same logits where scalesearch cannot be imported."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from scalesearch.baselines.published import NAMES, baseline
from scalesearch.errors import InputError
from scalesearch.export import flax
from scalesearch.trained.card import ModelCard
from tests.export.nets import CLASSES, SPECS, expected, grey_levels, trained


@pytest.mark.parametrize("name", SPECS)
def test_logits_are_ours_without_scalesearch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    card, arrays = trained(name)
    flax.export(card, arrays, tmp_path)
    wanted = expected(name)
    for module in [each for each in sys.modules if each.split(".")[0] == "scalesearch"]:
        monkeypatch.setitem(sys.modules, module, None)  # importing it is an error
    found = importlib.util.spec_from_file_location("network", tmp_path / "network.py")
    assert found is not None
    assert found.loader is not None
    network = importlib.util.module_from_spec(found)
    found.loader.exec_module(network)
    loaded = network.load()
    logits = jax.jit(lambda images: loaded(network.standardised(images)))(grey_levels(card))
    np.testing.assert_allclose(logits, wanted, atol=1e-5)
    assert (CLASSES, card.spec.resolution) == (network.CLASSES, network.RESOLUTION)


@pytest.mark.parametrize("name", NAMES)
def test_a_definition_alone(name: str) -> None:
    text = flax.source(ModelCard.model_validate({"name": name, "spec": baseline(name).spec.to_json()}), weighted=False)
    compile(text, "network.py", "exec")
    assert "safetensors" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_code_of_ones_own_is_refused() -> None:
    card, _ = trained("mobile")
    document = {**card.to_json(), "spec": {**card.spec.to_json(), "module": "my_nets:Net"}}
    with pytest.raises(InputError, match=r"\(my_nets:Net\) is code, which no exporter can translate"):
        flax.source(type(card).model_validate(document), weighted=False)
