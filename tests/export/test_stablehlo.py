"""stablehlo: a program that jax loads and calls for any batch size."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from jax import export as exporting

from scalesearch.errors import InputError
from scalesearch.export import stablehlo
from tests.export.nets import expected, grey_levels, trained


def test_it_is_loaded_and_called_again(tmp_path: Path) -> None:
    card, arrays = trained("mobile")
    target = tmp_path / "network.stablehlo"
    stablehlo.export(card, arrays, target)
    program = exporting.deserialize(bytearray(target.read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert program.in_avals[0].dtype == np.uint8
    call = jax.jit(program.call)
    for count in (3, 1):
        np.testing.assert_allclose(call(grey_levels(card)[:count]), expected("mobile")[:count], atol=1e-5)


def test_what_it_cannot_write(tmp_path: Path) -> None:
    card, arrays = trained("mobile")
    with pytest.raises(InputError, match="there are none"):
        stablehlo.export(card, None, tmp_path / "out")
    with pytest.raises(InputError, match="has no preprocessing"):
        stablehlo.export(card.model_copy(update={"preprocessing": None}), arrays, tmp_path / "out")
