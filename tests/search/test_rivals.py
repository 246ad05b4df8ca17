"""Rivals: each split's nearest network at the same real macs, and splits that are one network."""

import numpy as np
import pytest

from scalesearch.config import InputError
from scalesearch.scaling.simplex import Shares
from scalesearch.search.rivals import RIVALS, RULE, rivals, validation_study
from tests.planted import planted_study


def test_every_split_has_its_nearest_network_at_equal_macs() -> None:
    study = validation_study(planted_study(), 2, 3)
    assert (study.budget, study.seeds, study.name, study.runtime.workers) == (4.0, 3, "planted-validate-2", 1)
    plan, names = rivals(study, Shares(0.2, 0.5, 0.3))
    assert sorted(name for group in names.values() for name in group) == sorted([RULE, *RIVALS])
    assert names[plan.trials[0].candidate.spec][0] == RULE
    assert [trial.candidate.spec for trial in plan.trials] == list(names)
    for trial in plan.trials:
        assert abs(trial.candidate.macs_ratio / 4 - 1) <= study.tolerance
        # 24 blocks and a hundred pixels: every split has a network within a twentieth.
        assert np.abs(np.array(trial.candidate.shares.values) - np.array(trial.target.values)).max() < 0.05


def test_splits_that_are_one_network_share_it() -> None:
    plan, names = rivals(validation_study(planted_study(), 1, 1), RIVALS["width only"])
    assert names[plan.trials[0].candidate.spec] == (RULE, "width only")
    assert len(plan.trials) == len(RIVALS)


def test_efficientnets_shares_are_those_of_its_paper() -> None:
    """arXiv:1905.11946: 1.2, 1.1, 1.15 have the shares 0.28, 0.29, 0.43."""
    assert [round(share, 2) for share in RIVALS["EfficientNet"].values] == [0.28, 0.29, 0.43]


@pytest.mark.parametrize("phi", [-1.0, 0.0, 40.0])
def test_a_phi_without_a_budget(phi: float) -> None:
    with pytest.raises(InputError, match="must be above 1 and at most 100,000"):
        validation_study(planted_study(), phi, 1)
