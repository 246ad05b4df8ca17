"""Rounding: multipliers become whole numbers by the reference's rules, and `balanced` keeps the total."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalesearch.baselines.published import NAMES, baseline
from scalesearch.errors import InputError
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import (
    Baseline,
    Rounding,
    round_depths,
    round_resolution,
    round_width,
    round_widths,
    scale,
    spread_depth,
)
from scalesearch.scaling.cost.count import complexity

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "efficientnet.json").read_text(encoding="utf-8"))

depth_vectors = st.lists(st.integers(1, 12), min_size=1, max_size=8).map(tuple)


@given(st.integers(1, 2000), st.integers(100, 400), st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_widths_round_as_in_the_released_efficientnet(width: int, hundredths: int, divisor: int) -> None:
    """tensorflow/tpu efficientnet_model.py, round_filters, in whole numbers so that no product is inexact."""
    exact = width * hundredths  # in hundredths
    expected = max(divisor, (exact + 50 * divisor) // 100 // divisor * divisor)
    if 10 * 100 * expected < 9 * exact:
        expected += divisor
    assert round_width(width * (hundredths / 100), divisor) == expected


@pytest.mark.parametrize(
    ("width", "divisor", "expected"),
    [(35.2, 8, 32), (19.2, 8, 24), (12, 8, 16), (11.99, 8, 16), (8.8, 8, 8), (8.9, 8, 16), (1, 8, 8), (17.6, 8, 16)],
)
def test_a_width_loses_at_most_a_tenth(width: float, divisor: int, expected: int) -> None:
    assert round_width(width, divisor) == expected


@given(depth_vectors, st.integers(1, 200))
def test_balanced_depth_spends_the_total_exactly(depths: tuple[int, ...], total: int) -> None:
    spread = spread_depth(depths, total)
    assert sum(spread) == max(total, len(depths))
    assert min(spread) >= 1


@given(depth_vectors, st.integers(1, 8))
def test_balanced_depth_multiplies_each_stage_by_a_whole_number(depths: tuple[int, ...], times: int) -> None:
    assert spread_depth(depths, sum(depths) * times) == tuple(depth * times for depth in depths)


@given(depth_vectors, st.integers(1, 200))
def test_balanced_depth_is_within_a_block_of_the_proportion(depths: tuple[int, ...], total: int) -> None:
    """Largest remainder keeps the quota; below a stage's first block it cannot, as each stage has one."""
    total = max(total, sum(depths))
    for depth, blocks in zip(depths, spread_depth(depths, total), strict=True):
        assert abs(blocks - depth * total / sum(depths)) < 1


def test_balanced_depth_gives_the_odd_block_to_the_largest_remainder_then_the_earlier_stage() -> None:
    assert spread_depth((1, 2, 2, 3, 3, 4, 1), 17) == (1, 2, 2, 3, 3, 5, 1)  # 17/16: remainders 1, 2, 2, 3, 3, 4, 1
    assert spread_depth((1, 1, 1), 5) == (2, 2, 1)
    assert spread_depth((1, 9), 2) == (1, 1)
    assert spread_depth((1, 1, 8), 4) == (1, 1, 2)
    assert spread_depth((1, 2, 2), 4) == (1, 2, 1)  # the first stage has the whole block that its 0.8 round up to


@given(depth_vectors, st.integers(100, 400))
def test_ceil_and_round_treat_each_stage_alone(depths: tuple[int, ...], hundredths: int) -> None:
    alpha = hundredths / 100
    assert round_depths(depths, alpha, "ceil") == tuple(-(-depth * hundredths // 100) for depth in depths)
    assert round_depths(depths, alpha, "round") == tuple((depth * hundredths + 50) // 100 for depth in depths)


@given(depth_vectors, st.integers(100, 400))
def test_balanced_depth_rounds_the_total(depths: tuple[int, ...], hundredths: int) -> None:
    assert sum(round_depths(depths, hundredths / 100, "balanced")) == (sum(depths) * hundredths + 50) // 100


@given(st.integers(1, 600), st.integers(101, 400), st.sampled_from([1, 2, 8, 32]))
def test_resolutions_are_the_nearest_multiples(resolution: int, hundredths: int, step: int) -> None:
    exact = resolution * hundredths  # in hundredths
    expected = max(step, (exact + 50 * step) // (100 * step) * step)
    assert round_resolution(resolution, hundredths / 100, step) == expected


@given(depth_vectors, st.integers(1, 300), st.integers(20, 99), st.sampled_from([1, 8]))
def test_nothing_that_shrinks_is_larger_than_before(
    sizes: tuple[int, ...], resolution: int, hundredths: int, divisor: int
) -> None:
    """Off the grids too: 20 times 0.97 is nearest to 24, the multiple of eight that is not below nine tenths of it."""
    times, widths = hundredths / 100, (20, *sizes, 0)
    for policy in ("ceil", "round", "balanced"):
        rounded = round_depths(sizes, times, policy)
        assert all(scaled <= depth for scaled, depth in zip(rounded, sizes, strict=True))
    scaled_widths = round_widths(widths, times, Rounding(divisor, "ceil", 1, "scaled", "scaled"))
    assert all(scaled <= width for scaled, width in zip(scaled_widths, widths, strict=True))
    assert round_resolution(resolution, times, 32) <= resolution


def test_a_width_off_the_grid_stays_where_rounding_would_raise_it() -> None:
    rounding = Rounding(8, "ceil", 1, "scaled", "fixed")
    assert round_widths((4, 20, 0), 0.97, rounding) == (4, 20, 0)
    assert round_widths((4, 20, 0), 0.8, rounding) == (4, 16, 0)
    assert round_widths((4, 20, 0), 1.01, rounding) == (8, 24, 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depth", ["ceil", "round", "balanced"])
def test_multipliers_of_one_change_nothing(name: str, depth: str) -> None:
    own = baseline(name)
    for step in (1, 32):
        rounding = dataclasses.replace(own.rounding, width_divisor=24, depth=depth, resolution_step=step)
        odd = dataclasses.replace(own.spec, resolution=225)
        assert scale(odd, Coefficients(1, 1, 1), rounding) == odd


def test_the_head_of_mobilenet_v2_grows_above_width_one_only() -> None:
    """arXiv:1801.04381 §6.1: the multiplier applies to all layers but the last convolution when below 1."""
    own = baseline("mobilenet-v2")
    assert round_widths(own.spec.widths, 0.5, own.rounding)[-1] == 1280
    assert round_widths(own.spec.widths, 1.4, own.rounding)[-1] == 1792
    # torchvision's mobilenet_v2(width_mult=1.4) and (0.5).
    assert complexity(scale(own.spec, Coefficients(1, 1.4, 1), own.rounding)).params == 6_108_776
    assert complexity(scale(own.spec, Coefficients(1, 0.5, 1), own.rounding)).params == 1_968_680


def test_stem_and_head_can_be_fixed() -> None:
    own = baseline("efficientnet-b0")
    fixed = dataclasses.replace(own.rounding, stem="fixed", head="fixed")
    assert round_widths(own.spec.widths, 2.0, fixed) == (32, 32, 48, 80, 160, 224, 384, 640, 1280)
    assert round_widths(own.spec.widths, 2.0, own.rounding) == (64, 32, 48, 80, 160, 224, 384, 640, 2560)


def test_the_first_and_the_last_stage_can_be_fixed() -> None:
    own = baseline("efficientnet-b0")
    fixed = dataclasses.replace(own.rounding, depth="balanced", first_last_depth="fixed", first_last_width="fixed")
    scaled = scale(own.spec, Coefficients(2, 2, 1), fixed)
    assert scaled.depths == (1, 4, 4, 6, 6, 8, 1)
    assert scaled.widths == (64, 16, 48, 80, 160, 224, 384, 320, 2560)
    assert fixed.to_json()["first_last_depth"] == fixed.to_json()["first_last_width"] == "fixed"
    assert "first_last_depth" not in own.rounding.to_json()
    two = dataclasses.replace(own.spec, stages=own.spec.stages[:2])
    with pytest.raises(
        InputError, match='`first_last_depth` = "fixed" needs a baseline of at least 3 stages, but got 2'
    ):
        Baseline("two", two, fixed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width_divisor": 0}, "`width_divisor` must be a whole number of at least 1, but got 0"),
        ({"width_divisor": 8.0}, "`width_divisor` must be a whole number of at least 1, but got 8.0"),
        ({"resolution_step": True}, "`resolution_step` must be a whole number of at least 1, but got True"),
        ({"depth": "floor"}, "`depth` must be one of ceil, round, balanced, but got 'floor'"),
        ({"stem": "grows"}, "`stem` must be one of scaled, fixed, but got 'grows'"),
        ({"first_last_depth": "grows"}, "`first_last_depth` must be one of scaled, fixed, but got 'grows'"),
        ({"head": "none"}, "`head` must be one of scaled, fixed, grows, but got 'none'"),
    ],
)
def test_an_impossible_rounding_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Rounding(8, "ceil", 1, "scaled", "scaled"), **changes)  # type: ignore[arg-type]


def test_the_papers_grid_on_b0() -> None:
    """Steps of 0.05 whose product is within 1.9 to 2.1: 109 triples, 65 networks, and what they really cost.

    α runs to 2, β and γ to √2, what each buys alone (the docs' decision 0002); the facts are in the golden file.
    """
    own = baseline("efficientnet-b0")
    base = complexity(own.spec).macs
    ticks = [1 + step / 20 for step in range(21)]
    triples = [
        Coefficients(alpha, beta, gamma)
        for alpha, beta, gamma in itertools.product(ticks, ticks, ticks)
        if max(beta, gamma) <= math.sqrt(2) and 1.9 - 1e-9 <= alpha * beta**2 * gamma**2 <= 2.1 + 1e-9
    ]
    networks = [scale(own.spec, triple, own.rounding) for triple in triples]
    ratios = [complexity(spec).macs / base for spec in networks]
    facts = GOLDEN["grid_step_0.05_product_1.9_to_2.1"]
    assert (len(triples), len(set(networks))) == (facts["candidates"], facts["distinct_networks"])
    assert [round(min(ratios), 2), round(max(ratios), 2)] == facts["real_ratio_min_max"]
    # Twelve of the 109 triples; they are nine networks.
    assert sum(abs(ratio / 2 - 1) <= 0.1 for ratio in ratios) == facts["within_10_percent_of_2"]
    assert len({spec for spec, ratio in zip(networks, ratios, strict=True) if abs(ratio / 2 - 1) <= 0.1}) == 9


def test_the_papers_own_triple_costs_more_than_it_says() -> None:
    """Its product is 1.920, but rounding makes the network cost 2.57 baselines (at 258 px)."""
    own = baseline("efficientnet-b0")
    grown = scale(own.spec, Coefficients(1.2, 1.1, 1.15), own.rounding)
    assert grown.resolution == 258
    assert f"{complexity(grown).macs / complexity(own.spec).macs:.2f}" == "2.57"
