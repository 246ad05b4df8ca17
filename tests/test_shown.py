"""What a notebook shows of each object: the numbers that it stands for, nothing unescaped, and no page of them."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import scalesearch
from scalesearch.analysis.validation import COLUMNS, Validation
from scalesearch.report.markup import markup
from scalesearch.results.load import Run
from scalesearch.scaling.family import Family, family
from tests.planted import planted_rule, planted_run


class Text(HTMLParser):
    """The rows of all tables, and all text; fails on a tag that is not closed in its turn."""

    def __init__(self, shown: Any) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(shown._repr_html_())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return planted_run(tmp_path_factory.mktemp("planted"))


def test_markup_is_escaped() -> None:
    assert markup("a<b", ("x & y",), [("<i>",)], "", "1 < 2") == (
        "<b>a&lt;b</b><table><tr><th>x &amp; y</th></tr><tr><td>&lt;i&gt;</td></tr></table><p>1 &lt; 2</p>"
    )
    assert markup("bare", (), ()) == "<b>bare</b>"


def test_a_rule_shows_its_coefficients_shares_and_intervals(run: Run) -> None:
    rule = run.rule
    shown = Text(rule)
    assert shown.rows[0] == ["", "depth (α)", "width (β)", "resolution (γ)"]
    assert shown.rows[1] == ["coefficient", f"{rule.alpha:.4f}", f"{rule.beta:.4f}", f"{rule.gamma:.4f}"]
    assert rule.intervals is not None
    assert shown.rows[3][:2] == ["95% interval", "{:.3f} to {:.3f}".format(*rule.intervals["alpha"])]
    assert len(Text(planted_rule()).rows) == 3  # no intervals
    hostile = dataclasses.replace(rule.baseline, name="<script>alert(1)</script>")
    assert "<script>alert(1)</script>, a budget" in Text(dataclasses.replace(rule, baseline=hostile)).text
    assert "not resolved" in Text(dataclasses.replace(rule, resolved=False)).text


def test_a_choice_its_signal_and_its_surface_show_what_they_rest_on(run: Run) -> None:
    choice, fit = run.choice, run.surface()
    for told in (choice.signal.verdict, choice.basis, choice.certainty):
        assert told in Text(choice).text
    assert Text(choice).rows[1] == ["chosen", *(f"{share:.0%}" for share in choice.shares.values)]
    assert ["p, were all candidates alike", f"{choice.signal.p:.2g}"] in Text(choice.signal).rows
    unknown = dataclasses.replace(choice.signal, p=None, region=None)
    assert [row[1] for row in Text(unknown).rows].count("unknown") == 2
    values = (fit.coefficients[0], fit.standard_errors[0], fit.robust_errors[0])
    assert Text(fit).rows[1] == [fit.terms[0], *(f"{value:.4f}" for value in values)]
    assert len(Text(fit).rows) == 1 + len(fit.terms)
    assert len(Text(dataclasses.replace(choice, region=None)).rows) == 2


def test_a_family_and_its_explanation_show_a_row_a_member(run: Run) -> None:
    members = run.family((0, 1, 2))
    assert isinstance(members, Family)
    assert members == tuple(members) == family(run.rule, (0, 1, 2))
    rows = Text(members).rows
    assert [row[0] for row in rows] == ["φ", "0", "1", "2"]
    assert rows[2][5] == f"{members[1].complexity.macs:,}"
    explained = run.explain((0, 1, 2))
    shown = Text(explained)
    assert [row[0] for row in shown.rows] == ["φ", "0", "1", "2"]
    assert shown.rows[2][3] == f"{explained.members[1].off:.3f}"
    assert explained.sentences[1] in shown.text
    assert ["macs", f"{run.nearest.complexity.macs:,} ({run.nearest.macs_ratio:.3f} × the baseline)"] in Text(
        run.nearest
    ).rows


def test_a_run_shows_its_answer_or_that_there_is_none_yet(run: Run, tmp_path: Path) -> None:
    shown = Text(run)
    assert shown.text.startswith("planted: 15 complete")
    assert run.choice.signal.verdict in shown.text
    assert shown.rows == Text(run.rule).rows
    empty = Text(planted_run(tmp_path, most=0))
    assert empty.text == "planted: 15 waitingNo candidate has finished."


def test_a_validation_shows_its_verdict_and_table(run: Run) -> None:
    row = {**dict.fromkeys(COLUMNS, 0.5), "rivals": "<b>width</b>", "verdict": "better"}
    document = {
        "phi": 2.0,
        "budget": 4.0,
        "date": "2026-01-01",
        "data_digest": "x",
        "verdict": "It holds.",
        "table": [row],
    }
    shown = Text(Validation.from_json(document))
    assert shown.text.startswith("Validation at φ = 2, on the test splitIt holds.")
    assert "<b>width</b>" in shown.text


def test_two_runs_are_compared_from_the_package_itself(run: Run) -> None:
    table = scalesearch.compare(run, run)
    assert table["study"].tolist() == ["planted", "planted"]
    assert table["alpha"].tolist() == [run.rule.alpha] * 2
    assert table["overlap"].all()
