"""What a notebook shows of each value: its numbers, all text escaped, registered with IPython and nowhere else."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import scalesearch
from scalesearch.analysis.validation import COLUMNS, Validation
from scalesearch.report.notebook import html_of, table_html
from scalesearch.report.views.table import Column, Table
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
        self.feed(html_of(shown))
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


def test_all_text_is_escaped_and_what_is_empty_is_left_out() -> None:
    table = Table("a<b", (Column("x", "x & y"),), (("<i>",),), notes=("1 < 2",))
    assert "".join(table_html(table).split("\n")) == (
        "<b>a&lt;b</b><table><tr><th>x &amp; y</th></tr><tr><td>&lt;i&gt;</td></tr></table><p>1 &lt; 2</p>"
    )
    assert table_html(Table("bare", (), ())).strip() == "<b>bare</b>"
    assert "<th>" not in table_html(Table("named", (Column("name", ""), Column("value", "")), (("a", "b"),)))


def test_a_value_without_a_view_is_refused() -> None:
    with pytest.raises(TypeError, match="a int has no view"):
        html_of(3)


IN_IPYTHON = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import scalesearch
assert "pandas" not in sys.modules, "no view is imported before it is needed"
run = scalesearch.load(sys.argv[1])
values = [run, run.rule, run.family(), run.nearest, run.explain(), run.choice, run.choice.signal, run.surface()]
show = shell.display_formatter.formatters["text/html"]
from scalesearch.analysis.validation import Validation
values.append(Validation.from_json(json.loads(sys.argv[2])))
shown = [show(value) for value in values]
from scalesearch.report.notebook import html_of
assert shown == [html_of(value) for value in values]
from scalesearch.analysis.surfaces.base import Surface
assert type(run.surface()) is not Surface and isinstance(run.surface(), Surface), "subclasses show too"
parents = {kind for value in values for kind in type(value).__mro__}
assert parents >= {kind for kind in html_of.registry if kind is not object}, "every view is registered"
assert show(3) is None
"""


def test_ipython_shows_every_value_that_has_a_view_and_their_subclasses(run: Run) -> None:
    validation = json.dumps(planted_validation().to_json())
    command = [sys.executable, "-W", "ignore", "-c", IN_IPYTHON, str(run.folder), validation]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_registered_where_ipython_does_not_run() -> None:
    code = "import IPython, scalesearch, sys; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


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
    for sentence in (choice.signal.verdict, choice.basis, choice.certainty):
        assert sentence in Text(choice).text
    assert Text(choice).rows[1] == ["chosen", *(f"{share:.0%}" for share in choice.shares.values)]
    assert ["p if all candidates were equal", f"{choice.signal.p:.2g}"] in Text(choice.signal).rows
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
    assert rows[2][rows[0].index("macs")] == f"{members[1].complexity.macs:,}"
    explained = run.explain((0, 1, 2))
    shown = Text(explained)
    assert [row[0] for row in shown.rows] == ["φ", "0", "1", "2"]
    assert shown.rows[2][3] == f"{explained.members[1].off:.3f}"
    assert explained.sentences[1] in shown.text
    macs = f"{run.nearest.complexity.macs:,} ({run.nearest.cost_ratio:.3f} × the baseline)"
    assert ["macs", macs] in Text(run.nearest).rows


def test_a_run_shows_its_answer_or_that_there_is_none_yet(run: Run, tmp_path: Path) -> None:
    shown = Text(run)
    assert shown.text.startswith("planted: 15 complete")
    assert run.choice.signal.verdict in shown.text
    assert shown.rows == Text(run.rule).rows
    empty = Text(planted_run(tmp_path, most=0))
    assert " ".join(empty.text.split()) == "planted: 15 waiting No candidate has finished."


def planted_validation() -> Validation:
    row = {**dict.fromkeys(COLUMNS, 0.5), "rivals": "<b>width</b>", "verdict": "better"}
    document = {
        "phi": 2.0,
        "budget": 4.0,
        "date": "2026-01-01",
        "data_digest": "x",
        "verdict": "It holds.",
        "table": [row],
    }
    return Validation.from_json(document)


def test_a_validation_shows_its_verdict_and_table() -> None:
    validation = planted_validation()
    shown = Text(validation)
    assert "Splits at φ = 2 on the test split" in shown.text
    assert f"It holds.\n{validation.reading}" in shown.text
    assert shown.rows[1][0] == "<b>width</b>"


def test_two_runs_are_compared_from_the_package_itself(run: Run) -> None:
    table = scalesearch.compare(run, run)
    assert table["study"].tolist() == ["planted", "planted"]
    assert table["alpha"].tolist() == [run.rule.alpha] * 2
    assert table["overlap"].all()
