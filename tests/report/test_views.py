"""The rows of the tables: the same words on every screen, cells that agree with the values behind them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from scalesearch.report import html, note, terminal
from scalesearch.report.views import networks, results
from scalesearch.report.views.table import make_table, named_values
from scalesearch.results.load import Run
from tests.planted import PlantedSurface, planted_records, planted_reference, planted_run, with_balanced
from tests.report.pages import level_records, outcome


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return planted_run(tmp_path_factory.mktemp("planted"))


def test_one_thing_has_one_name_on_every_screen(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    live = results.leaders(run.records, "val_loss", "val_loss", 5).headings
    last = results.leaderboard(run.candidates)
    assert live == ("#", "α", "β", "γ", "val_loss", "network")
    for shown in (terminal.LEADERBOARD, html.LEADERBOARD):
        headings = last.select(*shown).headings
        assert {"#", "α", "β", "γ", "val_loss", "± seed", "best?", "real cost"} <= set(headings)
    terminal.show_result(run, ())
    screen = capsys.readouterr().out
    markdown = note.note(run)
    page = html.render(run)
    for heading in ("val_loss", "± seed", "best?", "real cost", "depth ×", "resolution ×", "nominal"):
        assert heading in screen
        assert f" {heading} |" in markdown
        assert f">{heading}</button>" in page
    for meaning in last.select("val_loss_sd", "chance").meanings.split(". "):
        assert meaning in screen
        assert meaning in markdown
        assert meaning in page


def test_the_leaders_of_a_search_are_the_first_of_its_leaderboard(run: Run) -> None:
    for metric in ("val_loss", "val_accuracy"):
        live = results.leaders(run.records, metric, "test loss", 15)
        study = run.study.model_copy(update={"metric": metric})
        last = results.leaderboard(dataclasses.replace(run, study=study).candidates)
        assert live.select("rank", "network").rows == last.select("rank", "network").rows
        assert live.headings[4] == "test loss"
    failed = dataclasses.replace(run.records[0], failure=None)
    assert len(results.leaders([failed], "val_loss", "val_loss", 5).rows) == 1
    assert results.leaders([], "val_loss", "val_loss", 5).rows == ()


def test_levels_are_ranked_one_by_one_and_what_is_left_out_is_counted() -> None:
    made = outcome("levels", level_records())
    table = results.leaderboard(made.candidates, 10)
    assert table.select("rank", "phi").rows == tuple((str(rank), phi) for phi in "12" for rank in range(1, 11))
    assert table.notes == ("10 more in candidates.csv.",)
    assert results.leaderboard(made.candidates).notes == ()
    one = outcome("one level", planted_records(PlantedSurface()))
    assert "phi" not in {column.key for column in results.leaderboard(one.candidates).columns}


def test_cells_agree_with_the_candidates_table(run: Run) -> None:
    first = run.candidates.iloc[0]
    table = results.leaderboard(run.candidates)
    cells = dict(zip((column.key for column in table.columns), table.rows[0], strict=True))
    assert cells["val_loss"] == f"{first['val_loss']:.4f}"
    assert cells["val_accuracy"] == f"{first['val_accuracy']:.2%}"
    assert cells["real_cost"] == f"{first['macs_ratio']:.3f}×"
    record = min(run.records, key=lambda record: record.mean("val_loss"))
    assert cells["network"] == networks.planned([record.candidate], nominal=False).select("network").rows[0][0]
    single = outcome("one seed", planted_records(PlantedSurface(), seeds=(0,)))
    assert {row for (row,) in results.leaderboard(single.candidates).select("val_loss_sd").rows} == {""}


def test_balanced_accuracy_stands_beside_accuracy_where_it_is_known(run: Run) -> None:
    balanced = dataclasses.replace(run, records=tuple(map(with_balanced, run.records)))
    old = dataclasses.replace(balanced, reference=dataclasses.replace(planted_reference(), phi=0.0))
    last = results.leaderboard(old.candidates, baseline=old.baseline)
    for shown in (terminal.LEADERBOARD, html.LEADERBOARD):
        assert "balanced" not in results.leaderboard(run.candidates).select(*shown).headings
        headings = last.select(*shown).headings
        assert headings[headings.index("balanced") + 1] == "best?"
    cells = [cell for (cell,) in last.select("val_balanced_accuracy").rows]
    assert cells[0] == f"{old.candidates.iloc[0]['val_accuracy'] / 2:.2%}"
    assert cells[-1] == ""  # the baseline was trained before it was recorded
    assert "val_balanced_accuracy" not in old.reference_json()["reference"]
    new = dataclasses.replace(old, reference=with_balanced(old.reference))
    row = new.baseline.iloc[0]
    assert new.reference_json()["reference"]["val_balanced_accuracy"] == pytest.approx(row["val_accuracy"] / 2)


def test_a_family_says_what_its_members_should_cost_and_do(run: Run) -> None:
    members = run.family((0, 1, 2))
    table = networks.family(members)
    assert table.select("phi", "nominal").rows == (("0", "1×"), ("1", "2×"), ("2", "4×"))
    assert table.select("real_cost").rows[2] == (f"{members[2].cost_ratio:.4g}×",)
    assert table.select("macs").rows[1] == (f"{members[1].complexity.macs:,}",)


def test_columns_that_a_table_does_not_have_are_ignored() -> None:
    table = make_table("", [{"a": "1", "phi": "2"}])
    assert table.select("phi", "missing", "a").headings == ("φ", "a")
    assert table.without("a", "missing").rows == (("2",),)
    assert make_table("none", []).rows == ()
    assert named_values("", {"key": "value"}).headings == ("", "")


def test_facts_are_json_in_a_line() -> None:
    table = results.facts("made with", {"a": {"b": 1.23456789, "c": [1, "x"]}, "d": None, "e": "text"})
    assert table.rows == (("a", 'b 1.23457, c [1, "x"]'), ("d", "null"), ("e", "text"))


def test_a_note_needs_no_report(run: Run, tmp_path: Path) -> None:
    assert note.note(run).startswith("# planted\n\n**Spend ")
