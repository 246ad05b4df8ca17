"""The report: self-contained, escaped, complete, and drawn by a real browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scalesearch.analysis.selection import choose, rule_of
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.analysis.validation import validation_table, verdict
from scalesearch.config import parse_study
from scalesearch.records import Failure, TrialRecord
from scalesearch.report.html import render
from tests.planted import PlantedSurface, planted_candidates, planted_records, small_baseline

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


def report(path: Path, name: str, records: tuple[TrialRecord, ...], where: str = "cpu") -> str:
    own = small_baseline()
    study = parse_study(
        {
            "name": "planted",
            "seeds": 3,
            "baseline": {"name": own.name, **own.spec.to_json()},
            "rounding": {"width_divisor": 2},
            "data": {"source": "mnist-sample", "validation": 1000},
            "training": {"epochs": 3, "batch_size": 100, "learning_rate": 0.01},
        },
        "planted.toml",
    )
    candidates = candidates_table(records, 2.0, "val_loss")
    choice = choose(trials_table(records), candidates, 2.0, "val_loss")
    rule = rule_of(choice, study, {"device": where, "versions": {"scalesearch": "0.1.0"}})
    names = {record.candidate.spec: (f"split {place}",) for place, record in enumerate(records)}
    table = validation_table(records, names, "split 0", "val_loss")
    page = render(
        name=name, rule=rule, choice=choice, candidates=candidates, records=records,
        validations={2.0: (table, verdict(table))},
    )  # fmt: skip
    path.write_text(page, encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bad = planted_candidates()[3]
    records = planted_records(PlantedSurface(), fail=lambda c: Failure("error", HOSTILE) if c == bad else None)
    path = tmp_path_factory.mktemp("report") / "report.html"
    report(path, HOSTILE, records, HOSTILE)
    return path


def parsed(path: Path) -> Tags:
    tags = Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    return tags


def test_nothing_is_loaded_from_anywhere(hostile: Path):
    tags = parsed(hostile).tags
    assert not [(tag, attributes) for tag, attributes in tags if {"src", "href", "srcset", "data"} & set(attributes)]
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
    assert '<script>document.title="owned"' not in hostile.read_text(encoding="utf-8")


def test_the_page_says_all_that_it_should(tmp_path: Path):
    records = planted_records(PlantedSurface())
    path = tmp_path / "report.html"
    report(path, "planted study", records)
    text = "".join(parsed(path).text)
    shares = choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss").shares
    assert f"Spend {shares.depth:.0%} of the budget on depth" in text
    assert re.search(r"costs 2 times the macs before rounding; .* φ = 1 costs \d\.\d+ times the baseline", text)
    assert "Resolved: candidates spread over" in text
    assert "Validation at φ = 2, on the test split" in text
    assert "At equal macs the rule's network (split 0) is" in text
    assert f"{76_794_016:,}" in text  # the baseline's macs, at φ = 0
    assert "scalesearch 0.1.0" in text
    for name in ("triangle", "leaderboard", "curves", "cost"):
        assert f"figure-{name}" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_an_unresolved_study_says_so(tmp_path: Path):
    records = planted_records(PlantedSurface(), seeds=(0,))
    path = tmp_path / "report.html"
    report(path, "one seed", records)
    text = "".join(parsed(path).text)
    assert "This is not resolved: other splits may be as good." in text
    assert "Not resolved: candidates spread over" in text


def test_three_candidates_are_a_report_without_a_surface(tmp_path: Path):
    path = tmp_path / "report.html"
    report(path, "three", planted_records(PlantedSurface())[6:9])
    assert "because no surface can be fitted" in "".join(parsed(path).text)


@pytest.mark.browser
def test_a_browser_draws_every_figure_and_runs_no_foreign_script(hostile: Path, tmp_path: Path):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs Chromium")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000", "--dump-dom", hostile.as_uri(),
    ]  # fmt: skip
    page = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for name in ("triangle", "leaderboard", "curves", "cost"):
        figure = page.split(f'<div id="figure-{name}"', 1)[1].split('<div class="figure">', 1)[0]
        assert 'class="main-svg"' in figure
    assert "<title>owned" not in page
