"""The report: self-contained, escaped, complete, finished or not."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from scalesearch.analysis.choice import choose
from scalesearch.analysis.tables import candidates_table, finished_candidates, trials_table
from scalesearch.results.records import Failure
from tests.planted import PlantedSurface, planted_candidates, planted_records
from tests.report.pages import FINISHED, outcome, report, validations

HOSTILE = '</script><script>document.title="owned"</script><img src=http://example.org/x onerror=alert(1)>"\'&'


class Tags(HTMLParser):
    """Start tags with their attributes; the text outside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not (self.tags and self.tags[-1][0] in ("script", "style")):
            self.text.append(data)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bad = planted_candidates()[3]
    records = planted_records(PlantedSurface(), fail=lambda c: Failure("error", HOSTILE) if c == bad else None)
    path = tmp_path_factory.mktemp("report") / "report.html"
    report(path, HOSTILE, records, where=HOSTILE)
    return path


def parsed(path: Path) -> Tags:
    tags = Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    return tags


def test_nothing_is_loaded_from_anywhere(hostile: Path):
    tags = parsed(hostile).tags
    assert not [(tag, attributes) for tag, attributes in tags if {"src", "srcset", "data"} & set(attributes)]
    links = [attributes["href"] for _, attributes in tags if "href" in attributes]
    assert sorted(links) == sorted(f"#{attributes['id']}" for tag, attributes in tags if tag == "h2")
    assert not {tag for tag, _ in tags} & {"link", "iframe", "object", "embed", "img", "base"}
    policy = next(a["content"] for _, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    style = re.search(r"<style>(.*?)</style>", hostile.read_text(encoding="utf-8"), re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_a_hostile_name_stays_text(hostile: Path):
    text = "".join(parsed(hostile).text)
    # In the heading, among the failures and in the provenance: all of it, as it was written.
    assert text.count(HOSTILE) >= 3
    page = hostile.read_text(encoding="utf-8")
    assert '<script>document.title="owned"' not in page
    assert page.count("</script") == [tag for tag, _ in parsed(hostile).tags].count("script") == 11 + 3


def test_the_page_says_all_that_it_should(tmp_path: Path):
    records = planted_records(PlantedSurface())
    path = tmp_path / "report.html"
    report(path, "planted study", records)
    text = "".join(parsed(path).text)
    shares = choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss").shares
    assert f"Spend {100 * shares.depth:.2g} % of the budget on depth" in text
    assert re.search(r"Every member costs its nominal multiple of the baseline within \d+ %\.", text)
    assert outcome("planted study", records).choice.signal.verdict in text
    assert "Validation at φ = 2, on the test split" in text
    assert "At equal macs the rule's network (split 1) is" in text
    assert f"{76_794_016:,}" in text  # the baseline's macs, at φ = 0
    assert "scalesearch 0.1.0" in text
    assert [attributes["id"] for _, attributes in parsed(path).tags if attributes.get("class") == "plot"] == [
        "figure-triangle", "figure-validation-over-macs", "figure-validation-1", "figure-validation-2",
        "figure-leaderboard", "figure-curves", "figure-errors", "figure-over-macs", "figure-over-activations",
        "figure-over-seconds", "figure-cost",
    ]  # fmt: skip
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_an_unresolved_study_says_so(tmp_path: Path):
    records = planted_records(PlantedSurface(), seeds=(0,))
    path = tmp_path / "report.html"
    report(path, "one seed", records)
    text = "".join(parsed(path).text)
    assert "This is not resolved: other splits may be as good." in text
    assert outcome("one seed", records).choice.signal.verdict in text
    assert "Not resolved" in text


def test_three_candidates_are_a_report_without_a_surface(tmp_path: Path):
    path = tmp_path / "report.html"
    report(path, "three", planted_records(PlantedSurface())[6:9])
    assert "because no surface can be fitted" in "".join(parsed(path).text)


def test_a_study_that_still_runs_says_how_far_it_is(tmp_path: Path):
    path = tmp_path / "report.html"
    report(
        path,
        "some",
        planted_records(PlantedSurface())[:9],
        states={**FINISHED, "complete": 9, "waiting": 4, "running": 2},
    )
    text = "".join(parsed(path).text)
    assert "Not finished: of 15 trials 9 complete, 0 failed, 2 running, 4 waiting. What follows may change." in text
    report(path, "all", planted_records(PlantedSurface()))
    assert "Not finished" not in "".join(parsed(path).text)


def test_one_candidate_is_a_report_that_resolves_nothing(tmp_path: Path):
    path = tmp_path / "report.html"
    report(path, "one", planted_records(PlantedSurface())[6:7], validations=())
    text = "".join(parsed(path).text)
    assert "Not resolved: fewer than two candidates finished." in text
    assert "1 candidate, 3 seeds each" in text


@pytest.mark.parametrize("fails", [False, True])
def test_no_candidate_is_a_page_that_says_so_and_why(tmp_path: Path, fails: bool):
    records = planted_records(PlantedSurface(), fail=lambda candidate: Failure("diverged", HOSTILE)) if fails else ()
    path = tmp_path / "report.html"
    report(
        path, "none", records, validations=(), states={**FINISHED, "complete": 0, "failed" if fails else "waiting": 15}
    )
    text = "".join(parsed(path).text)
    assert "No candidate has finished" in text
    assert text.count(f"diverged: {HOSTILE}") == 15 * fails
    assert ("Not finished: of 15 trials 0 complete, 0 failed, 0 running, 15 waiting" in text) is not fails
    assert "training" in text
    assert path.stat().st_size < 50_000  # without figures no plotly


def test_one_validated_level_has_no_chart_over_macs(tmp_path: Path):
    only = validations()[1:]
    page = report(tmp_path / "report.html", "one level", planted_records(PlantedSurface()), validations=only)
    assert "figure-validation-2" in page
    assert "figure-validation-over-macs" not in page


def test_what_speaks_against_the_rule_is_said(tmp_path: Path):
    records = planted_records(PlantedSurface())
    noisy = planted_records(PlantedSurface(), noise_sd=0.2, seeds=(7, 8))
    page = report(tmp_path / "report.html", "warned", records, rungs={2: noisy})
    (rung,) = outcome("warned", records, rungs={2: noisy}).schedule.to_dict("records")
    assert rung["tau"] < 0.5
    sentence = f"after 2 epochs (τ = {rung['tau']:.2f})"
    assert page.count(sentence) == 2  # below the answer, and above the table
    assert f"<td>{rung['low']:.2f} to {rung['high']:.2f}</td>" in page


def test_the_page_says_how_well_the_surface_fits(tmp_path: Path):
    records = planted_records(PlantedSurface())
    page = report(tmp_path / "report.html", "fit", records)
    choice = choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss")
    assert choice.surface is not None
    most = max(choice.surface.influence)
    for sentence in (
        "robust error (HC3)",
        f">{most:.2f}<",
        f"{choice.surface.robust_errors[0]:.4f}",
        "Scheffé special cubic",
    ):
        assert sentence in page
    done = finished_candidates(candidates_table(records, 2.0, "val_loss"), "val_loss")
    most_influential = done.iloc[int(np.argmax(choice.surface.influence))]
    name = f"α {most_influential['alpha']:.2f}  β {most_influential['beta']:.2f}  γ {most_influential['gamma']:.2f}"
    assert re.search(rf">{name}</th><td[^>]*>{most:.2f}<", page)


def test_tables_have_names_for_screen_readers(hostile: Path):
    tags = parsed(hostile).tags
    names = [tag for tag, _ in tags]
    assert names.count("table") == names.count("caption") == 8
    scopes = [attributes.get("scope") for tag, attributes in tags if tag == "th"]
    assert set(scopes) == {"col", "row"}
    figures = [attributes for tag, attributes in tags if attributes.get("role") == "img"]
    assert len(figures) == names.count("figcaption") == 11
    assert all(len(attributes["aria-label"] or "") > 40 for attributes in figures)
