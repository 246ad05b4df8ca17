"""The library of kernels: built once, kept in the private folder, and optional where it cannot be built."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scalesearch.models.ops.cpu.library import Library, Unavailable, build_ahead, compiler_command
from scalesearch.runtime.cache import cache_folder
from scalesearch.runtime.cores import usable_cores
from scalesearch.runtime.digests import seal

SOURCE = 'extern "C" int answer() { return 42; }\n'


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """A library of one small source."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "one.cc").write_text(SOURCE)
    return Library(sources)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


class Compiler:
    """The machine's compiler behind a script that notes what it links."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "linked"
        compiler = compiler_command()[0]
        note = f'case "$*" in *-shared*) echo "$@" >> {self.log};; esac'
        self.path = script(folder / "compiler", f'{note}\nexec {compiler} "$@"')

    @property
    def targets(self) -> list[Path]:
        """The libraries linked so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [Path(line.split()[-1]) for line in lines]


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compiler:
    noting = Compiler(tmp_path)
    monkeypatch.setenv("CXX", str(noting.path))
    return noting


def test_it_is_built_once_and_again_when_a_source_changes(folder: Path, compiler: Compiler, library: Library) -> None:
    assert library.load().answer() == 42
    assert library.load().answer() == 42
    assert len(compiler.targets) == 1
    assert [path.suffix for path in folder.glob("kernels-*")] == [".so"]
    (library.sources / "one.cc").write_text(SOURCE.replace("42", "43"))
    assert library.load().answer() == 43
    assert len(compiler.targets) == 2


def test_processes_that_start_together_build_it_once(folder: Path, compiler: Compiler, library: Library) -> None:
    loaded: list[ctypes.CDLL] = []
    threads = [threading.Thread(target=lambda: loaded.append(library.load())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.answer() for each in loaded] == [42] * 4
    assert len(compiler.targets) == 1


def test_without_a_usable_folder_it_is_built_for_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: Compiler, library: Library
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "file"))
    assert library.load().answer() == 42
    assert [target.parent.exists() for target in compiler.targets] == [False]


def test_a_kept_library_that_cannot_be_loaded_is_built_for_the_process(
    folder: Path, compiler: Compiler, library: Library
) -> None:
    folder.mkdir(parents=True, mode=0o700)
    library.path.write_bytes(seal(b"of another system"))
    assert library.load().answer() == 42
    assert len(compiler.targets) == 1


@pytest.mark.parametrize("damage", ["cut short", "empty", "flipped"])
def test_a_kept_library_that_has_changed_is_built_anew_and_said_once(
    folder: Path, compiler: Compiler, library: Library, damage: str
) -> None:
    whole = library.keep().read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    library.path.write_bytes({"cut short": whole[:middle], "empty": b"", "flipped": flipped}[damage])
    with pytest.warns(UserWarning, match="had changed on the disk: removed, the kernels are compiled anew"):
        assert library.load().answer() == 42
    assert library.load().answer() == 42  # warnings are errors here
    assert len(compiler.targets) == 2


def test_the_first_compiler_on_the_path_unless_one_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("g++", "mine"):
        script(tmp_path / name, "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert compiler_command() == [str(tmp_path / "g++")]
    monkeypatch.setenv("CXX", "mine -m64")
    assert compiler_command() == [str(tmp_path / "mine"), "-m64"]
    monkeypatch.setenv("CXX", "missing")
    with pytest.raises(Unavailable, match=r"no C\+\+ compiler was found \(\$CXX: missing\)"):
        compiler_command()


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (
            b"#!/bin/sh\necho 'one.cc:1: fatal error: nothing works' >&2\nexit 1\n",
            "one.cc:1: fatal error: nothing works",
        ),
        (b"#!/bin/sh\nexit 3\n", "it ended with exit code 3"),
        (b"not a program", "Exec format error"),
    ],
    ids=["error", "exit code", "no program"],
)
def test_a_broken_compiler_is_named_with_its_first_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: Library, compiler: bytes, reason: str
) -> None:
    monkeypatch.setenv("CXX", str(script(tmp_path / "broken", "")))
    (tmp_path / "broken").write_bytes(compiler)
    with pytest.raises(Unavailable, match=f"^{tmp_path}/broken cannot build the kernels: .*{reason}"):
        library.load()
    assert not list(folder.glob("kernels-*.so"))


def test_a_compiler_that_a_signal_ends_is_not_tried_with_fewer_options(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: Library
) -> None:
    log = tmp_path / "calls"
    monkeypatch.setenv("CXX", str(script(tmp_path / "killed", f"echo once >> {log}\nkill -KILL $$")))
    with pytest.raises(Unavailable, match="was ended by signal 9"):
        library.load()
    assert log.read_text() == "once\n"
    assert not list(folder.glob("kernels-*.so"))


def test_without_a_compiler_there_is_a_reason_and_no_error_nor_jax(tmp_path: Path) -> None:
    """The process that starts the workers builds ahead without jax."""
    program = (
        "import sys\n"
        "from scalesearch.models.ops.cpu import library\n"
        "print(library.problem())\n"
        "library.build_ahead('auto', print)\n"
        "sys.exit(any(name in sys.modules for name in ('jax', 'jaxlib')))"
    )
    environment = {**os.environ, "PATH": str(tmp_path), "SCALESEARCH_CACHE_DIR": str(tmp_path)}
    environment.pop("CXX", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("no C++ compiler was found (c++, g++, clang++)\n", 0), done.stderr


def test_built_ahead_it_is_announced_once_and_loaded_later(folder: Path, compiler: Compiler, library: Library) -> None:
    messages: list[str] = []
    build_ahead("auto", messages.append, library)
    deadline = time.monotonic() + 30
    while not library.path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert library.load().answer() == 42
    build_ahead("auto", messages.append, library)
    assert messages == ["compiling the kernels for this processor: some ten seconds, once\n"]
    assert len(compiler.targets) == 1
    assert len(list(folder.glob("kernels-*.so"))) == 1


def test_nothing_is_built_ahead_for_an_accelerator(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: Library
) -> None:
    """A plugin of jax, by its entry point, announces one."""
    plugin = tmp_path / "installed" / "plugin-1.0.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Name: plugin\nVersion: 1.0\n")
    (plugin / "entry_points.txt").write_text("[jax_plugins]\nplugin = plugin\n")
    monkeypatch.syspath_prepend(plugin.parent)
    messages: list[str] = []
    build_ahead("auto", messages.append, library)
    assert (messages, folder.exists()) == ([], False)


def test_nothing_is_built_ahead_in_a_folder_that_others_may_write_to(
    folder: Path, compiler: Compiler, library: Library
) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    messages: list[str] = []
    build_ahead("auto", messages.append, library)
    assert (messages, compiler.targets) == ([], [])
    assert library.load().answer() == 42


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
    digests = []
    for some in (cores[:1], cores[:2]):
        command = [sys.executable, "-c", RESULTS, ",".join(map(str, some))]
        digests.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    assert len(digests[0]) == hashlib.sha256().digest_size * 2
    assert digests[0] == digests[1]
