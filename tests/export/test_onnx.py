"""onnx: the same logits in onnxruntime, for every kind of block."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from scalesearch.errors import InputError
from scalesearch.export import onnx as exporter
from tests.export.nets import CLASSES, SPECS, expected, grey_levels, standardised, trained


@pytest.mark.parametrize("name", SPECS)
def test_logits_are_ours(tmp_path: Path, name: str) -> None:
    card, arrays = trained(name)
    target = tmp_path / "network.onnx"
    exporter.export(card, arrays, target)
    images = standardised(card, grey_levels(card)).transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"images": images})
    assert np.ptp(expected(name)) > 0.1
    np.testing.assert_allclose(found, expected(name), atol=1e-5)
    (alone,) = session.run(None, {"images": images[:1]})
    np.testing.assert_allclose(alone, expected(name)[:1], atol=1e-5)


def test_what_the_file_says(tmp_path: Path) -> None:
    card, arrays = trained("mobile")
    target = tmp_path / "network.onnx"
    exporter.export(card, arrays, target)
    model = onnx.load(target)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    values = {entry.key: entry.value for entry in model.metadata_props}
    assert (json.loads(values["classes"]), json.loads(values["resolution"])) == (list(CLASSES), 22)
    assert (values["fit"], json.loads(values["mean"]), json.loads(values["std"])) == ("crop", [120, 110, 90], [60] * 3)
    with pytest.raises(InputError, match="there are none"):
        exporter.export(card, None, target)
