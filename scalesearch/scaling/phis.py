"""The parsing of lists of φ, as the command line takes them."""

from __future__ import annotations

import math
from typing import NoReturn

MAX_PHIS = 1000


def parse_phis(text: str) -> tuple[float, ...]:
    """The φ of a list of numbers and ranges: `0:7` is 0, 1, … 7, `0:2:0.5` has steps of 0.5, `0,1,2.5` lists.

    Raises `ValueError` for anything else, and for more than `MAX_PHIS` of them.
    """
    phis = tuple(phi for item in text.split(",") for phi in _range(item, text))
    if len(phis) > MAX_PHIS:
        raise ValueError(f"`phi` must name at most {MAX_PHIS} members, but {text!r} names {len(phis)}")
    return phis


def _range(item: str, text: str) -> tuple[float, ...]:
    def wrong(why: str) -> NoReturn:
        raise ValueError(f"`phi` must be numbers or ranges such as 3, 0:7, 0:2:0.5 or 0,1,2.5, but got {text!r}: {why}")

    try:
        numbers = [float(part) for part in item.split(":")]
    except ValueError:
        wrong(f"{item.strip()!r} is not a number or a range")
    if not all(map(math.isfinite, numbers)):
        wrong("not finite")
    if len(numbers) == 1:
        return (numbers[0],)
    if len(numbers) > 3:
        wrong("a range is start:stop or start:stop:step")
    start, stop, step = (*numbers, 1.0)[:3]
    if step <= 0 or stop < start:
        wrong("a range goes upwards by a step above 0")
    # The slack keeps a stop that the steps reach only up to rounding (0:0.3:0.1).
    count = (stop - start) / step + 1 + 1e-9
    if count > MAX_PHIS + 1:
        wrong(f"at most {MAX_PHIS} members")
    return tuple(round(start + index * step, 12) for index in range(math.floor(count)))
