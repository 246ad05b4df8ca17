"""Rivals: the nearest network of each split at the same real cost, and splits that give the same network."""

import numpy as np
import pytest

from scalesearch.errors import InputError
from scalesearch.scaling.simplex import Shares
from scalesearch.search.plan.rivals import RIVALS, RULE, rivals, validation_study
from tests.planted import planted_study


def test_every_split_has_its_nearest_network_at_equal_cost() -> None:
    shares = Shares(0.2, 0.5, 0.3)
    study = validation_study(planted_study(), shares, 2, 3)
    assert (study.budget, study.seeds, study.runtime.workers) == (4.0, 3, 1)
    plan, names = rivals(study, shares)
    assert sorted(name for group in names.values() for name in group) == sorted([RULE, *RIVALS])
    assert names[plan.trials[0].candidate.spec][0] == RULE
    assert [trial.candidate.spec for trial in plan.trials] == list(names)
    for trial in plan.trials:
        assert abs(trial.candidate.cost_ratio / 4 - 1) <= study.tolerance
        # 24 blocks and a hundred pixels: every split has a network within a twentieth.
        assert np.abs(np.array(trial.candidate.shares.values) - np.array(trial.target.values)).max() < 0.05


def test_splits_that_give_the_same_network_share_it() -> None:
    plan, names = rivals(validation_study(planted_study(), RIVALS["width only"], 1, 1), RIVALS["width only"])
    assert names[plan.trials[0].candidate.spec] == (RULE, "width only")
    assert len(plan.trials) == len(RIVALS)


def test_the_shares_of_efficientnet_are_those_of_its_paper() -> None:
    """arXiv:1905.11946: 1.2, 1.1, 1.15 have the shares 0.28, 0.29, 0.43."""
    assert [round(share, 2) for share in RIVALS["EfficientNet"].values] == [0.28, 0.29, 0.43]


def test_the_name_depends_on_rule_seeds_and_phi() -> None:
    one, other = Shares(0.2, 0.5, 0.3), Shares(0.2, 0.4, 0.4)
    arguments = [(one, 2, 3), (one, 2, 4), (one, 2.0000001, 3), (one, 2.0, 3), (other, 2, 3)]
    names = [validation_study(planted_study(), *each).name for each in arguments]
    assert len(set(names)) == 4
    assert names[0] == names[3]
    assert all(name.startswith("planted-validate-2-") for name in names)
    assert names[0] == "planted-validate-2-bd28094b"  # stored studies have this name


def test_too_many_seeds_are_refused_before_anything_is_stored() -> None:
    with pytest.raises(InputError, match="`seeds` must be at most 1000, but got 5000"):
        validation_study(planted_study(), Shares(0.2, 0.5, 0.3), 2, 5000)


def test_a_budget_at_which_all_splits_give_the_same_network() -> None:
    coarse = planted_study(rounding={"width_divisor": 64, "resolution_step": 96}, tolerance=0.05)
    with pytest.raises(InputError, match="all splits give the same network"):
        rivals(validation_study(coarse, Shares(0.2, 0.5, 0.3), 0.06, 1), Shares(0.2, 0.5, 0.3))


def test_a_network_far_from_its_split_is_marked() -> None:
    coarse = validation_study(planted_study(rounding={"resolution_step": 48}), Shares(0.2, 0.5, 0.3), 1, 1)
    plan, names = rivals(coarse, Shares(0.2, 0.5, 0.3))
    by_name = {name: trial for trial in plan.trials for name in names[trial.candidate.spec]}
    marked = [name for name in by_name if name.startswith("≈ ")]
    assert marked
    for name in marked:
        target = np.array(RIVALS[name.removeprefix("≈ ")].values)
        assert np.linalg.norm(target - np.array(by_name[name].candidate.shares.values)) > 0.15


@pytest.mark.parametrize("phi", [-1.0, 0.0, 40.0, 2000.0])
def test_a_phi_without_a_valid_budget(phi: float) -> None:
    with pytest.raises(InputError, match="must be above 1 and at most 100,000"):
        validation_study(planted_study(), Shares(0.2, 0.5, 0.3), phi, 1)
