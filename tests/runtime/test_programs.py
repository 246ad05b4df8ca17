"""Programs that are kept on disk: found again, by the right circumstances alone, and never in the way."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalesearch.runtime import cache
from scalesearch.runtime import programs as executables

X = np.arange(5, dtype=np.float32)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path))
    folder = cache.folder_in_use()
    assert folder is not None
    return folder


class Function:
    """Sine and cosine, and how often they were traced."""

    def __init__(self) -> None:
        self.traced = 0

    def obtain(self, determinants: tuple[Any, ...] = (1,), x: np.ndarray = X) -> Any:
        def function(x: jax.Array) -> dict[str, jax.Array]:
            self.traced += 1
            return {"sin": jnp.sin(x), "cos": jnp.cos(x)}

        return executables.obtain(determinants, jax.jit(function), (x,), {"sin": 0, "cos": 0}).result()


def test_a_kept_program_is_neither_traced_nor_compiled_and_computes_the_same() -> None:
    function = Function()
    first, again = function.obtain()(X), function.obtain()(X)
    assert function.traced == 1
    for name, expected in (("sin", np.sin(X)), ("cos", np.cos(X))):
        np.testing.assert_array_equal(first[name], again[name])
        np.testing.assert_allclose(again[name], expected, rtol=1e-6)  # float32


def test_determinants_and_shapes_tell_programs_apart(folder: Path) -> None:
    function = Function()
    function.obtain()
    function.obtain(determinants=(2,))
    function.obtain(x=X[:4])
    function.obtain(x=X.astype(np.int32))
    assert function.traced == 4
    assert len(list(folder.glob("*.program"))) == 4


@pytest.mark.parametrize("change", ["source", "version", "jaxlib", "setting", "flags", "processor", "cores"])
def test_other_circumstances_compile_again_and_say_so(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function = Function()
    function.obtain()
    match change:
        case "source":
            monkeypatch.setattr(executables, "_source", lambda: "edited")
        case "version":
            monkeypatch.setattr(executables, "version", lambda package: "99")
        case "jaxlib":  # whose programs are in a folder of their own
            monkeypatch.setattr(cache, "version", lambda package: "99")
            assert not cache.cache_folder().exists()
        case "cores":
            monkeypatch.setattr(executables, "usable_cores", lambda: list(range(99)))
        case "flags":
            monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
        case "processor":
            monkeypatch.setattr(executables, "processor", lambda: "without AVX")
    told = pytest.warns(UserWarning, match="they are compiled anew")
    with jax.default_matmul_precision("highest" if change == "setting" else None), told:
        function.obtain()
    assert function.traced == 2


def test_a_damaged_file_is_compiled_again_and_mended(folder: Path) -> None:
    function = Function()
    function.obtain()
    (path,) = folder.glob("*.program")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match="cannot be read and is compiled again"):
        function.obtain()
    function.obtain()
    assert function.traced == 2


def test_nothing_is_kept_while_jax_keeps_it(folder: Path) -> None:
    """What comes out of JAX's own cache cannot be serialised again."""
    function = Function()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    try:
        with pytest.warns(UserWarning, match="jax's own compilation cache is on"):
            function.obtain()
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
    assert not list(folder.glob("*.program"))


def test_a_folder_that_cannot_be_used_warns_and_the_program_works(folder: Path) -> None:
    folder.rmdir()
    folder.write_text("in the way")
    with pytest.warns(UserWarning, match="are not kept"):
        program = Function().obtain()
    np.testing.assert_allclose(program(X)["sin"], np.sin(X), rtol=1e-6)


def test_those_longest_unused_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function = Function()
    for number in (1, 2):
        function.obtain(determinants=(number,))
    first = min(folder.glob("*.program"), key=lambda path: path.stat().st_mtime_ns)
    for path in folder.glob("*.program"):
        os.utime(path, (0, 0))
    function.obtain(determinants=(1,))  # used again
    monkeypatch.setattr(executables, "MOST_BYTES", int(2.5 * first.stat().st_size))
    function.obtain(determinants=(3,))
    assert first.exists()
    assert len(list(folder.glob("*.program"))) == 2


def test_what_jax_kept_before_is_not_kept_again(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """jax goes on using a cache of its own that was turned off; what it loads cannot be serialised (`NOT_FOUND`)."""
    function = Function()
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("jax")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        with pytest.warns(UserWarning, match="each process traces all networks anew"):
            function.obtain()  # compiled, and in jax's cache
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    assert not list(folder.glob("*.program"))
    function.obtain()
    assert len(list(folder.glob("*.program"))) == 1
    np.testing.assert_allclose(function.obtain()(X)["sin"], np.sin(X), rtol=1e-6)  # from what was kept
    assert function.traced == 2


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_this_xla_knows_the_options_of_every_backend(backend: str) -> None:
    options = executables.options_of(backend, brief=True)
    if jax.__version_info__ >= (0, 11):  # has no other emitters any more
        options.pop("xla_cpu_use_fusion_emitters", None)
    compiled = jax.jit(jnp.sin).lower(X).compile(compiler_options=options)
    np.testing.assert_array_equal(compiled(X), jnp.sin(X))
    with pytest.raises(Exception, match="No such compile option"):
        jax.jit(jnp.sin).lower(X).compile(compiler_options={"xla_gpu_no_such": False})


@pytest.mark.parametrize("indispensable", [True, False])
def test_an_option_that_xla_does_not_know_is_left_out_alone(
    indispensable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = frozenset({"xla_gpu_no_such"} if indispensable else {})
    monkeypatch.setattr(executables, "INDISPENSABLE", names)
    asked: list[dict[str, bool]] = []

    class Lowered:
        def compile(self, compiler_options: dict[str, bool]) -> Any:
            asked.append(dict(compiler_options))
            return jax.jit(jnp.sin).lower(X).compile(compiler_options=compiler_options)

    options = {"xla_gpu_no_such": False, "xla_gpu_enable_triton_gemm": False}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        compiled = executables._compile(Lowered(), options)
    np.testing.assert_array_equal(compiled(X), jnp.sin(X))
    assert asked == [options, {"xla_gpu_enable_triton_gemm": False}]
    messages = [str(warning.message) for warning in told]
    expected = "this XLA does not know `xla_gpu_no_such`: programs are compiled without it"
    assert messages == ([expected] if indispensable else [])
