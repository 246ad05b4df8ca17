"""The kernels' library: built once, kept in the private folder, and done without where it cannot be had."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from scalesearch.models.ops.cpu import library
from scalesearch.runtime.cores import usable_cores


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "cache"))
    return library.cache_folder()


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where libraries were built."""
    built: list[Path] = []
    compile_it = library._build

    def build(target: Path) -> None:
        built.append(target)
        compile_it(target)

    monkeypatch.setattr(library, "_build", build)
    return built


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "one.cc").write_text('extern "C" int answer() { return 42; }\n')
    monkeypatch.setattr(library, "_HERE", sources)
    return sources / "one.cc"


def test_it_is_built_once_and_again_when_a_source_changes(folder: Path, builds: list[Path], source: Path) -> None:
    assert library._load().answer() == 42
    assert library._load().answer() == 42
    assert len(builds) == 1
    assert [path.suffix for path in folder.glob("kernels-*")] == [".so"]
    source.write_text('extern "C" int answer() { return 43; }\n')
    assert library._load().answer() == 43
    assert len(builds) == 2


def test_those_that_start_together_build_once(folder: Path, builds: list[Path], source: Path) -> None:
    found: list[ctypes.CDLL] = []
    threads = [threading.Thread(target=lambda: found.append(library._load())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.answer() for each in found] == [42] * 4
    assert len(builds) == 1


def test_where_the_folder_cannot_be_used_it_is_built_for_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, builds: list[Path], source: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "file"))
    assert library._load().answer() == 42
    assert not builds[0].parent.exists()


def test_the_next_compiler_is_taken_unless_one_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("g++", "mine"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert library._compiler() == [str(tmp_path / "g++")]
    monkeypatch.setenv("CXX", "mine -m64")
    assert library._compiler() == [str(tmp_path / "mine"), "-m64"]
    monkeypatch.setenv("CXX", "missing")
    with pytest.raises(library.Unavailable, match=r"no C\+\+ compiler was found \(\$CXX: missing\)"):
        library._compiler()


def test_no_compiler_or_a_broken_one_is_a_reason_and_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(library, "_problem", library._problem.__wrapped__)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert library.problem() == "no C++ compiler was found (c++, g++, clang++)"
    (tmp_path / "c++").write_text("#!/bin/sh\necho 'one.cc:1: fatal error: nothing works' >&2\nexit 1\n")
    (tmp_path / "c++").chmod(0o755)
    problem: Any = library.problem()
    assert problem == f"{tmp_path}/c++ cannot build the kernels: one.cc:1: fatal error: nothing works"
    (tmp_path / "c++").write_text("#!/bin/sh\nexit 3\n")
    assert library.problem() == f"{tmp_path}/c++ cannot build the kernels: it ended with exit code 3"
    (tmp_path / "c++").write_bytes(b"not a program")
    assert "cannot build the kernels" in str(library.problem())
    assert not list(folder.glob("kernels-*.so"))


def test_a_library_that_cannot_be_loaded_is_built_for_the_process(
    folder: Path, builds: list[Path], source: Path
) -> None:
    del source
    library.make_private(folder)
    (folder / f"kernels-{library._digest()}.so").write_bytes(b"cut short")
    assert library._load().answer() == 42
    assert len(builds) == 1


def test_built_ahead_it_is_told_once_and_found_later(folder: Path, builds: list[Path], source: Path) -> None:
    del source
    told: list[str] = []
    library.build_ahead(told.append)
    deadline = time.monotonic() + 10
    while not builds and time.monotonic() < deadline:  # once it has begun `_load` waits for its end
        time.sleep(0.001)
    assert library._load().answer() == 42
    library.build_ahead(told.append)
    assert told == ["compiling the kernels for this processor: some ten seconds, once\n"]
    assert len(builds) == 1
    assert len(list(folder.glob("kernels-*.so"))) == 1


def test_nothing_is_built_ahead_for_an_accelerator_or_without_a_compiler(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(library, "entry_points", lambda group: [group])
        library.build_ahead(told.append)
        assert told == []
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    library.build_ahead(told.append)  # says nothing: `problem` does
    assert not list(folder.glob("kernels-*.so"))


def test_a_folder_that_may_not_be_used_is_not_told_of_nor_built_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, builds: list[Path], source: Path
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, f"{folder} belongs to another user")

    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "make_private", refuse)
    told: list[str] = []
    library.build_ahead(told.append)
    assert (told, builds) == ([], [])
    assert library._load().answer() == 42


def test_a_compiler_that_a_signal_ends_is_not_asked_again_for_less(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Path
) -> None:
    compiler = tmp_path / "killed"
    compiler.write_text(f"#!/bin/sh\necho once >> {tmp_path}/asked\nkill -KILL $$\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(library.Unavailable, match="was ended by signal 9"):
        library._load()
    assert (tmp_path / "asked").read_text() == "once\n"
    assert not list(folder.glob("kernels-*.so"))


RESULTS = """
import hashlib, sys
from scalesearch.runtime.cores import use_cores
use_cores([int(core) for core in sys.argv[1].split(",")])
import jax, numpy as np
from scalesearch.models.ops.cpu import library
from scalesearch.models.ops.select import named
assert library.problem() is None
rng = np.random.default_rng(0)
x, g = (rng.normal(size=(70, 12, 12, 20)).astype(np.float32) for _ in range(2))
kernel, one = rng.normal(size=(5, 5, 1, 20)).astype(np.float32), np.ones(20, np.float32)
digest = hashlib.sha256()
for apply, arguments in (
    (lambda x, kernel: named("kernels").depthwise(x, kernel, 1), (x, kernel)),
    (lambda x, scale: named("kernels").normalise(x, scale, one, "swish")[0], (x, one)),
):
    y, pull = jax.vjp(apply, *arguments)
    for each in (y, *pull(g)):
        digest.update(np.asarray(each).tobytes())
print(digest.hexdigest())
"""


@pytest.mark.skipif(len(usable_cores()) < 2, reason="one core")
def test_results_do_not_depend_on_the_number_of_cores() -> None:
    cores = usable_cores()
    found = []
    for some in (cores[:1], cores[:2]):
        command = [sys.executable, "-c", RESULTS, ",".join(map(str, some))]
        found.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    assert len(found[0]) == hashlib.sha256().digest_size * 2
    assert found[0] == found[1]
