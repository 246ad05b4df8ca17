"""The directive `{paper-tables}`: the FLOPS that EfficientNet's Tables 3 and 7 print beside our exact macs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import astuple, dataclass

from generated_reference import Generated, table
from sphinx.application import Sphinx

from scalesearch.baselines.published import baseline
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import Rounding, scale
from scalesearch.scaling.cost.count import complexity

BASELINE, DEPTH, WIDTH, RESOLUTION = (Coefficients(*times) for times in ((1, 1, 1), (4, 1, 1), (1, 2, 1), (1, 1, 2)))
COMPOUND = Coefficients(1.4, 1.2, 1.3)
PRINTED = {
    "Table 3": {
        "mobilenet-v1": ((BASELINE, "0.6"), (WIDTH, "2.2"), (RESOLUTION, "2.2"), (COMPOUND, "2.3")),
        "mobilenet-v2": ((BASELINE, "0.3"), (DEPTH, "1.2"), (WIDTH, "1.1"), (RESOLUTION, "1.2"), (COMPOUND, "1.3")),
        "resnet-50": ((BASELINE, "4.1"), (DEPTH, "16.2"), (WIDTH, "14.7"), (RESOLUTION, "16.4"), (COMPOUND, "16.7")),
    },
    "Table 7": {
        "efficientnet-b0": ((BASELINE, "0.4"), (DEPTH, "1.8"), (WIDTH, "1.8"), (RESOLUTION, "1.9"), (COMPOUND, "1.8")),
    },
}
"""Table → baseline → (multipliers, billions of FLOPS as printed). Source: arXiv:1905.11946v5."""


@dataclass(frozen=True)
class Row:
    """A row of a table. `macs` holds our count by each way to round; `usual` is the way of the network's authors."""

    network: str
    coefficients: Coefficients
    printed: str
    usual: Rounding
    macs: dict[Rounding, int]

    @property
    def matches(self) -> list[tuple[str, ...]]:
        """How each way that gives the printed figure differs from the usual one; the fewest differences first."""
        ways = [way for way, macs in self.macs.items() if billions(macs) == self.printed]
        return sorted((differences(way, self.usual) for way in ways), key=len)

    @property
    def would(self) -> tuple[str, float, float] | None:
        """A multiplier that the paper may have printed rounded, and the range of it that gives the printed figure.

        It is the one that is not 1; of a compound row it is r. Rounding is the usual one.
        """
        single = self.coefficients != COMPOUND
        place = [times != 1 for times in astuple(self.coefficients)].index(True) if single else 2
        unit, times = (1.0 if single else 0.1), list(astuple(self.coefficients))
        printed, found = times[place], []
        for step in range(-50, 50):
            times[place] = printed + unit * step / 100
            if billions(macs_of(self.network, Coefficients(*times), self.usual)) == self.printed:
                found.append(times[place])
        return ("dwr"[place], min(found), max(found)) if found else None

    @property
    def explanation(self) -> str:
        """Which rounding gives the printed figure; if none does, which multiplier would."""
        if self.matches:
            fewest = [words for words in self.matches if len(words) == len(self.matches[0])]
            return "; or ".join(", ".join(words) for words in fewest) or "the usual one"
        low, high = (f"{pick(self.macs.values()) / 1e9:.2f}" for pick in (min, max))
        text = f"none: {'all give' if low == high else 'they give'} {' to '.join(dict.fromkeys((low, high)))}"
        if self.would is None:
            return text
        letter, least, most = self.would
        return f"{text}; {letter} = {' to '.join(dict.fromkeys((f'{least:.4g}', f'{most:.4g}')))} would"

    @property
    def cells(self) -> tuple[str, ...]:
        """The row on the page."""
        usual = f"{self.macs[self.usual]:,}"
        return (self.network, multipliers(self.coefficients), f"{self.printed} B", usual, self.explanation)


def billions(macs: int) -> str:
    """As the tables print it."""
    return f"{macs / 1e9:.1f}"


def macs_of(network: str, coefficients: Coefficients, rounding: Rounding) -> int:
    """The exact macs of a published baseline scaled."""
    return complexity(scale(baseline(network).spec, coefficients, rounding)).macs


def differences(way: Rounding, usual: Rounding) -> tuple[str, ...]:
    """What `way` does differently from the usual rounding, in words."""
    words = {
        "depth": f"depths by `{way.depth}`",
        "width_divisor": "widths not rounded",
        "stem": f"stem {way.stem}",
        "head": f"head {way.head}",
    }
    return tuple(text for name, text in words.items() if getattr(way, name) != getattr(usual, name))


def counted(network: str, coefficients: Coefficients, printed: str) -> Row:
    """A row, counted by every way to round."""
    own = baseline(network)
    finest = max(stage.width_multiple for stage in own.spec.stages)
    ways = itertools.product(
        (own.rounding.width_divisor, finest),
        ("ceil", "round", "balanced"),
        (1,),
        ("scaled", "fixed"),
        dict.fromkeys((own.rounding.head, "fixed")),
    )
    macs = {way: macs_of(network, coefficients, way) for way in itertools.starmap(Rounding, ways)}
    return Row(network, coefficients, printed, own.rounding, macs)


def rows(name: str) -> Iterator[Row]:
    """The rows of a table."""
    for network, printed in PRINTED[name].items():
        yield from (counted(network, coefficients, figure) for coefficients, figure in printed)


def multipliers(coefficients: Coefficients) -> str:
    """The multipliers that are not 1, by the paper's letters."""
    pairs = zip("dwr", astuple(coefficients), strict=True)
    return ", ".join(f"{letter} = {times:g}" for letter, times in pairs if times != 1) or "baseline"


class PaperTables(Generated):
    """`{paper-tables}`: a section for each table."""

    optional_arguments = 0

    def markdown(self) -> Iterator[str]:
        """Heading and rows of each table."""
        head = ("network", "multipliers", "printed", "macs, usual rounding", "what gives the printed figure")
        for name in PRINTED:
            yield f"## {name}\n"
            yield from table(head, [row.cells for row in rows(name)])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("paper-tables", PaperTables)
    return {"parallel_read_safe": True}
