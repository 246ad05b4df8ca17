"""Bad input to the commands of a search: one line each, exit code 2 (4: storage), and nothing lost."""

from __future__ import annotations

import dataclasses
import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from scalesearch.cli.main import main
from scalesearch.errors import InputError
from scalesearch.report.terminal import show_result, show_status
from scalesearch.search.engine import search
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.study.load import load_study
from tests.cli.tiny import TINY, complaint
from tests.planted import planted_run


class TestBadInput:
    @pytest.mark.parametrize("place", ["/proc/scalesearch", "a file", "a file/run"])
    def test_a_folder_that_cannot_be_written(self, capsys: pytest.CaptureFixture[str], tiny: Path, place: str) -> None:
        (tiny.parent / "a file").write_text("not a folder", encoding="utf-8")
        folder = tiny.parent / place
        told = complaint(capsys, "run", "--study", tiny, "--out", folder)
        assert f"{folder}: cannot be written" in told

    def test_data_that_are_not_there_empty_or_cut_short(self, capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
        def told(source: str) -> str:
            tiny.write_text(TINY.replace('"mnist-sample"', f'"{source}"'), encoding="utf-8")
            line = run_complaint(capsys, tiny)
            assert source in line
            return line

        folder = tiny.parent / "data"
        folder.mkdir()
        assert "there is no folder" in told(f"idx:{folder}/nowhere")
        assert "but holds nothing" in told(f"idx:{folder}")
        assert "there is no file" in told(f"npz:{folder}/nowhere.npz")
        images, labels = (folder / f"train-{what}-ubyte" for what in ("images-idx3", "labels-idx1"))
        images.write_bytes(b"")
        labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 1, 2]))
        assert "starts with nothing" in told(f"idx:{folder}")
        images.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4]) + bytes(20))
        assert "promises 32 bytes" in told(f"idx:{folder}")
        images.unlink()
        packed = gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4]) + bytes(32))
        images.with_name(images.name + ".gz").write_bytes(packed[:-9])
        assert images.name in told(f"idx:{folder}")
        archive = folder / "images.npz"
        archive.write_bytes(b"")
        assert "must be an npz archive" in told(f"npz:{archive}")
        np.savez(archive, train_images=np.zeros((4, 6, 6), np.uint8), train_labels=np.zeros(4, np.int64))
        archive.write_bytes(archive.read_bytes()[:-40])
        assert "must be an npz archive" in told(f"npz:{archive}")

    def test_data_that_do_not_fit_are_told_before_anything_is_stored(
        self, capsys: pytest.CaptureFixture[str], tiny: Path
    ) -> None:
        for before, after, told in (
            ("in_channels = 1", "in_channels = 3", "set in_channels = 1 in the study's [baseline]"),
            ("num_classes = 10", "num_classes = 9", "set num_classes = 10 in the study's [baseline]"),
            (
                "batch_size = 50",
                "batch_size = 201",
                "`training.batch_size` must be at most the number of training images",
            ),
            ("train = 200", "train = 5000", "`train` asks for 5,000 images, but 4,800 are left"),
        ):
            tiny.write_text(TINY.replace(before, after), encoding="utf-8")
            assert told in run_complaint(capsys, tiny)
        assert not (tiny.parent / "run").exists()

    def test_an_unknown_key_or_wrong_type_names_the_file(self, capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
        tiny.write_text(TINY.replace("seeds = 2", "seed = 2"), encoding="utf-8")
        assert f"{tiny}: unknown key `seed` (did you mean `seeds`?)" in run_complaint(capsys, tiny)
        tiny.write_text(TINY.replace("epochs = 2", "epochs = 2.5"), encoding="utf-8")
        assert f"{tiny}: `training.epochs` must be a whole number, but got 2.5" in run_complaint(capsys, tiny)

    def test_a_study_name_that_would_leave_the_folder(self, capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
        told = complaint(capsys, "run", "--study", tiny, "--study-name", "../../away")
        assert "--study-name: `name` must match" in told

    @pytest.mark.parametrize("command", ["status", "report"])
    def test_a_folder_without_a_run(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
        assert f"{tmp_path}: no run there" in complaint(capsys, command, tmp_path)
        assert "no run there" in complaint(capsys, command, tmp_path / "nowhere")
        (tmp_path / "study.toml").write_text(TINY, encoding="utf-8")
        assert "no study.db there yet" in complaint(capsys, command, tmp_path)
        assert not (tmp_path / "study.db").exists()

    def test_a_storage_that_cannot_be_used(self, capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
        out = tiny.parent / "run"

        def told(url: str) -> str:
            arguments = ["run", "--study", str(tiny), "--out", str(out), "--storage", url]
            assert main([*arguments, "--json", "--quiet"]) == 4
            line = capsys.readouterr().err
            assert (line.count("\n"), "s3cret" in line) == (1, False), line
            return line

        assert "cannot be used" in told("me:s3cret@host")
        assert "cannot be opened" in told("postgresql+psycopg://me:s3cret@127.0.0.1:1/db")
        assert not out.exists()
        out.mkdir()
        told_worker = complaint(
            capsys, "worker", "--storage", "sqlite:////no/such/study.db", "--study-name", "x", code=4
        )
        assert "there is no storage sqlite:" in told_worker
        (out / "study.db").write_text("no database\n" * 200, encoding="utf-8")
        (out / "study.toml").write_text(TINY, encoding="utf-8")
        assert "file is not a database" in complaint(capsys, "status", out, code=4)
        assert main(["run", "--study", str(tiny), "--out", str(out), "--json"]) == 4
        assert "file is not a database" in capsys.readouterr().err

    def test_a_study_that_is_not_in_the_storage(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        open_storage(sqlite_url(tmp_path))
        (tmp_path / "study.toml").write_text(TINY, encoding="utf-8")
        told = complaint(capsys, "worker", "--storage", sqlite_url(tmp_path), "--study-name", "x", code=4)
        assert "no study called 'x'" in told
        assert "no study called 'tiny'" in complaint(capsys, "status", tmp_path, code=4)

    @pytest.mark.parametrize("flags", [(), ("--storage",)], ids=["own", "shared"])
    def test_a_folder_that_holds_another_study(
        self, capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, flags: tuple[str, ...]
    ) -> None:
        out = tmp_path / "run"
        out.mkdir()
        open_storage(sqlite_url(out))
        (out / "study.toml").write_text(TINY.replace('"tiny"', '"other"'), encoding="utf-8")
        shared = [value for flag in flags for value in (flag, sqlite_url(tmp_path))]
        told = complaint(capsys, "run", "--study", tiny, "--out", out, *shared, code=3)
        assert "holds the study 'other'; choose another one for 'tiny'" in told
        assert 'name = "other"' in (out / "study.toml").read_text(encoding="utf-8")

    def test_a_flag_by_half_its_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        told = complaint(capsys, "worker", "--storage", "sqlite:///x.db", "--study", "x")
        assert "--study-name" in told

    @pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
    def test_workers_and_cores(self, capsys: pytest.CaptureFixture[str], value: str) -> None:
        for arguments in (
            ["run", "--workers", value],
            ["worker", "--storage", "sqlite://", "--study-name", "x", "--cores", value + "-"],
        ):
            with pytest.raises(SystemExit) as leaving:
                main(arguments)
            assert leaving.value.code == 2
            assert re.fullmatch(r"scalesearch \w+: error: argument --\w+: .*\n", capsys.readouterr().err)

    def test_more_workers_than_memory_holds(self, tiny: Path) -> None:
        study = load_study(tiny, {"runtime.workers": 10**6})
        with pytest.raises(InputError, match=r"^`runtime.workers` must be fewer than 1,000,000: each"):
            search(study, tiny.parent / "run", events=_nothing_begins)
        assert not (tiny.parent / "run").exists()


def _nothing_begins(event: object) -> None:
    raise AssertionError(event)  # else a million processes would start


def run_complaint(capsys: pytest.CaptureFixture[str], study: Path) -> str:
    """The one line of a `run` that fails on what it was given; `--json` keeps the plan off stdout."""
    return complaint(capsys, "run", "--study", study, "--out", study.parent / "run", "--json")


def test_a_study_file_of_the_users_own_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "study.toml"
    own.write_text(f"# mine\n{TINY}", encoding="utf-8")
    told = complaint(capsys, "run", "--study", own, "--out", tmp_path)
    assert "its study.toml was not written by a run and would be overwritten; choose another folder" in told
    assert own.read_text(encoding="utf-8") == f"# mine\n{TINY}"


def test_a_misspelt_key_is_named_rather_than_the_one_it_stands_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "typo.toml"
    study.write_text(TINY.replace("epochs = 2", "epoch = 2"), encoding="utf-8")
    told = complaint(capsys, "run", "--study", study, "--out", tmp_path / "run")
    assert "unknown key `training.epoch` (did you mean `epochs`?)" in told


def test_a_report_into_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted_run(tmp_path)
    (tmp_path / "report.html").mkdir()  # nothing can be renamed to it
    assert "cannot be written (Is a directory)" in complaint(capsys, "report", tmp_path)


def test_levels_are_told_apart_in_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = planted_run(tmp_path)
    two = (*run.records, *(dataclasses.replace(record, phi=2.0) for record in run.records[:3]))
    show_status(dataclasses.replace(run, records=two))
    assert "φ" not in capsys.readouterr().out  # five leaders, all of one level
    show_result(dataclasses.replace(run, records=two), run.files())
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert ["12", "1"] in rows
    assert ["3", "2"] in rows
    assert ["4", "2"] not in rows


def test_an_empty_folder_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "argument --out: must be a folder, but got nothing" in complaint(capsys, "run", "--out", "")
