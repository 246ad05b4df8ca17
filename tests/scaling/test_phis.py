"""The parser of lists of φ."""

import pytest

from scalesearch.scaling.phis import parse_phis


@pytest.mark.parametrize(
    ("text", "phis"),
    [
        ("3", (3.0,)),
        ("0:7", (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)),
        ("0,1,2.5", (0.0, 1.0, 2.5)),
        ("0:2:0.5", (0.0, 0.5, 1.0, 1.5, 2.0)),
        ("0:0.3:0.1", (0.0, 0.1, 0.2, 0.3)),
        ("0:1:0.4", (0.0, 0.4, 0.8)),
        ("-2:-1, 5", (-2.0, -1.0, 5.0)),
        ("2:2", (2.0,)),
    ],
)
def test_phis_are_numbers_lists_and_ranges(text: str, phis: tuple[float, ...]):
    assert parse_phis(text) == phis


@pytest.mark.parametrize(
    "text", ["", "two", "0:", ":7", "7:0", "0:1:0", "0:1:-1", "0:1:2:3", "1,,2", "nan", "0:inf", "0:1e9", "0:1:1e-320"]
)
def test_wrong_phis_are_one_line(text: str):
    with pytest.raises(ValueError, match=r"`phi` must") as error:
        parse_phis(text)
    assert "\n" not in str(error.value)
    assert repr(text) in str(error.value)
