"""Pages say what the code has: columns, keys, files. (`make docs` checks links and executes the tutorial.)"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scalesearch.analysis.tables import CANDIDATE_COLUMNS, OPTIONAL_COLUMNS, TRIAL_COLUMNS
from scalesearch.study.sections import Study
from tests.planted import planted_rule

COLUMNS = {"trials": {**TRIAL_COLUMNS, **OPTIONAL_COLUMNS}, "candidates": {**CANDIDATE_COLUMNS, **OPTIONAL_COLUMNS}}
DOCS = Path(__file__).parents[2] / "docs"


def section(page: str, heading: str) -> str:
    """The text below a heading of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", ["trials", "candidates"])
def test_every_column_is_described(name: str) -> None:
    heading, columns = f"{name}.csv", COLUMNS[name]
    cells = [row.split("|")[1] for row in section("reference/run_folder.md", heading).splitlines() if "|" in row]
    assert set(re.findall(r"`(\w+)`", "".join(cells))) == set(columns)


def test_every_key_of_coefficients_json_is_described() -> None:
    rows = section("reference/run_folder.md", "coefficients.json").splitlines()
    cells = [row.split("|")[1] for row in rows if "|" in row]
    assert set(re.findall(r"`(\w+)`", "".join(cells))) == set(planted_rule().to_json())


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "studies/results/README.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(page: str) -> None:
    text = (DOCS.parent / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if not target.startswith("https://")]
    assert [target for target in targets if not ((DOCS.parent / page).parent / target).exists()] == []


def keys_of(schema: dict[str, Any], definition: dict[str, Any], prefix: str = "") -> set[str]:
    """The keys of a section and of the sections in it."""
    keys: set[str] = set()
    for key, field in definition["properties"].items():
        text = str(field)
        inner = re.findall(r"'\$ref': '#/\$defs/(\w+)'", text)  # several for a stage: one a kind of block
        for section in inner:
            keys |= keys_of(schema, schema["$defs"][section], f"{prefix}{key}{'[]' * ('items' in text)}.")
        if not inner:
            keys.add(prefix + key)
    return keys


def test_every_key_of_a_study_file_has_a_meaning() -> None:
    schema = Study.model_json_schema()
    meanings = tomllib.loads((DOCS / "reference/study_keys.toml").read_text(encoding="utf-8"))["meaning"]
    keys = keys_of(schema, schema)
    shared = {key.replace("training.", "train.") for key in keys if key.startswith("training.")}  # said once
    assert shared < keys
    assert set(meanings) == keys - shared


@pytest.mark.parametrize("picture", ["terminal.svg", "explanation/rooms.svg"])
def test_pictures_need_no_network(picture: str) -> None:
    path = DOCS / picture
    assert path.stat().st_size < 100_000
    text = path.read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    assert not re.findall(r"(?:href|src|url)\W{1,3}https?:", text)


def test_every_decision_has_a_title_and_a_date() -> None:
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        title, _, body = path.read_text(encoding="utf-8").partition("\n")
        assert re.fullmatch(rf"# {int(path.name[:4])}\. .+", title), path.name
        assert re.search(r"^Date: 20\d\d-\d\d-\d\d\.", body, flags=re.MULTILINE), path.name


def test_the_papers_tables_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/explanation/paper_tables.md says in words about the figures of its tables."""
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    import paper_tables as paper

    given = {
        (one.network, paper.multipliers(one.coefficients)): one for name in paper.PRINTED for one in paper.rows(name)
    }
    none = [key for key, one in given.items() if not one.matches]
    assert none == [
        ("mobilenet-v1", "r = 2"),
        ("mobilenet-v1", "d = 1.4, w = 1.2, r = 1.3"),
        ("resnet-50", "d = 4"),
        ("resnet-50", "w = 2"),
        ("resnet-50", "d = 1.4, w = 1.2, r = 1.3"),
        ("efficientnet-b0", "d = 4"),
        ("efficientnet-b0", "w = 2"),
        ("efficientnet-b0", "r = 2"),
    ]
    # All others are given by the usual rounding, but for one.
    other = {key: one.matches[:2] for key, one in given.items() if one.matches and one.matches[0]}
    assert other == {
        ("mobilenet-v2", "d = 1.4, w = 1.2, r = 1.3"): [
            ("widths not rounded", "head fixed"),
            ("widths not rounded", "stem fixed"),
        ]
    }
    # ResNet-50's rows by depth and width: each printed figure is near our count of the other one.
    deep, wide = (given["resnet-50", times] for times in ("d = 4", "w = 2"))
    assert (deep.macs[deep.usual], wide.macs[wide.usual]) == (14_570_749_952, 16_116_613_120)
    for one, other_row in ((deep, wide), (wide, deep)):
        assert abs(one.macs[one.usual] / 1e9 / float(other_row.printed) - 1) < 0.01
    # Multipliers that are printed as whole numbers.
    assert given["efficientnet-b0", "r = 2"].explanation == "none: all give 1.54; r = 2.15 to 2.21 would"
    whole = [given[key] for key in none if "," not in key[1] and key[0] != "resnet-50"]
    assert all(one.would is not None for one in whole)
    assert [given[key].would for key in none if "," in key[1]] == [None, None]
