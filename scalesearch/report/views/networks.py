"""Tables of networks that need no training: families, planned candidates, what rounding costs, published networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from scalesearch.baselines.efficientnet import PAPER, PAPER_BASELINE, Published
from scalesearch.baselines.published import baseline
from scalesearch.report.views.table import (
    SHARE_KEYS,
    TRAINING_KEYS,
    Table,
    make_table,
    multipliers,
    named_values,
    quantity,
    shares,
    sizes,
)
from scalesearch.scaling.coefficients import Coefficients, shares_of
from scalesearch.scaling.explain import Explanation
from scalesearch.scaling.family import FamilyMember
from scalesearch.scaling.feasible import Candidate
from scalesearch.scaling.simplex import NAMES


def family(members: Iterable[FamilyMember]) -> Table:
    """A row for each member: multipliers, shares of real cost, nominal and real cost, network, training.

    Of the training what all members do without has no column.
    """
    listed = list(members)
    judged = any(one.training.get("evaluation_resolution") not in (None, one.spec.resolution) for one in listed)
    used = [
        key
        for key in ("dropout", "stochastic_depth", "rand_augment_magnitude", "evaluation_resolution")
        if (judged if key == "evaluation_resolution" else any(member.training.get(key) for member in listed))
    ]
    rows = (
        {
            "phi": f"{member.phi:g}",
            **_times(member.coefficients, ".3f"),
            **shares((math.nan,) * 3 if member.cost_ratio == 1 else member.shares.values),
            "nominal": f"{member.coefficients.product:.4g}×",
            "real_cost": f"{member.cost_ratio:.4g}×",
            **_counts(member.complexity.macs, member.complexity.params),
            "activations": f"{member.complexity.activations:,}",
            **sizes(member.spec),
            **({} if member.memory is None else {"memory": f"{quantity(member.memory)}B"}),
            **{key: f"{round(member.training.get(key, 0), 3):g}" for key in used},
        }
        for member in listed
    )
    training = [key for key in TRAINING_KEYS if key != "memory"]
    optional = (tuple(training), SHARE_KEYS, ("params_short",), ("macs_short",), ("memory",), ("nominal",))
    return make_table("The baseline (φ = 0) and its family", rows, optional)


def planned(candidates: Iterable[Candidate], nominal: bool) -> Table:
    """The candidates of a plan; in a nominal grid (`nominal`) with the multipliers of its points."""
    rows = (
        {
            **multipliers(candidate.nominal if nominal else candidate.coefficients),
            **shares(candidate.shares.values),
            "nominal": f"{candidate.nominal.product:.3f}×",
            "real_cost": f"{candidate.cost_ratio:.3f}×",
            **_counts(candidate.complexity.macs, candidate.complexity.params),
            **sizes(candidate.spec),
        }
        for candidate in candidates
    )
    optional = (SHARE_KEYS, ("macs_short",), ("params_short",), ("nominal",))
    return make_table("Candidates", rows, optional)


def candidate(one: Candidate) -> Table:
    """One network: multipliers, exact cost, sizes."""
    values = {
        "α, β, γ": ", ".join(multipliers(one.coefficients).values()),
        "macs": f"{one.complexity.macs:,} ({one.cost_ratio:.3f} × the baseline)",
        "params": f"{one.complexity.params:,}",
        **sizes(one.spec),
    }
    return named_values("Candidate", values)


def explanation(explained: Explanation) -> Table:
    """For each member the factors between nominal and real cost, and what was rounded."""
    spec = explained.baseline.spec
    rows = []
    for one in explained.members:
        multiplied, rounded = one.member.coefficients, one.member.spec
        rows.append(
            {
                "phi": f"{one.member.phi:g}",
                "nominal": f"{one.nominal:.4g}×",
                "real_cost": f"{one.member.cost_ratio:.4g}×",
                "real ÷ nominal": f"{one.off:.3f}",
                "= stem, head": f"{one.formula:.3f}",
                "· blocks": f"{one.depth:.3f}",
                "· widths": f"{one.width:.3f}",
                "· pixels": f"{one.resolution:.3f}",
                "blocks asked, got": f"{multiplied.alpha * sum(spec.depths):.1f}, {sum(rounded.depths)}",
                "pixels asked, got": f"{multiplied.gamma * spec.resolution:.1f}, {rounded.resolution}",
            }
        )
    optional = (("pixels asked, got",), ("blocks asked, got",))
    return make_table("Nominal and real cost", rows, optional, explained.sentences)


def published(networks: Sequence[Published]) -> Table:
    """Published EfficientNets: the φ that each multiplier is of the paper's α, β, γ, and what φ gives at their cost.

    Below them stand the paper's α, β, γ themselves.
    """
    rows = []
    for one in networks:
        even = PAPER**one.even
        rows.append(
            {
                "name": one.name,
                **_times(one.coefficients, "g", "depth_times", "width_times"),
                "pixels": f"{one.pixels}",
                **{f"φ {name}": f"{phi:.2f}" for name, phi in zip(("depth", "width", "pixels"), one.phi, strict=True)},
                "φ cost": f"{one.even:.2f}",
                "α^φ": f"{even.alpha:.2f}",
                "β^φ": f"{even.beta:.2f}",
                "γ^φ px": f"{_paper_pixels(even):.0f}",
                "real_cost": f"{one.cost_ratio:.4g}×",
                "macs_short": quantity(one.complexity.macs),
                "shares d, w, r": ", ".join(shares(one.shares.values).values()),
            }
        )
    paper = {
        "name": "αβγ",
        **_times(PAPER, "g", "depth_times", "width_times"),
        "pixels": f"{_paper_pixels(PAPER):.0f}",
        "shares d, w, r": ", ".join(shares(shares_of(PAPER).values).values()),
    }
    rows.append({key: paper.get(key, "") for key in rows[0]})
    optional = (("macs_short",), ("φ cost", "α^φ", "β^φ", "γ^φ px"), ("shares d, w, r",))
    return make_table(f"The published {networks[0].name} to {networks[-1].name}", rows, optional)


def _paper_pixels(coefficients: Coefficients) -> float:
    return coefficients.gamma * baseline(PAPER_BASELINE).spec.resolution


def _times(coefficients: Coefficients, form: str, *keys: str) -> dict[str, str]:
    """The cells of a family's multipliers, or of those that `keys` names."""
    values = (coefficients.alpha, coefficients.beta, coefficients.gamma)
    cells = {f"{name}_times": format(value, form) for name, value in zip(NAMES, values, strict=True)}
    return {key: cells[key] for key in keys or cells}


def _counts(macs: int, params: int) -> dict[str, str]:
    """The cells of two counts, exact and shortened."""
    return {
        "macs": f"{macs:,}",
        "macs_short": quantity(macs),
        "params": f"{params:,}",
        "params_short": quantity(params),
    }
