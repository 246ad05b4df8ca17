"""The readers of studies, of rules, of storage URLs, and of run folders."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

from scalesearch.baselines.published import baseline
from scalesearch.cli.plan import plan_to_json
from scalesearch.export.rule_json import read_rule, rule_text
from scalesearch.results.load import load
from scalesearch.scaling.coefficients import coefficients_of
from scalesearch.scaling.explain import explain
from scalesearch.scaling.family import family
from scalesearch.scaling.rule import ScalingRule
from scalesearch.scaling.simplex import Shares
from scalesearch.search.plan.parts import plans_of
from scalesearch.search.queue.storage import open_storage, study_names
from scalesearch.study.load import load_study
from tests.fuzzing.targets import Target

GOLDEN = Path(__file__).parents[1] / "golden"
DATA = """[data]
source = "mnist-sample"
train = 1000
validation = 200
[training]
epochs = 4
batch_size = 64
learning_rate = 0.004
"""
OWN = """name = "own"
budget = 2.0
tolerance = 0.05
phi = [1.0, 2.0]
rungs = [1]
seeds = 2
[baseline]
name = "tiny"
resolution = 16
in_channels = 1
num_classes = 10
head_width = 16
stem = { width = 8, kernel_size = 3, stride = 2 }
stages = [
  { block = "mbconv", kernel_size = 3, stride = 1, expand_ratio = 2, width = 8, depth = 2, se_ratio = 0.25 },
  { block = "basic", kernel_size = 3, stride = 2, width = 16, depth = 1 },
]
[rounding]
width_divisor = 4
[design]
kind = "lattice"
degree = 3
"""
PUBLISHED = 'name = "published"\nbaseline = "resnet-18"\n[design]\nkind = "qmc"\nsize = 8\n'
URLS = (
    "sqlite:///{place}/study.db",
    "sqlite:////tmp/nowhere/study.db?timeout=1",
    "postgresql+psycopg://me:secret@127.0.0.1:1/studies?connect_timeout=1",
    "sqlite://",
)
WORDS = (
    b"qmc",
    b"grid",
    b"tpe",
    b"nominal = true",
    b"step = 0.005",
    b"degree = 40",
    b"efficientnet-b0",
)


def study_files(folder: Path) -> None:
    for number, text in enumerate((OWN, PUBLISHED)):
        place = folder / str(number)
        place.mkdir()
        (place / "study.toml").write_text(text + DATA, encoding="utf-8")


def plan_study(folder: Path) -> None:
    for part, plan in plans_of(load_study(folder / "study.toml")):
        json.dumps(plan_to_json(part.study, plan))


def rule_files(folder: Path) -> None:
    (folder / "0").mkdir()
    shutil.copy(GOLDEN / "run_0_1" / "coefficients.json", folder / "0")
    (folder / "1").mkdir()
    shares, b0 = Shares(0.25, 0.25, 0.5), baseline("efficientnet-b0")
    training = {"batch_size": 64, "dropout": 0.2, "stochastic_depth": 0.1, "evaluation_resolution": 240}
    values = dataclasses.asdict(coefficients_of(shares, 2.0))
    rule = ScalingRule(
        budget=2.0, **values, shares=shares, intervals=None, resolved=True, tied=None, metric="val_loss", baseline=b0,
        data={}, training=training, seeds=2, provenance={"trials": {"complete": 15}},
    )  # fmt: skip
    (folder / "1" / "coefficients.json").write_text(rule_text(rule), encoding="utf-8")


def read_family(folder: Path) -> None:
    rule = read_rule(folder)
    json.dumps([member.to_json() for member in family(rule, (0, 1))])
    explain(rule.baseline, rule.coefficients, (0, 1))


def url_files(folder: Path) -> None:
    for number, url in enumerate(URLS):
        (folder / str(number)).mkdir()
        (folder / str(number) / "url").write_text(url, encoding="utf-8")
        shutil.copy(GOLDEN / "run_0_1" / "study.db", folder / str(number))


def read_url(folder: Path) -> None:
    file, before = folder / "url", sorted(folder.rglob("*"))
    url = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    if "postgres" in url and "127.0.0.1:1/" not in url:
        return  # no other host is asked
    with contextlib.chdir(folder):
        try:
            study_names(open_storage(url.replace("{place}", str(folder)), read_only=True))
        finally:
            assert sorted(folder.rglob("*")) == before, "a look made a file"


def run_folders(folder: Path) -> None:
    (folder / "0").mkdir()
    for name in ("study.toml", "study.db"):
        shutil.copy(GOLDEN / "run_0_1" / name, folder / "0")


TARGETS = {
    "study": Target(study_files, plan_study, WORDS, slow=True),
    "rule": Target(rule_files, read_family, (b"NaN", b"Infinity", b"1e400", b'"nominal"', b"\xef\xbb\xbf")),
    "storage_url": Target(url_files, read_url, (b"sqlite:///", b"%2F", b":memory:", b"?mode=ro", b"@", b"{", b"\0")),
    "run": Target(run_folders, load, (b"{}", b"null", b"COMPLETE", b"RUNNING", b"FAIL"), slow=True),
}
