"""What lies between nominal and real cost, against networks counted by themselves; and the published family."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalesearch.baselines.efficientnet import PAPER, published, published_sentences
from scalesearch.baselines.published import NAMES, baseline
from scalesearch.scaling.coefficients import Coefficients, coefficients_of, shares_of
from scalesearch.scaling.compound import Baseline, Rounding
from scalesearch.scaling.cost.count import complexity
from scalesearch.scaling.explain import explain
from scalesearch.scaling.simplex import from_search_space

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "efficientnet.json").read_text(encoding="utf-8"))


def rounded_by(name: str, **changes: object) -> Baseline:
    own = baseline(name)
    return dataclasses.replace(own, rounding=dataclasses.replace(own.rounding, **changes))  # type: ignore[arg-type]


@given(
    st.sampled_from(NAMES),
    st.sampled_from(["ceil", "round", "balanced"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(1.1, 8),
    st.floats(-0.5, 3),
    st.booleans(),
)
@settings(max_examples=60)
def test_the_factors_multiply_to_the_real_cost(
    name: str, depth: str, share: float, fraction: float, budget: float, phi: float, nominal: bool
) -> None:
    own, coefficients = rounded_by(name, depth=depth), coefficients_of(from_search_space(share, fraction), budget)
    zero, one = explain(own, coefficients, (0, phi), nominal=nominal).members
    assert set(zero.factors.values()) == {1.0}
    assert one.nominal * math.prod(one.factors.values()) == pytest.approx(one.member.cost_ratio, rel=1e-9)
    assert one.off == one.member.cost_ratio / one.nominal


def test_what_needs_no_rounding_has_no_such_factor() -> None:
    (one,) = explain(baseline("resnet-50"), Coefficients(2, 2, 2), (1,), nominal=True).members
    assert (one.depth, one.width, one.resolution) == pytest.approx((1, 1, 1), rel=1e-12)
    assert one.formula < 1  # the stem and the first blocks are not twice as many
    halved = rounded_by("mobilenet-v2", width_divisor=2)  # its head stays 1280 where the widths are halved
    (one,) = explain(halved, Coefficients(1, 2, 1), (-1,), nominal=True).members
    assert one.width == pytest.approx(1, rel=1e-12)


def test_half_a_block_costs_the_mean_of_its_neighbours() -> None:
    own = rounded_by("resnet-18", depth="ceil")  # two blocks a stage
    (one,) = explain(own, Coefficients(1.25, 1, 1), (1,), nominal=True).members
    two, three = (complexity(own.spec.with_sizes((n,) * 4, own.spec.widths, own.spec.resolution)).macs for n in (2, 3))
    assert one.member.spec.depths == (3, 3, 3, 3)
    assert one.depth == pytest.approx(three / ((two + three) / 2), rel=1e-12)
    assert (one.width, one.resolution) == (1, 1)


def test_unrounded_widths_and_pixels_cost_what_networks_of_them_cost() -> None:
    own = rounded_by("resnet-18", width_divisor=32)
    (one,) = explain(own, Coefficients(1, 1.25, 1), (1,), nominal=True).members
    exact = own.spec.with_sizes(own.spec.depths, (80, 80, 160, 320, 640, 0), own.spec.resolution)
    assert one.member.spec.widths == (96, 96, 160, 320, 640, 0)
    assert one.width == pytest.approx(one.member.complexity.macs / complexity(exact).macs, rel=1e-12)
    (one,) = explain(own, Coefficients(1, 1, 1.1), (1,), nominal=True).members
    classifier = 512 * 1000
    exact_macs = (complexity(own.spec).macs - classifier) * 1.1**2 + classifier
    assert one.member.spec.resolution == 246
    assert one.resolution == pytest.approx(one.member.complexity.macs / exact_macs, rel=1e-12)


def test_the_papers_first_step() -> None:
    triple = GOLDEN["paper_triple"]
    assert dataclasses.astuple(PAPER) == (triple["alpha"], triple["beta"], triple["gamma"])
    explained = explain(baseline("efficientnet-b0"), PAPER, (1,), nominal=True)
    (one,) = explained.members
    assert round(one.nominal, 5) == triple["product"]
    assert round(one.member.cost_ratio, 2) == triple["real_macs_ratio_at_phi_1_258px"]
    told = " ".join(explained.sentences)
    assert "α·β²·γ² is 1.92" in told
    assert "2.573 times the baseline's, which is 1.340 times the nominal 1.92" in told
    assert f"by {one.depth:.3f} (23 of them, where 19.2 were asked for)" in told
    assert one.depth > one.resolution > 1 > one.width  # depths by ⌈⌉; 258 px is 129, 65, 33, 17, 9; 1.1 · 16 is 16


def test_too_cheap_is_as_far_off_as_too_dear() -> None:
    explained = explain(baseline("resnet-50"), PAPER, (2, 7), nominal=True)
    two, seven = explained.members
    assert seven.off < 1 < two.off < 1 / seven.off
    assert "φ = 7 is furthest from that" in " ".join(explained.sentences)


def test_a_family_that_costs_what_it_should_says_so() -> None:
    assert explain(baseline("efficientnet-b0"), Coefficients(1.0, 1.4, 1.0), (0, 1e-10), nominal=True).sentences[
        1:
    ] == ("It does.",)
    assert explain(baseline("efficientnet-b0"), PAPER, (0,)).sentences[1:] == ()  # no step, no evidence


@pytest.mark.parametrize(
    ("mine", "golden"),
    list(zip(published(), GOLDEN["family"][1:], strict=True)),
    ids=lambda one: getattr(one, "name", ""),
)
def test_the_published_family_is_the_released_one(mine, golden) -> None:
    assert mine.name.lower() == golden["name"]
    assert (mine.coefficients.alpha, mine.coefficients.beta) == (golden["depth"], golden["width"])
    assert (mine.pixels, mine.complexity.params) == (golden["resolution"], golden["params"])
    assert round(mine.complexity.macs / 1e6, 1) == golden["macs_M"]
    assert mine.cost_ratio == pytest.approx(golden["macs_M"] / GOLDEN["family"][0]["macs_M"], rel=1e-3)
    for phi, step, grown in zip(
        mine.phi, (1.2, 1.1, 1.15), (golden["depth"], golden["width"], golden["resolution"] / 224), strict=True
    ):
        assert step**phi == pytest.approx(grown, rel=1e-12)
    assert PAPER.product**mine.even == pytest.approx(golden["depth"] * (golden["width"] * mine.pixels / 224) ** 2)


def test_why_the_published_are_not_powers() -> None:
    family = published()
    *_, seven = family
    # ln 3.1 ÷ ln 1.2, ln 2 ÷ ln 1.1, ln (600 ÷ 224) ÷ ln 1.15.
    assert seven.phi == pytest.approx((6.2056, 7.2725, 7.0497), abs=1e-4)
    assert [round(share, 4) for share in shares_of(PAPER).values] == GOLDEN["paper_triple"]["shares"]
    assert seven.shares.values == pytest.approx((0.2521, 0.3089, 0.4390), abs=1e-4)  # 1.1314, 1.3863, 1.9706 of 4.4883
    told = " ".join(published_sentences(family))
    assert "B2 comes closest (1.00, 1.00, 1.07), but B7 has depth ×3.1, which is φ = 6.21" in told
    assert "depth would be ×3.7; for ×3.1, α would have to be 1.171" in told  # 1.2^7.161; 3.1^(1 ÷ 7.161)
    assert "depth 25 % instead of 28 %, width 31 % instead of 29 %, resolution 44 % instead of 43 %" in told
    assert "B7 really costs 97.8 times B0" in told


def test_the_papers_family_at_its_real_cost() -> None:
    explained = explain(baseline("efficientnet-b0"), PAPER, (0, 1, 7))
    assert all(abs(one.off - 1) <= 0.02 for one in explained.members)
    assert explained.sentences[1:] == (
        "Every member costs its nominal multiple of the baseline within 2 %.",
        "Each multiplier rounded by itself would cost up to 34 % more: 2.573 times the baseline's at φ = 1.",
    )
    _, one, _ = explained.members
    assert one.member.spec.depths == (2, 3, 3, 4, 4, 5, 2)  # as ⌈1.2 d⌉, which costs 1.225 times 19.2 blocks
    assert one.depth > 1.2 > 1 > one.width
    assert one.resolution < 1


def test_whatever_is_fixed_does_not_grow() -> None:
    own = dataclasses.replace(baseline("efficientnet-b0"), rounding=Rounding(8, "round", 1, "fixed", "fixed"))
    scaled = baseline("efficientnet-b0")
    (fixed,), (grown,) = (explain(one, Coefficients(1, 2, 1), (1,), nominal=True).members for one in (own, scaled))
    assert fixed.formula < grown.formula
    assert fixed.width == pytest.approx(1, abs=1e-12)
