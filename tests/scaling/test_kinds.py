"""Kinds of blocks: each is one module, found by its name; a new one needs no edit elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.compound import Rounding, round_width
from scalesearch.scaling.cost.mbconv import in_eights
from scalesearch.scaling.feasible import feasible_set
from scalesearch.scaling.stage import kinds, make_stage

ROOT = Path(__file__).parents[2]

GROUPED = '''
from dataclasses import dataclass

from scalesearch.scaling.cost.tally import OUTPUT, Tally
from scalesearch.scaling.stage import StageSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(StageSpec):
    """One k×k convolution in groups of `group_width` channels."""

    group_width: int

    @property
    def width_multiple(self):
        return self.group_width

    def check(self):
        if self.width % self.group_width:
            raise ValueError(f"`width` must be a multiple of `group_width`, but got {self.width}")

    def tally(self, width_in, width, stride):
        return Tally.empty(width).add(OUTPUT, self.kernel_size, width_in, width, groups=width // self.group_width)
'''

PLAN = """
import sys
import scalesearch.scaling.cost as cost

cost.__path__.append(sys.argv[1])

from scalesearch.errors import InputError
from scalesearch.study.documents import spec_from_json
from scalesearch.scaling.stage import StageSpec
from scalesearch.scaling.cost.count import complexity
from scalesearch.search.plan.design import make_plan
from scalesearch.study.load import parse_study

stage = {"block": "grouped", "kernel_size": 3, "stride": 1, "width": 16, "depth": 4, "group_width": 8}
document = {
    "name": "grouped",
    "tolerance": 0.1,
    "baseline": {
        "name": "grouped", "resolution": 8, "in_channels": 1, "num_classes": 3, "head_width": 0,
        "stem": {"width": 16, "kernel_size": 3, "stride": 1}, "stages": [stage],
    },
    "data": {"source": "mnist-sample", "validation": 10},
    "training": {"epochs": 2, "batch_size": 5, "learning_rate": 0.1},
}
study = parse_study(document, "test")
spec = study.baseline.spec()
assert spec_from_json(spec.to_json()) == spec
assert spec.stages[0].group_width == 8
counted = complexity(spec)
assert counted.macs == 64 * (9 * 1 * 16 + 4 * 9 * 8 * 16) + 16 * 3, counted
plan = make_plan(study)
assert plan.baseline.rounding.width_divisor == 64
assert all(trial.candidate.spec.stages[0].width % 8 == 0 for trial in plan.trials) and plan.trials
for wrong, message in (
    ({**stage, "width": 20}, "`baseline.stages[0].width` must be a multiple of `group_width`"),
    ({**stage, "block": "mbconv"}, "unknown key `baseline.stages[0].group_width` (did you mean `width`?)"),
    ({key: stage[key] for key in stage if key != "group_width"}, "missing key `baseline.stages[0].group_width`"),
    ({**stage, "group_with": 8}, "unknown key `baseline.stages[0].group_with` (did you mean `group_width`?)"),
):
    document["baseline"]["stages"] = [wrong]
    try:
        parse_study(document, "test")
    except InputError as error:
        assert message in str(error), error
    else:
        raise AssertionError(wrong)
"""


def test_a_new_kind_is_one_module_with_its_fields_checks_and_cost(tmp_path: Path) -> None:
    (tmp_path / "grouped.py").write_text(GROUPED, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PLAN, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


NAMES = (
    "mbconv",
    "separable",
    "basic",
    "bottleneck",
    "bneck",
    "convnext",
    "fused_mbconv",
    "grouped_bottleneck",
    "preactivation",
)


def test_kinds_are_named_in_messages_in_one_order() -> None:
    assert tuple(kinds()) == NAMES
    with pytest.raises(ValueError, match=f"`block` must be one of {', '.join(NAMES)}, but got 'x'"):
        make_stage("x", kernel_size=3, stride=1, width=8, depth=1)


@pytest.mark.parametrize(
    ("block", "fields", "message"),
    [
        (
            "bneck",
            {"activation": "mish"},
            "`activation` must be one of swish, relu, relu6, hard_swish, gelu, but got 'mish'",
        ),
        ("bneck", {"expand_ratio": 0.5}, "`expand_ratio` must be a number of at least 1, but got 0.5"),
        ("mbconv", {"expand_ratio": float("nan")}, "`expand_ratio` must be a number of at least 1, but got nan"),
        ("bottleneck", {"expand_ratio": 2.5}, "`expand_ratio` must be a whole number of at least 1, but got 2.5"),
        ("convnext", {"se_ratio": 0.25}, "`se_ratio` must be 0 in a `convnext` block, but got 0.25"),
        ("fused_mbconv", {"se_ratio": 0.25}, "`se_ratio` must be 0 in a `fused_mbconv` block, but got 0.25"),
        ("preactivation", {"expand_ratio": 2}, "`expand_ratio` must be 1 in a `preactivation` block, but got 2"),
        ("grouped_bottleneck", {"group_width": 0}, "`group_width` must be a whole number of at least 1, but got 0"),
        (
            "grouped_bottleneck",
            {"group_width": 3, "expand_ratio": 2},
            "`width` must be a multiple .* but got width 8, expand_ratio 2 and group_width 3",
        ),
    ],
)
def test_an_impossible_stage_of_a_kind_is_refused(block: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_stage(block, kernel_size=3, stride=1, width=8, depth=1, **fields)


@given(st.integers(1, 3000), st.sampled_from([0.25, 1.5, 2.3, 2.5, 3.67, 4.5]))
def test_widths_in_eights_are_rounded_as_widths_are(width: int, ratio: float) -> None:
    assert in_eights(np.array([width * ratio])).tolist() == [round_width(width * ratio, 8)]


def test_a_divisor_that_does_not_fit_the_groups_is_bad_input() -> None:
    stage = make_stage("grouped_bottleneck", kernel_size=3, stride=1, width=16, depth=1, group_width=8)
    spec = ArchitectureSpec(8, 1, 3, StemSpec(4, 3, 1), (stage, stage), 0)
    with pytest.raises(InputError, match="`width` must be a multiple .* but got width 20, .* group_width 8"):
        feasible_set(spec, Rounding(4, "balanced", 1, "fixed", "fixed"), 3, 0.3)


def test_a_baseline_of_grouped_blocks_widens_by_whole_groups() -> None:
    stages = [
        make_stage("grouped_bottleneck", kernel_size=3, stride=1, width=48, depth=1, group_width=w) for w in (16, 24)
    ]
    assert [stage.usual_divisor for stage in stages] == [16, 24]
