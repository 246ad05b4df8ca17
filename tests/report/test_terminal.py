"""The screens of the command line: no word breaks at any width, and what a narrow terminal leaves out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from scalesearch.baselines.efficientnet import PAPER, published
from scalesearch.baselines.published import baseline
from scalesearch.cli.main import main
from scalesearch.report import terminal
from scalesearch.report.layout import fit, render, wrap
from scalesearch.report.views import networks, results
from scalesearch.report.views.table import Table, make_table
from scalesearch.results.load import Run
from scalesearch.scaling.explain import explain
from scalesearch.scaling.feasible import Candidate
from scalesearch.scaling.split import split_cost
from tests.planted import planted_candidates, planted_run
from tests.report.pages import validations

WIDTHS = (60, 80, 105, 140)
PIECES = re.compile(r"[^\s-]*-|[^\s-]+")
B0 = baseline("efficientnet-b0")
EXPLAINED = explain(B0, PAPER, range(8))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return planted_run(tmp_path_factory.mktemp("planted"))


def tables(run: Run) -> dict[str, Table]:
    """All tables that a terminal shows, with short and with long networks."""
    long = tuple(
        Candidate(
            one.member.spec,
            one.member.coefficients,
            split_cost(B0.spec, one.member.spec),
            PAPER,
            one.member.complexity,
            one.member.cost_ratio,
        )
        for one in EXPLAINED.members[1:]
    )
    return {
        "leaderboard": results.leaderboard(run.candidates).select(*terminal.LEADERBOARD),
        "leaders": results.leaders(run.records, "val_loss", "val_loss", 5),
        "plan": networks.planned(planted_candidates(), nominal=False).select(*terminal.PLAN),
        "plan of B0": networks.planned(long, nominal=True).select(*terminal.PLAN),
        "family": networks.family(run.family()).select(*terminal.FAMILY),
        "family of B0": networks.family(one.member for one in EXPLAINED.members).select(*terminal.FAMILY),
        "factors": networks.explanation(EXPLAINED).without("nominal", "real_cost"),
        "published": networks.published(published()),
        "validation": results.validation(validations()[1], "val_loss"),
    }


def drawn(table: Table, width: int) -> list[str]:
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(render(fit(table, width), width))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_table_fits_and_no_word_breaks(run: Run, width: int) -> None:
    for name, table in tables(run).items():
        lines = drawn(table, width)
        assert max(map(len, lines)) <= width, name
        assert "…" not in "".join(lines), name
        shown = fit(table, width)
        cells = (*shown.headings, *(cell for row in shown.rows for cell in row))
        known = {piece for cell in cells for piece in PIECES.findall(cell)}
        unknown = [piece for line in lines for piece in PIECES.findall(line) if piece not in known]
        assert unknown == [], name


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_left_out_is_what_others_imply(run: Run, width: int) -> None:
    for name, table in tables(run).items():
        left_out = {column.key for column in table.columns} - {column.key for column in fit(table, width).columns}
        assert left_out <= {key for keys in table.optional for key in keys}, name
        for keys in table.optional:
            assert left_out.isdisjoint(keys) or left_out.issuperset(set(keys) & {c.key for c in table.columns}), name
    kept = fit(tables(run)["leaderboard"], width).headings
    assert {"α", "β", "γ", "val_loss", "best?", "network"} <= set(kept)


def test_a_wide_terminal_leaves_nothing_out(run: Run) -> None:
    for table in tables(run).values():
        assert fit(table, 200) == table


def test_headings_and_networks_wrap_where_they_may() -> None:
    assert wrap("1-2-2-3-3-4-1 × 16-24-40-80 at 224 px", 16) == "1-2-2-3-3-4-1 ×\n16-24-40-80\nat 224 px"
    assert wrap("10-12-14 × 16-24", 9) == "10-12-\n14 × 16-\n24"
    assert wrap("short", 4) == "short"
    rows = [{"rule better by": "1", "resolution_times": "2", "network": "2-2 × 16-33 at 14 px"}]
    heading = [line.split() for line in drawn(make_table("", rows), 38)][:3]
    assert heading == [["rule"], ["better"], ["by", "resolution", "×", "network"]]


def at_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Standard output as a terminal of `width` columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("width", WIDTHS)
def test_sentences_wrap_between_words_on_a_terminal(
    run: Run, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_width(monkeypatch, width)
    terminal.show_result(run, ())
    terminal.show_status(run)
    terminal.show_validations(validations(), "val_loss")
    assert main(["explain"]) == 0
    out = plain(capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= width
    words = " ".join(out.split())
    for sentence in (run.choice.signal.verdict, run.choice.basis, run.choice.certainty, *EXPLAINED.sentences):
        assert sentence in words


def test_a_file_gets_each_sentence_as_one_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_result(run, run.files())
    lines = capsys.readouterr().out.splitlines()
    assert {run.choice.signal.verdict, run.choice.basis, run.choice.certainty} <= set(lines)
    assert f"Files in {run.folder}: study.db, study.toml" in lines


def test_what_the_headings_mean_is_said_for_those_that_are_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for width, shown in ((60, False), (80, True)):
        at_width(monkeypatch, width)
        terminal.show_status(run)
        out = " ".join(plain(capsys.readouterr().out).split())
        assert ("± seed: standard deviation over the seeds." in out) is shown
        assert "best?: chance of being the best; in brackets if the seeds rule it out." in out


def test_what_a_failure_says_is_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scalesearch.results.records import Failure

    failing = planted_run(tmp_path, fail=lambda candidate: Failure("error", "shape [/bold] of [red]"))
    terminal.show_result(failing, ())
    out = capsys.readouterr().out
    assert "nothing can be chosen" in out
    assert out.count("error: shape [/bold] of [red]") == 15
