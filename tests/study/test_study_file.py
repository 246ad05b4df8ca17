"""Study files: a good one round-trips; a wrong one is one line that names file, key, value and what is allowed."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from scalesearch.baselines.published import NAMES, baseline
from scalesearch.scaling.compound import Rounding
from scalesearch.study.load import StudyFileError, default_study_path, load_study, parse_study, shipped_studies
from scalesearch.study.sections import Study

PUBLISHED = """
name = "tiny"
budget = 2

[baseline]
name = "efficientnet-b0"
resolution = 32
num_classes = 10

[data]
source = "mnist-sample"
validation = 100

[training]
epochs = 3
batch_size = 8
learning_rate = 1
"""

OWN = """
name = "own"

[baseline]
name = "mine"
resolution = 14
in_channels = 1
num_classes = 10
head_width = 32
activation = "relu"
stem = { width = 8, kernel_size = 3, stride = 1 }
stages = [
    { block = "mbconv", kernel_size = 3, stride = 1, expand_ratio = 4, width = 8, depth = 1, se_ratio = 0.25 },
    { block = "bottleneck", kernel_size = 3, stride = 2, expand_ratio = 4, width = 16, depth = 2 },
]

[data]
source = "npz:digits.npz"
validation = 50

[training]
epochs = 2
batch_size = 8
learning_rate = 0.1

[runtime]
seeds_together = true
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def published(tmp_path: Path) -> Study:
    return load_study(_file(tmp_path, PUBLISHED))


@pytest.fixture
def own(tmp_path: Path) -> Study:
    return load_study(_file(tmp_path, OWN))


def _changed(config: Study, key: str, value: object) -> dict[str, Any]:
    """The study's document with the value at a dotted key (a number is an index) set, or removed for `...`."""
    document: dict[str, Any] = copy.deepcopy(config.model_dump(mode="json"))
    *parents, last = (int(part) if part.isdigit() else part for part in key.split("."))
    section: Any = document
    for parent in parents:
        section = section[parent]
    if value is ...:
        del section[last]
    else:
        section[last] = value
    return document


def _fault(document: Any) -> str:
    with pytest.raises(StudyFileError) as caught:
        parse_study(document, "study.toml")
    message = str(caught.value)
    assert message.startswith("study.toml: ")
    assert "\n" not in message
    return message.removeprefix("study.toml: ")


def test_json_gives_the_study_back(published: Study, own: Study) -> None:
    for config in (published, own):
        text = json.dumps(config.model_dump(mode="json"), allow_nan=False)
        assert parse_study(json.loads(text), "record") == config


def test_whole_numbers_are_taken_where_fractions_are_meant(published: Study) -> None:
    assert (published.budget, published.training.learning_rate) == (2.0, 1.0)
    assert isinstance(published.budget, float)
    assert isinstance(published.training.learning_rate, float)


def test_a_published_baseline_keeps_what_the_study_does_not_change(published: Study) -> None:
    spec = published.resolved_baseline().spec
    b0 = baseline("efficientnet-b0").spec
    assert (spec.resolution, spec.num_classes, spec.in_channels) == (32, 10, 3)
    assert (spec.stem, spec.stages, spec.head_width) == (b0.stem, b0.stages, b0.head_width)


@pytest.mark.parametrize("name", NAMES)
def test_every_published_baseline_is_balanced_in_a_study(published: Study, name: str) -> None:
    resolved = parse_study(_changed(published, "baseline.name", name), "study.toml").resolved_baseline()
    rounding = baseline(name).rounding
    assert resolved.name == name
    assert resolved.spec.stages == baseline(name).spec.stages
    assert resolved.rounding == dataclasses.replace(rounding, depth="balanced")


def test_a_baseline_of_ones_own_rounds_to_what_its_blocks_divide(own: Study) -> None:
    resolved = own.resolved_baseline()
    assert resolved.name == "mine"
    assert (resolved.spec.depths, resolved.spec.widths) == ((1, 2), (8, 8, 16, 32))
    assert resolved.spec.activation == "relu"
    assert resolved.rounding == Rounding(32, "balanced", 1, "scaled", "scaled")


def test_the_study_may_change_the_rounding(published: Study) -> None:
    document = _changed(published, "rounding", {"depth": "ceil", "width_divisor": 2, "head": "fixed"})
    rounding = parse_study(document, "study.toml").resolved_baseline().rounding
    assert rounding == Rounding(2, "ceil", 1, "scaled", "fixed")


def test_identity_holds_what_changes_results(published: Study) -> None:
    identity = published.identity()
    assert identity["budget"] == 2.0
    assert identity["training.epochs"] == 3
    assert identity["data.source"] == "mnist-sample"
    off = {"crop": 1, "color_jitter": 0.0, "rand_augment": 0, "rand_augment_magnitude": 9.0, "mixup": 0, "cutmix": 0}
    assert not {f"training.{key}" for key in off} & {*identity}  # of studies older than these settings too
    unchanged = ((f"training.{key}", value) for key, value in off.items())
    for key, value in (("name", "other"), ("runtime.convolutions", "native"), *unchanged):
        assert parse_study(_changed(published, key, value), "f").identity() == identity
    for key, value in (
        ("budget", 3),
        ("tolerance", 0.03),
        ("seeds", 3),
        ("metric", "val_accuracy"),
        ("data.split_seed", 1),
        ("training.epochs", 4),
        ("training.crop", 0.5),
        ("training.rand_augment", 2),
        ("training.cutmix", 1.0),
        ("design.degree", 3),
        ("rounding.depth", "ceil"),
        ("rounding.first_last_depth", "fixed"),
        ("baseline.resolution", 33),
        ("baseline.hidden_width", 8),
    ):
        other = parse_study(_changed(published, key, value), "f").identity()
        assert {name for name in {*identity, *other} if identity.get(name) != other.get(name)} == {key}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("budget", 1, "`budget` must be greater than 1, but got 1"),
        ("budget", 0.5, "`budget` must be greater than 1, but got 0.5"),
        ("budget", -2, "`budget` must be greater than 1, but got -2"),
        ("budget", "two", "`budget` must be a number, but got 'two'"),
        ("budget", math.nan, "`budget` must be a finite number, but got nan"),
        ("budget", math.inf, "`budget` must be a finite number, but got inf"),
        ("budget", True, "`budget` must be a number, but got True"),
        ("budget", [2], "`budget` must be a number, but got [2]"),
        ("budget", 10**400, "`budget` must be a number, but got 1" + 79 * "0" + "…"),
        ("tolerance", 0, "`tolerance` must be greater than 0, but got 0"),
        ("tolerance", 1, "`tolerance` must be less than 1, but got 1"),
        ("metric", "acc", "`metric` must be 'val_loss' or 'val_accuracy', but got 'acc'"),
        ("seeds", 0, "`seeds` must be at least 1, but got 0"),
        ("seeds", 2.0, "`seeds` must be a whole number, but got 2.0"),
        ("seeds", 1001, "`seeds` must be at most 1000, but got 1001"),
        ("name", "", "`name` must match ^[A-Za-z0-9][A-Za-z0-9_.-]*$, but got ''"),
        ("name", "../up", "`name` must match ^[A-Za-z0-9][A-Za-z0-9_.-]*$, but got '../up'"),
        ("name", "n" * 201, "`name` must have at most 200 characters, but got 'nnnn"),
        ("name", ..., "missing key `name`"),
        ("baseline", 3, "`baseline` must be a table, but got 3"),
        ("baseline", ..., "missing key `baseline`"),
        ("baseline.name", 3, "`baseline.name` must be text, but got 3"),
        ("baseline.resolution", 0, "`baseline.resolution` must be at least 1, but got 0"),
        ("baseline.resolution", 10**30, f"`baseline.resolution` must be at most 100000000, but got {10**30}"),
        ("baseline.head_width", -1, "`baseline.head_width` must be at least 0, but got -1"),
        (
            "baseline.activation",
            "mish",
            "`baseline.activation` must be 'swish', 'relu', 'relu6', 'hard_swish' or 'gelu'",
        ),
        ("rounding.depth", "up", "`rounding.depth` must be 'ceil', 'round' or 'balanced', but got 'up'"),
        ("rounding.width_divisor", 0, "`rounding.width_divisor` must be at least 1, but got 0"),
        ("rounding.first_last_depth", "no", "`rounding.first_last_depth` must be 'scaled' or 'fixed', but got 'no'"),
        ("design.kind", "x", "`design.kind` must be 'lattice', 'grid', 'qmc' or 'tpe', but got 'x'"),
        ("design.step", 0, "`design.step` must be at least 0.005, but got 0"),
        ("data.source", "cifar", "`data.source` must be mnist-sample, folder:DIR, "),
        ("data.source", "idx:", "`data.source` must be mnist-sample, folder:DIR, "),
        ("data.source", "mnist-sample:x", "`data.source` must be mnist-sample, folder:DIR, "),
        ("data.validation", "many", "`data.validation` must be a whole number, but got 'many'"),
        ("training.epochs", ..., "missing key `training.epochs`"),
        ("training.learning_rate", 0, "`training.learning_rate` must be greater than 0, but got 0"),
        ("training.ema_decay", 1, "`training.ema_decay` must be less than 1, but got 1"),
        ("training.flip", 1, "`training.flip` must be true or false, but got 1"),
        ("training.crop", 0, "`training.crop` must be at least 0.01, but got 0"),
        ("training.mixup", -1, "`training.mixup` must be at least 0, but got -1"),
        (
            "training.rand_augment_magnitude",
            5,
            "`training.rand_augment_magnitude` needs `rand_augment` of at least 1, but got 0",
        ),
        ("training.warmup_epochs", 3, "`training.warmup_epochs` must be below `epochs` (3), but got 3"),
        (
            "runtime.seeds_together",
            "yes",
            "`runtime.seeds_together` must be true or false, or be 'auto', but got 'yes'",
        ),
    ],
)
def test_a_wrong_value_is_one_line(published: Study, key: str, value: object, message: str) -> None:
    assert _fault(_changed(published, key, value)).startswith(message)


def test_an_unknown_baseline_is_told_which_there_are(published: Study) -> None:
    fault = _fault(_changed(published, "baseline.name", "efficientnet-b9"))
    assert fault == (
        f"`baseline.name` must be one of {', '.join(NAMES)} unless `stem` and `stages` define it, "
        "or MODULE:NAME of your own, but got 'efficientnet-b9'"
    )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("bugdet", "unknown key `bugdet` (did you mean `budget`?); allowed here: name, budget, tolerance, "),
        ("data.sorce", "unknown key `data.sorce` (did you mean `source`?); allowed here: source, train, "),
        ("training.xyz", "unknown key `training.xyz`; allowed here: epochs, batch_size, "),
        ("baseline.stem.pad", "unknown key `baseline.stem.pad`; allowed here: width, kernel_size, "),
        (
            "baseline.stages.1.widht",
            "unknown key `baseline.stages[1].widht` (did you mean `width`?); allowed here: block, kernel_size, ",
        ),
    ],
)
def test_an_unknown_key_is_named_with_those_allowed_beside_it(own: Study, key: str, message: str) -> None:
    assert _fault(_changed(own, key, 3)).startswith(message)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "stages.1.block",
            "conv",
            "`baseline.stages[1].block` must be 'mbconv', 'separable', 'basic', 'bottleneck', ",
        ),
        ("stages.1.depth", 0, "`baseline.stages[1].depth` must be a whole number of at least 1, but got 0"),
        ("stages.1.depth", True, "`baseline.stages[1].depth` must be a whole number, but got True"),
        ("stages.1.depth", 10**9, "`baseline.stages[1].depth` must be at most 100000000, but got 1000000000"),
        ("stages.1.block", ..., "missing key `baseline.stages[1].block`"),
        ("stages.1.width", ..., "missing key `baseline.stages[1].width`"),
        ("stages.1.kernel_size", 4, "`baseline.stages[1].kernel_size` must be odd, but got 4"),
        (
            "stages.1.width",
            18,
            "`baseline.stages[1].width` must be a multiple of `expand_ratio` in a `bottleneck` block",
        ),
        ("stages.0.se_ratio", 2, "`baseline.stages[0].se_ratio` must be at least 0 and at most 1, but got 2.0"),
        ("stages", [], "`baseline.stages` must hold at least one stage, but got none"),
        ("stages", 3, "`baseline.stages` must be a list, but got 3"),
        ("stages", [3], "`baseline.stages[0]` must be a table, but got 3"),
        ("stem.kernel_size", 2, "`baseline.stem.kernel_size` must be odd, but got 2"),
        ("stem", ..., "[baseline] a baseline of your own needs both `stem` and `stages`"),
        ("stages", ..., "[baseline] a baseline of your own needs both `stem` and `stages`"),
        ("resolution", ..., "[baseline] a baseline of your own needs `resolution`"),
        ("head_width", ..., "[baseline] a baseline of your own needs `head_width`"),
    ],
)
def test_a_wrong_baseline_of_ones_own_is_one_line(own: Study, key: str, value: object, message: str) -> None:
    assert _fault(_changed(own, f"baseline.{key}", value)).startswith(message)


@pytest.mark.parametrize("document", [[], 3, "text", None])
def test_a_document_must_be_a_table(document: object) -> None:
    assert _fault(document).startswith("the document must be a table, but got")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"budget = ", "not valid TOML ("),
        (b"budget = 2\nbudget = 3", "not valid TOML ("),
        (b"\xff\xfe", "not valid TOML ("),
        (b"budget = " + 5000 * b"9", "not valid TOML ("),
        (b"a = " + 5000 * b"[" + 5000 * b"]", "not valid TOML ("),
        (b"a" + 3000 * b".a" + b" = 1", "not valid TOML (nested too deeply)"),
        (b"#" * (2**24 + 1), "not valid TOML (it has more than 16,777,216 bytes)"),
        (b"", "missing key `name`"),
        (b"name = 2026-11-24", "`name` must be text, but got datetime.date(2026, 11, 24)"),
    ],
)
def test_a_file_that_holds_no_study_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    with pytest.raises(StudyFileError) as caught:
        load_study(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError) as missing:
        load_study(tmp_path / "none.toml")
    assert str(missing.value) == f"{tmp_path / 'none.toml'}: no such study file"
    with pytest.raises(StudyFileError) as folder:
        load_study(tmp_path)
    assert str(folder.value) == f"{tmp_path}: cannot be read (Is a directory)"


def test_overrides_are_laid_over_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, PUBLISHED)
    config = load_study(path, {"budget": 3, "design.kind": "grid", "training.epochs": 4})
    assert (config.budget, config.design.kind, config.training.epochs) == (3.0, "grid", 4)
    assert (config.training.batch_size, config.baseline.name) == (8, "efficientnet-b0")
    assert load_study(path) == load_study(path, {})


def test_a_wrong_override_says_that_it_is_not_in_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, PUBLISHED)
    with pytest.raises(StudyFileError) as caught:
        load_study(path, {"budget": 0.5, "seeds": 2})
    assert str(caught.value) == f"{path}: `budget` must be greater than 1, but got 0.5 (given as an argument)"
    with pytest.raises(StudyFileError) as nested:
        load_study(path, {"budget.of.mine": 1})
    assert str(nested.value) == f"{path}: `budget` must be a table, but got 2"
    with pytest.raises(StudyFileError) as unknown:
        load_study(path, {"training.epoch": 1})
    assert "unknown key `training.epoch` (did you mean `epochs`?)" in str(unknown.value)
    assert str(unknown.value).endswith("precision (given as an argument)")
    with pytest.raises(StudyFileError, match=r"`phi\[0\]` must be greater than 0.*\(given as an argument\)"):
        load_study(path, {"phi": [0]})
    with pytest.raises(StudyFileError, match=r"`phi` must not be empty, but got \[\]"):
        load_study(path, {"phi": []})
    with pytest.raises(StudyFileError, match=r"`phi` must have at most 10 entries, but got \[1, 1, 1"):
        load_study(path, {"phi": [1] * 11})
    with pytest.raises(StudyFileError, match=r"`training.warmup_epochs` must be below `epochs` \(1\)") as beside:
        load_study(path, {"training.epochs": 1, "training.warmup_epochs": 1.0, "seeds": 2})
    assert str(beside.value).endswith("(with `training.epochs`, `training.warmup_epochs` given as an argument)")
    wrong = _file(tmp_path, PUBLISHED.replace("epochs = 3", "epoch = 3"))
    with pytest.raises(StudyFileError) as elsewhere:
        load_study(wrong, {"training.batch_size": 9})
    assert "unknown key `training.epoch`" in str(elsewhere.value)
    assert "command line" not in str(elsewhere.value)


def test_a_shipped_study_is_found_by_its_name_and_an_unknown_name_gets_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"efficientnet_b0", "fashion_mnist", "mnist_sample"} <= set(shipped_studies())
    for name in shipped_studies():
        assert load_study(name).name == name
    assert load_study("mnist_sample") == load_study(default_study_path())
    with pytest.raises(StudyFileError) as unknown:
        load_study("mnist")
    assert str(unknown.value) == f"mnist: no such study file; shipped studies are {', '.join(shipped_studies())}"
    (tmp_path / "mnist").write_text(PUBLISHED, encoding="utf-8")
    assert load_study("mnist") == load_study(_file(tmp_path, PUBLISHED))


def test_a_relative_path_to_data_goes_by_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)

    def source(written: str, **overrides: Any) -> str:
        path = _file(there, PUBLISHED.replace('"mnist-sample"', f'"{written}"'))
        return load_study(path, overrides).data.source

    assert source("npz:data/a.npz") == f"npz:{there}/data/a.npz"
    (here / "images").mkdir()  # as studies had it before
    assert source("idx:images") == f"idx:{here}/images"
    (there / "images").mkdir()
    assert source("idx:images") == f"idx:{there}/images"
    for written in ("mnist-sample", "npz:~/a.npz", "npz:/data/a.npz"):
        assert source(written) == written
    assert source("mnist-sample", **{"data.source": "idx:images"}) == f"idx:{here}/images"
    monkeypatch.chdir(there)
    assert load_study("efficientnet_b0").data.source == f"npz:{there}/data/imagenet100.npz"
    source("idx:images")
    assert load_study("study.toml").data.source == f"idx:{there}/images"


def test_a_byte_order_mark_is_no_part_of_the_study(tmp_path: Path) -> None:
    path = _file(tmp_path, PUBLISHED)
    study = load_study(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_study(path) == study


def test_a_warm_up_shrinks_with_a_schedule_that_leaves_it_no_room(tmp_path: Path) -> None:
    path = _file(tmp_path, PUBLISHED)  # three epochs, and the default warm-up of one

    def warm_up(**training: object) -> float:
        changes = {f"training.{key}": value for key, value in training.items()}
        return load_study(path, changes).training.warmup_epochs

    assert warm_up() == warm_up(epochs=2) == 1
    assert warm_up(epochs=1) == pytest.approx(1 / 3)
    assert warm_up(epochs=1, warmup_epochs=0.5) == 0.5
    changes = {"rungs": [], "training.epochs": 1}
    assert load_study("fashion_mnist", changes).training.warmup_epochs == 0.5  # which fits
    alone = _file(tmp_path, PUBLISHED.replace("epochs = 3", "epochs = 1"))
    assert load_study(alone).training.warmup_epochs == 0.5


def test_a_study_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_study({**_minimal()}, "f").budget = 3  # type: ignore[misc]


def _minimal() -> dict[str, Any]:
    return {
        "name": "x",
        "baseline": {"name": "resnet-18"},
        "data": {"source": "idx:digits", "validation": 1},
        "training": {"epochs": 2, "batch_size": 1, "learning_rate": 0.1},
    }


def test_what_a_study_leaves_out_is_as_documented() -> None:
    config = parse_study(_minimal(), "f")
    assert (config.budget, config.tolerance, config.metric, config.seeds) == (2.0, 0.02, "val_loss", 2)
    assert (config.design.kind, config.design.degree) == ("lattice", 4)
    assert config.resolved_baseline().rounding.depth == "balanced"
    nominal = parse_study({**_minimal(), "design": {"kind": "grid", "nominal": True}}, "f")
    assert nominal.resolved_baseline().rounding == baseline("resnet-18").rounding


def test_nominal_needs_a_grid() -> None:
    with pytest.raises(StudyFileError, match="`design.nominal` needs `kind` grid, but got lattice"):
        load_study(default_study_path(), {"design.nominal": True})
