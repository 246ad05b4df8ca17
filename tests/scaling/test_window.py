"""What rounding reaches between two multipliers, against multipliers that are tried one by one."""

import dataclasses

import numpy as np
import pytest

from scalesearch.baselines.published import baseline
from scalesearch.scaling.compound import round_depths, round_resolution, round_widths
from scalesearch.scaling.cost.count import areas
from scalesearch.scaling.window import depths_between, resolutions_between, widths_between


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.6), (2.9, 3.3), (0.4, 0.8)])
@pytest.mark.parametrize("depth", ["ceil", "round", "balanced"])
@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-lite0", "convnext-t"])
def test_all_that_lies_between_is_listed(name: str, depth: str, low: float, high: float) -> None:
    own = baseline(name)
    spec, rounding = own.spec, dataclasses.replace(own.rounding, depth=depth)
    tried = np.linspace(low, high, 2000)[1:-1]
    depths, widths = (
        {tuple(row) for row in between(spec, rounding, low, high).tolist()}
        for between in (depths_between, widths_between)
    )
    assert {round_depths(spec.depths, one, depth, rounding.first_last_depth) for one in tried} <= depths
    assert {round_widths(spec.widths, one, rounding) for one in tried} <= widths
    resolutions = resolutions_between(spec, rounding, low, high)
    sizes = [round_resolution(spec.resolution, one, rounding.resolution_step) for one in tried]
    maps = {tuple(column) for column in areas(spec, resolutions).T.tolist()}
    assert {tuple(column) for column in areas(spec, np.array(sizes)).T.tolist()} <= maps
    assert len(maps) == len(resolutions)  # no twins


def test_nothing_shrinks_where_the_rest_grows() -> None:
    own = baseline("resnet-18")
    odd = own.spec.with_sizes(own.spec.depths, (64, 60, 130, 256, 512, 0), 225)
    widths = widths_between(odd, dataclasses.replace(own.rounding, width_divisor=32), 1, 1.5)
    assert (widths >= widths[0]).all()
    shrunk = widths_between(odd, dataclasses.replace(own.rounding, width_divisor=32), 0.5, 1)
    assert (shrunk <= shrunk[0]).all()
    assert resolutions_between(odd, own.rounding, 1, 1.2, 240).max() == 240
