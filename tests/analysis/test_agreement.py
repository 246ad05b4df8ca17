"""Two studies of the same truth, and of two truths: whether their regions overlap."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from scalesearch.analysis.agreement import COLUMNS, agreement, regions_overlap
from scalesearch.analysis.choice import Choice, choose, rule_of
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.scaling.rule import ScalingRule
from tests.planted import PlantedSurface, planted_candidates, planted_records, planted_study

TRUTH = PlantedSurface()
OTHER = PlantedSurface(linear=(0.50, 0.56, 0.56), interaction=(-0.10, -0.10, -0.10))  # all depth


def study(
    surface: PlantedSurface, key: int, noise_sd: float = 0.002, most: int = 15
) -> tuple[str, ScalingRule, Choice]:
    candidates = planted_candidates(surface.budget)[:most]
    records = planted_records(surface, key=key, noise_sd=noise_sd, candidates=candidates)
    table = candidates_table(records, surface.budget, "val_loss")
    choice = choose(trials_table(records), table, surface.budget, "val_loss")
    return f"study {key}", rule_of(choice, planted_study(budget=surface.budget), {}), choice


def test_two_studies_of_one_truth_do_not_contradict_each_other() -> None:
    first, second = study(TRUTH, 1), study(TRUTH, 2)
    table = agreement(first, second)
    assert list(table.columns) == list(COLUMNS)
    assert {column: str(dtype) for column, dtype in table.dtypes.items()} == dict(COLUMNS)
    assert table["study"].tolist() == ["study 1", "study 2"]
    assert table["overlap"].all()
    assert table["holds_other"].all()
    for (_, rule, choice), row in zip((first, second), table.to_dict("records"), strict=True):
        assert [row[name] for name in ("alpha", "beta", "gamma")] == list(dataclasses.astuple(rule.coefficients))
        assert tuple(row[f"{name}_share"] for name in ("depth", "width", "resolution")) == choice.shares.values
        assert choice.region is not None
        assert (row["region"], row["resolved"]) == (choice.region.part, rule.resolved)
        for name, bound in choice.region.intervals(2.0).items():
            assert (row[f"{name}_low"], row[f"{name}_high"]) == bound


def test_two_truths_contradict_each_other() -> None:
    table = agreement(study(TRUTH, 1), study(OTHER, 1))
    assert not table["overlap"].any()
    assert not table["holds_other"].any()


def test_only_one_region_may_contain_the_choice_of_the_other() -> None:
    sharp, vague = study(TRUTH, 3, noise_sd=0.0005), study(OTHER, 4, noise_sd=0.15)
    table = agreement(sharp, vague)
    assert table["overlap"].tolist() == [True, True]
    assert table["holds_other"].tolist() == [False, True]


def test_regions_between_the_points_of_a_lattice_are_found() -> None:
    _, _, choice = study(TRUTH, 5, noise_sd=0.0001)
    assert choice.region is not None
    assert np.ptp(choice.region.points, axis=0).max() < 1 / 60
    assert regions_overlap(choice, choice)


def test_without_a_surface_nothing_is_contradicted() -> None:
    table = agreement(study(TRUTH, 1), study(TRUTH, 1, most=3))
    assert table["overlap"].all()
    assert table["holds_other"].iloc[1]
    few = table.iloc[1]
    assert pd.isna(few[["region", "alpha_low", "alpha_high", "gamma_high"]].tolist()).all()


def test_studies_of_two_budgets_are_compared_by_their_shares() -> None:
    four = study(dataclasses.replace(TRUTH, budget=4.0), 2)
    table = agreement(study(TRUTH, 1), four)
    assert table["budget"].tolist() == [2.0, 4.0]
    assert table["overlap"].all()
    assert table["alpha"].iloc[1] == pytest.approx(4.0 ** four[2].shares.depth)
