"""Whatever a file holds, a reader reads it or refuses it in one line: `benchmarks/fuzz.py` tries that at length.

`python benchmarks/fuzz.py --only NAME --show NUMBER` shows what is wrong with the input of a number.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzzing.mutate import Files
from tests.fuzzing.targets import input_of, outcome, seeds_of, targets, write_files

_EXAMPLES = 60


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if target.slow else ()) for name, target in targets().items()],
)
def test_changed_files_are_read_or_refused_in_a_line(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if name.startswith("hf"):
        request.getfixturevalue("hugging_face")
    target, place = targets()[name], tmp_path / "input"
    seeds = seeds_of(target, tmp_path / "seeds")

    def read(files: Files) -> tuple[str, str]:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        write_files(place, files)
        return outcome(target, place)

    assert "0" in {read(files)[0] for files in seeds}

    @settings(max_examples=_EXAMPLES)
    @given(st.integers(0, 2**32 - 1))
    def try_one(number: int) -> None:
        code, why = read(input_of(name, number, seeds, target.tokens))
        assert code != "unexpected", why

    try_one()
