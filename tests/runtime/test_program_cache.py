"""jax's cache holds programs for the next process of this kind of machine, unless they changed on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalesearch.runtime.cores import usable_cores

X = np.arange(5, dtype=np.float32)

# Compiles one function and prints its values and jax's counts of hits and misses.
COMPILE = """
import json, sys, warnings
from pathlib import Path
import jax, numpy as np
from scalesearch.runtime.program_cache import use_program_cache
from scalesearch.runtime.programs import compile_in_background
if sys.argv[2:]:
    jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.jit(lambda x: x - 1)(np.float32(2))  # jax has looked for its cache before
use_program_cache(Path(sys.argv[1]))
events = []
jax.monitoring.register_event_listener(lambda event, **details: events.append(event.rpartition("/")[2]))
x = np.arange(5, dtype=np.float32)
program = compile_in_background(jax.jit(lambda x: {"sin": jax.numpy.sin(x)}), (x,), quick=True).result()
counts = {name: events.count(name) for name in ("cache_hits", "cache_misses")}
print(json.dumps({"sin": program(x)["sin"].tolist(), **counts}))
"""


def compiled(folder: Path, *arguments: Path, cores: int = 1) -> dict[str, Any]:
    """What a process of its own prints that keeps its programs in `folder`."""
    pinned = f"from scalesearch.runtime.cores import usable_cores, use_cores; use_cores(usable_cores()[:{cores}])\n"
    command = [sys.executable, "-c", pinned + COMPILE, folder, *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    environment["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def test_the_next_process_compiles_nothing_and_computes_the_same(tmp_path: Path) -> None:
    first, second = compiled(tmp_path), compiled(tmp_path)
    assert (first.pop("cache_hits"), first.pop("cache_misses")) == (0, 1)
    assert (second.pop("cache_hits"), second.pop("cache_misses")) == (1, 0)
    assert first == second
    np.testing.assert_allclose(first["sin"], np.sin(X), rtol=1e-6)  # float32


@pytest.mark.skipif(len(usable_cores()) < 2, reason="needs two cores")
def test_other_cores_have_programs_of_their_own(tmp_path: Path) -> None:
    compiled(tmp_path)
    assert compiled(tmp_path, cores=2)["cache_hits"] == 0


def test_a_program_that_was_not_written_whole_is_compiled_again(tmp_path: Path) -> None:
    """jax writes the time of access last; without it jax would fail on the folder for good."""
    compiled(tmp_path)
    (program,) = tmp_path.rglob("*-cache")
    program.write_bytes(program.read_bytes()[:50])
    program.with_name(program.name.removesuffix("-cache") + "-atime").unlink()
    assert compiled(tmp_path)["cache_misses"] == 1
    assert compiled(tmp_path)["cache_hits"] == 1


def test_a_cache_that_the_user_has_turned_on_is_left_alone(tmp_path: Path) -> None:
    compiled(tmp_path / "ours", tmp_path / "theirs")
    assert not (tmp_path / "ours").exists()


# Starts the cache again and again, each time after a fault, and prints what jax did and what was warned of.
FAULTS = """
import json, resource, sys, warnings
from pathlib import Path
import jax, numpy as np
from scalesearch.runtime.program_cache import use_program_cache
folder, steps, x = Path(sys.argv[1]), [], np.arange(5, dtype=np.float32)
warnings.simplefilter("always")
def flip(byte):
    (program,) = folder.rglob("*-cache")
    content = bytearray(program.read_bytes())
    content[byte] ^= 1
    program.write_bytes(content)
def cut():
    (program,) = folder.rglob("*-cache")
    program.write_bytes(program.read_bytes()[:50])
def forget():  # as a process that was killed before it wrote the digest
    (list_of_digests,) = folder.rglob("digests")
    list_of_digests.unlink()
def fill():
    for path in folder.rglob("*-cache"):
        path.unlink()
    use_program_cache(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))
faults = (None, None, lambda: flip(-1), None, lambda: flip(9), cut, None, forget, fill)
for fault in faults:
    jax.clear_caches()
    jax.config.update("jax_compilation_cache_dir", None)
    jax.monitoring.clear_event_listeners()  # those of the step before
    events = []
    jax.monitoring.register_event_listener(lambda event, **details: events.append(event.rpartition("/")[2]))
    with warnings.catch_warnings(record=True) as notes:
        if fault:
            fault()
        use_program_cache(folder)
        functions = [lambda x, n=n: {"sin": jax.numpy.sin(x) * n} for n in ((1, 2) if fault is fill else (1,))]
        programs = [jax.jit(function).lower(x).compile() for function in functions]
    counts = [events.count(name) for name in ("cache_hits", "cache_misses")]
    steps.append([counts, programs[0](x)["sin"].tolist(), [str(note.message) for note in notes]])
print(json.dumps(steps))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files")
def test_what_has_changed_is_compiled_anew_and_a_full_disk_ends_the_cache(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    environment["JAX_PLATFORMS"] = "cpu"
    command = [sys.executable, "-c", FAULTS, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)
    for _, values, _ in steps:
        np.testing.assert_allclose(values, np.sin(X), rtol=1e-6)  # float32
    made, found = [0, 1], [1, 0]
    assert [counts for counts, _, _ in steps[:-1]] == [made, found, made, found, made, made, found, made]
    *before, full = [notes for _, _, notes in steps]
    assert [len(notes) for notes in before] == [0, 0, 1, 0, 1, 1, 0, 0]
    assert "1 kept program in" in before[2][0]
    assert len(full) == 1
    assert "compiled programs are not kept any more" in full[0]
