"""Tables as plain values, the headings that all of them share, and the text of networks, counts and times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scalesearch.results.records import TrialRecord
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients


@dataclass(frozen=True, slots=True)
class Column:
    """A column: key, heading, whether it holds text (aligned left) or numbers, and what the heading means."""

    key: str
    heading: str
    is_text: bool = False
    meaning: str = ""


TRAINING_KEYS = ("memory", "dropout", "stochastic_depth", "rand_augment_magnitude", "evaluation_resolution")
SHARE_KEYS = ("depth_share", "width_share", "resolution_share")
_SEED_SD = "± seed: standard deviation over the seeds."
# The heading of a key is the same on every screen. A key that is not listed is its own heading.
_COLUMNS: Mapping[str, Column] = {
    column.key: column
    for column in (
        Column("rank", "#"),  # "base" for the baseline
        Column("phi", "φ"),
        # A candidate's realised multipliers; those of a family's member.
        Column("alpha", "α"),
        Column("beta", "β"),
        Column("gamma", "γ"),
        Column("depth_times", "depth ×"),
        Column("width_times", "width ×"),
        Column("resolution_times", "resolution ×"),
        # Shares of the budget.
        Column("depth_share", "depth"),
        Column("width_share", "width"),
        Column("resolution_share", "resolution"),
        # Cost over the baseline's, then counts: exact, and shortened to four digits.
        Column("nominal", "nominal"),
        Column("real_cost", "real cost"),
        Column("macs_short", "macs"),
        Column("params_short", "params"),
        # What the training of a family's member takes.
        Column("memory", "memory", meaning="memory: what training takes, estimated for the study's batches."),
        Column("stochastic_depth", "stochastic depth"),
        Column("rand_augment_magnitude", "RandAugment"),
        Column("evaluation_resolution", "evaluated px"),
        # Results.
        Column("val_loss_sd", "± seed", meaning=_SEED_SD),
        Column("val_accuracy_sd", "± seed", meaning=_SEED_SD),
        Column("val_balanced_accuracy", "balanced", meaning="balanced: accuracy if all classes weigh the same."),
        Column("chance", "best?", meaning="best?: chance of being the best; in brackets if the seeds rule it out."),
        Column("seconds", "seconds", meaning="seconds: training time of a seed."),
        # Workers, and what went wrong.
        Column("host", "host", is_text=True),
        Column("device", "device", is_text=True),
        Column("part", "part", is_text=True),
        Column("since", "since", meaning="since: by the clock of the worker's machine."),
        Column("last_sign", "last sign", is_text=True, meaning="last sign: that the worker lives."),
        Column("kind", "kind", is_text=True),
        Column("why", "why", is_text=True),
        # Texts.
        Column("network", "network", is_text=True),
        Column("split", "split", is_text=True),
        Column("name", "", is_text=True),
        Column("value", "", is_text=True),
    )
}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under columns.

    Attributes:
        caption: what the table shows.
        columns: its columns.
        rows: the cells of each row, in the order of the columns.
        optional: keys of columns that a narrow screen may leave out because others imply them: groups that are left
            out together, the first group first.
        notes: sentences to read with the table.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    optional: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings; all empty in a table of names and values."""
        return tuple(column.heading for column in self.columns)

    @property
    def meanings(self) -> str:
        """The meanings of the headings that are not self-explanatory."""
        return " ".join(dict.fromkeys(column.meaning for column in self.columns if column.meaning))

    def select(self, *keys: str) -> Table:
        """The table with the columns of `keys` in that order; keys that it does not have are ignored.

        >>> make_table("sizes", [{"blocks": "4", "pixels": "10"}]).select("pixels", "blocks").rows
        (('10', '4'),)
        """
        places = {column.key: place for place, column in enumerate(self.columns)}
        kept = [places[key] for key in keys if key in places]
        columns = tuple(self.columns[place] for place in kept)
        return replace(self, columns=columns, rows=tuple(tuple(row[place] for place in kept) for row in self.rows))

    def without(self, *keys: str) -> Table:
        """The table without the columns of `keys`."""
        return self.select(*(column.key for column in self.columns if column.key not in keys))


def make_table(
    caption: str,
    rows: Iterable[Mapping[str, str]],
    optional: Iterable[tuple[str, ...]] = (),
    notes: Iterable[str] = (),
) -> Table:
    """The table of `rows`, each key → cell with the same keys in the same order.

    >>> table = make_table("sizes", [{"phi": "1", "pixels": "14"}, {"phi": "2", "pixels": "20"}])
    >>> table.headings, table.rows
    (('φ', 'pixels'), (('1', '14'), ('2', '20')))
    """
    listed = list(rows)
    columns = tuple(_COLUMNS.get(key) or Column(key, key) for key in (listed[0] if listed else ()))
    return Table(caption, columns, tuple(tuple(row.values()) for row in listed), tuple(optional), tuple(notes))


def named_values(caption: str, values: Mapping[str, str], *notes: str) -> Table:
    """A table without headings: a name and a value in each row."""
    return make_table(caption, ({"name": name, "value": value} for name, value in values.items()), notes=notes)


def quantity(value: float) -> str:
    """A count with up to four digits and its unit.

    >>> quantity(999), quantity(385_814_296)
    ('999', '385.8 M')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:g}"


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(42), duration(300), duration(5400)
    ('42 s', '5 min', '1.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def network(spec: ArchitectureSpec) -> str:
    """A network in one line: blocks and width of each stage, and the resolution."""
    return network_text(spec.depths, [stage.width for stage in spec.stages], spec.resolution)


def network_text(depths: Iterable[object], widths: Iterable[object], pixels: object) -> str:
    """Blocks and width of each stage, and the resolution.

    >>> network_text((2, 2), (16, 33), 14)
    '2-2 × 16-33 at 14 px'
    """
    return f"{'-'.join(map(str, depths))} × {'-'.join(map(str, widths))} at {pixels} px"


def multipliers(coefficients: Coefficients) -> dict[str, str]:
    """The cells of α, β and γ."""
    return {name: f"{getattr(coefficients, name):.3f}" for name in ("alpha", "beta", "gamma")}


def shares(values: Sequence[float]) -> dict[str, str]:
    """The cells of the shares of depth, width and resolution; empty if they are unknown (NaN)."""
    return {key: "" if math.isnan(value) else f"{value:.2f}" for key, value in zip(SHARE_KEYS, values, strict=True)}


def sizes(spec: ArchitectureSpec) -> dict[str, str]:
    """The cells of a network: in one line, and its blocks, widths (stem, stages, head) and pixels."""
    return {
        "network": network(spec),
        "blocks": " ".join(map(str, spec.depths)),
        "widths": " ".join(map(str, spec.widths)),
        "pixels": str(spec.resolution),
    }


def trial_result(record: TrialRecord, metric: str = "val_loss", heading: str = "") -> str:
    """What a trial gave, in one line: its metric (named `heading`), or why it has none."""
    failure = record.failure
    if failure is None:
        return f"{heading or metric} {record.mean(metric):.4f}"
    return f"pruned {failure.reason}" if failure.kind == "pruned" else f"failed ({failure.kind}: {failure.reason})"
