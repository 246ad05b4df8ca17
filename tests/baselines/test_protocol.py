"""Baselines and kinds of blocks of the user's own: read from studies and rules, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scalesearch.baselines.protocol import find_baseline, own_code, usual_rounding
from scalesearch.cli.main import main
from scalesearch.errors import InputError
from scalesearch.runtime import modules
from scalesearch.scaling.stage import kind_of, make_stage
from scalesearch.study.documents import spec_from_json
from scalesearch.study.load import load_study
from tests.cli.tiny import TINY, complaint

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
WRONG = """
from scalesearch.baselines.protocol import *

class Bare(StageSpec):
    pass

class Silent(StageSpec):
    def check(self): pass
    def tally(self, width_in, width, stride): return Tally.empty(width)

Renamed = Silent
number = 3

class NoSpec:
    pass

class NoRounding:
    stages = (make_stage("separable", kernel_size=3, stride=1, width=8, depth=1),)
    spec = ArchitectureSpec(8, 1, 10, StemSpec(4, 3, 1), stages, 0)
    rounding = "ceil"

class Usual:
    spec = NoRounding.spec
"""


@pytest.fixture(autouse=True)
def _examples() -> None:
    modules.look_in(EXAMPLES)


@pytest.fixture
def wrong(tmp_path: Path) -> None:
    (tmp_path / "wrong_nets.py").write_text(WRONG, encoding="utf-8")
    modules.look_in(tmp_path, EXAMPLES)


def test_a_spec_with_a_kind_of_ones_own_is_read_back() -> None:
    own = find_baseline("my_nets:LinenNet")
    document = json.loads(json.dumps(own.spec.to_json()))
    assert document["module"] == "my_blocks:LinenNet"
    assert spec_from_json(document) == own.spec
    assert "module" not in find_baseline("my_nets:TinyNet").spec.to_json()
    assert own_code(own.spec) == {
        "my_blocks:LinenNet": "`module`",
        "my_nets:Gated": "`block`",
        "my_blocks:GatedBlock": "the `block_module` of my_nets:Gated",
    }
    assert own_code(find_baseline("resnet-18").spec) == {}

    document["stages"][1]["expand_ratio"] = 6
    with pytest.raises(InputError, match=r"^file: `stages\[1\].expand_ratio` must be 1 in a `my_nets:Gated` block"):
        spec_from_json(document, "file")
    document["stages"][1] = {"block": "my_nets:Gated", "kernel_size": 3, "stride": 1, "width": 8, "dept": 1}
    with pytest.raises(InputError, match=r"^file: unknown key `stages\[1\].dept` \(did you mean `depth`\?\)"):
        spec_from_json(document, "file")
    document["stages"][1] = {"block": "my_nets:Gated", "kernel_size": 3, "stride": 1, "width": 8.0, "depth": 1}
    with pytest.raises(InputError, match=r"^file: `stages\[1\].width` must be a whole number, but got 8.0"):
        spec_from_json(document, "file")


def test_a_study_names_it_alone_or_changes_its_input(tmp_path: Path) -> None:
    own = find_baseline("my_nets:TinyNet")
    text = TINY[: TINY.index("[baseline]")], TINY[TINY.index("[rounding]") :]
    path = tmp_path / "study.toml"

    def resolved(line: str, section: str = "") -> object:
        path.write_text(text[0] + line + section + text[1].replace("width_divisor = 1", ""), encoding="utf-8")
        (tmp_path / "my_nets.py").write_bytes((EXAMPLES / "my_nets.py").read_bytes())
        (tmp_path / "my_blocks.py").write_bytes((EXAMPLES / "my_blocks.py").read_bytes())
        return load_study(path).resolved_baseline()

    assert resolved('baseline = "my_nets:TinyNet"\n') == own
    changed = resolved("", '[baseline]\nname = "my_nets:TinyNet"\nresolution = 20\nnum_classes = 7\n')
    assert (changed.spec.resolution, changed.spec.num_classes, changed.spec.stages) == (20, 7, own.spec.stages)
    # its own stages in TOML, of a kind in Python
    stages = 'stages = [{ block = "my_nets:Gated", kernel_size = 3, stride = 1, width = 8, depth = 2, se_ratio = 0.5 }]'
    stem = "stem = { width = 8, kernel_size = 3, stride = 1 }"
    sizes = "resolution = 8\nin_channels = 1\nnum_classes = 10\nhead_width = 0"
    toml = f'[baseline]\nname = "mine"\n{sizes}\n{stem}\n{stages}\n'
    assert resolved("", toml).spec.stages[0] == make_stage(
        "my_nets:Gated", kernel_size=3, stride=1, width=8, depth=2, se_ratio=0.5
    )
    assert {**load_study(path).model_dump()["baseline"]["stages"][0]}["block"] == "my_nets:Gated"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoSpec", "whose `spec` must be an ArchitectureSpec, but is None"),
        ("NoRounding", "whose `rounding` must be a Rounding, but is 'ceil'"),
    ],
)
def test_what_is_no_baseline_is_named(wrong: None, name: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^`name` names wrong_nets:{name}, {message}$"):
        find_baseline(f"wrong_nets:{name}")
    assert find_baseline("wrong_nets:Usual").rounding == usual_rounding(find_baseline("wrong_nets:Usual").spec)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", "`block` names wrong_nets:number, which must be a subclass of StageSpec, but is 3"),
        ("Bare", "`block` names wrong_nets:Bare, which must have the methods of a StageSpec, but lacks check, tally"),
        ("Renamed", "`block` must be wrong_nets:Silent, where the class is defined, but got wrong_nets:Renamed"),
    ],
)
def test_what_is_no_kind_is_named(wrong: None, name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        kind_of(f"wrong_nets:{name}")
    assert str(caught.value) == message


def test_the_command_line_says_so_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = complaint(capsys, "count", "--baseline", "no_such:Net")
    assert line.startswith("scalesearch: --baseline names no_such:Net, but there is no module `no_such` in ")
    line = complaint(capsys, "plan", "--baseline", "no_such:Net")
    assert "`baseline.name` names no_such:Net, but there is no module `no_such`" in line
    own = find_baseline("my_nets:TinyNet").spec.to_json()
    rule = {**json.loads((EXAMPLES.parents[1] / "studies/results/mnist_sample/coefficients.json").read_text("utf-8"))}
    rule["baseline"] = {"name": "my_nets:TinyNet", "spec": own}
    path = tmp_path / "coefficients.json"
    path.write_text(json.dumps(rule), encoding="utf-8")
    (tmp_path / "my_nets.py").write_bytes((EXAMPLES / "my_nets.py").read_bytes())
    assert main(["scale", str(path), "--phi", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["family"][0]["spec"] == own
    rule["baseline"]["spec"]["stages"][0]["block"] = "no_such:Gated"
    path.write_text(json.dumps(rule), encoding="utf-8")
    line = complaint(capsys, "scale", path)
    assert f"{path}: `baseline.spec.stages[0].block` names no_such:Gated, but there is no module `no_such`" in line
