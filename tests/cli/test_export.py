"""The command export: a rule, a network of its family, or a trained model, on stdout, in a file or in a folder."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scalesearch
from scalesearch.cli.main import main
from scalesearch.errors import InputError
from scalesearch.scaling.family import family
from scalesearch.trained.card import CARD_FILE, card_text
from scalesearch.trained.weights import write_weights
from tests.cli.tiny import complaint
from tests.export.nets import grey_levels, logits, standardised, trained
from tests.models_on_disk import write_model
from tests.planted import planted_rule


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    card, arrays = trained("mobile")
    (folder / CARD_FILE).write_text(card_text(card), encoding="utf-8")
    write_weights(folder, arrays)
    return folder


def test_to_stdout_and_to_a_file(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    document = json.loads(rule_file.read_text(encoding="utf-8"))
    for source in (rule_file.parent, rule_file):
        assert main(["export", str(source)]) == 0
        assert json.loads(capsys.readouterr().out) == document
    target = rule_file.parent / "out.json"
    assert main(["export", str(rule_file.parent), "--to", "json", "--output", str(target)]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"wrote {target}\n")
    assert json.loads(target.read_text(encoding="utf-8")) == document


def test_a_member_of_the_family(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    (member,) = family(planted_rule(), (2.0,))
    assert main(["export", str(rule_file), "--phi", "2"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["name"], card["phi"], card["spec"]) == ("planted φ = 2", 2.0, member.spec.to_json())
    assert card["rule"] == planted_rule().to_json()
    assert "`phi` must be" in complaint(capsys, "export", rule_file, "--phi", "nan")


def test_a_definition_in_a_folder_without_jax(rule_file: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from scalesearch.cli.main import main
assert main(["export", {str(rule_file)!r}, "--to", "flax", "--output", {str(tmp_path / "net")!r}]) == 0
assert main(["export", {str(rule_file)!r}, "--output", {str(tmp_path / "out.json")!r}]) == 0
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
    assert [each.name for each in (tmp_path / "net").iterdir()] == ["network.py"]
    (member,) = family(planted_rule(), (1.0,))
    assert f"RESOLUTION = {member.spec.resolution}\n" in (tmp_path / "net" / "network.py").read_text(encoding="utf-8")


def test_a_trained_model(capsys: pytest.CaptureFixture[str], model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    for _ in range(2):  # again into the folder of an earlier export
        assert main(["export", str(model_folder), "--to", "flax", "--output", str(folder)]) == 0
        assert capsys.readouterr().err == f"wrote {folder}\n"
        assert sorted(each.name for each in folder.iterdir()) == ["network.py", "weights.safetensors"]
    before = (model_folder / "weights.safetensors").read_bytes()
    text = complaint(capsys, "export", model_folder, "--to", "flax", "--output", model_folder)
    assert f"{model_folder}: cannot be written (it holds model.json, which this export does not write)" in text
    assert (model_folder / "weights.safetensors").read_bytes() == before
    assert main(["export", str(model_folder)]) == 0
    assert capsys.readouterr().out == (model_folder / CARD_FILE).read_text(encoding="utf-8")
    assert "is a trained model" in complaint(capsys, "export", model_folder, "--phi", "2")


def test_weights_that_do_not_fit(capsys: pytest.CaptureFixture[str], model_folder: Path, tmp_path: Path) -> None:
    card, arrays = trained("mobile")
    del card
    command = ("export", model_folder, "--to", "flax", "--output", tmp_path / "net")
    write_weights(model_folder, {**arrays, "stem.kernel": np.full_like(arrays["stem.kernel"], np.nan)})
    assert "`stem.kernel` holds numbers that are not finite" in complaint(capsys, *command)
    write_weights(model_folder, {name: array for name, array in arrays.items() if name != "stem.kernel"})
    assert "weights.safetensors: lacks `stem.kernel`" in complaint(capsys, *command)
    (model_folder / "weights.safetensors").unlink()
    assert "half a model: its folder lacks weights.safetensors" in complaint(capsys, *command)
    assert not (tmp_path / "net").exists()


def test_binary_on_stdout(model_folder: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["export", str(model_folder), "--to", "onnx", "--output", "-"]) == 0
    out, err = capfdbinary.readouterr()
    import onnx

    assert onnx.load_from_string(out).graph.input[0].name == "images"
    assert err == b""


def test_no_binary_to_a_terminal(
    capsys: pytest.CaptureFixture[str], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "is no text for a terminal: use --output FILE" in complaint(capsys, "export", model_folder, "--to", "onnx")


def test_bad_input(capsys: pytest.CaptureFixture[str], rule_file: Path, tmp_path: Path) -> None:
    folder = str(rule_file.parent)
    assert "no such file or folder" in complaint(capsys, "export", str(tmp_path / "nowhere"))
    assert "invalid choice: 'caffe'" in complaint(capsys, "export", folder, "--to", "caffe")
    assert "writes a folder: name it with --output DIR" in complaint(capsys, "export", folder, "--to", "flax")
    for name in ("onnx", "stablehlo"):
        text = complaint(capsys, "export", folder, "--to", name)
        assert f"--to {name} writes a network with its weights, but" in text
    for target in (tmp_path / "no" / "such.json", Path("/proc/self/out.json"), tmp_path):
        assert f"{target}: cannot be written" in complaint(capsys, "export", folder, "--output", str(target))
    rule_file.unlink()
    assert "no coefficients.json there yet" in complaint(capsys, "export", folder)


def test_a_library_that_is_not_installed(
    capsys: pytest.CaptureFixture[str], rule_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "keras" else find(name))
    text = complaint(capsys, "export", rule_file, "--to", "keras", "--output", rule_file.parent / "net.keras")
    assert "--to keras needs the package keras: pip install 'scalesearch[keras]'" in text


def test_the_resolution_is_that_of_the_evaluation(tmp_path: Path) -> None:
    """A network that trained at 22 px and is judged at 29 px is handed over as `evaluate` and `predict` run it."""
    onnxruntime = pytest.importorskip("onnxruntime")
    card, arrays = trained("mobile")
    assert card.preprocessing is not None
    judged = card.preprocessing.model_copy(update={"resolution": 29})
    card = card.model_copy(update={"preprocessing": judged})
    folder = write_model(tmp_path / "model", card, arrays)
    scalesearch.export(folder, to="onnx", path=tmp_path / "net.onnx")

    spec = dataclasses.replace(card.spec, resolution=29)
    images = standardised(card, grey_levels(card.model_copy(update={"spec": spec})))
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["n", 3, 29, 29]
    (found,) = session.run(None, {"images": images.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(found, logits(spec, arrays, images), atol=1e-5)


def test_from_python(tmp_path: Path) -> None:
    scalesearch.export(planted_rule(), to="flax", path=tmp_path / "net", phi=0)
    assert "φ = 0" in (tmp_path / "net" / "network.py").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="`to` must be one of json, flax"):
        scalesearch.export(planted_rule(), to="caffe", path=tmp_path / "net")
