"""The compiled kernels: built once by the machine's own C++ compiler, kept, and made known to XLA.

XLA:CPU compiles every fusion of every network anew, which took longer than a short training. A kernel is compiled once
for all shapes, for just this processor, and is faster where XLA's loops are not: `docs/decisions/0010`.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jaxlib
from filelock import FileLock

from scalesearch.runtime import interrupts
from scalesearch.runtime.cache import cache_folder, make_private
from scalesearch.runtime.cores import processor, usable_cores
from scalesearch.runtime.files import write_whole

COMPILERS = ("c++", "g++", "clang++")
"""Tried in turn where `$CXX` names none."""

FLAGS = (
    # Not C++20, whose headers take twice as long. Of it the kernels have templates of lambdas, which both GCC and Clang
    # know in C++17.
    *("-fno-fast-math", "-std=c++17", "-O3", "-fPIC", "-pthread"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"),  # NaN and order are kept
)

KERNELS = (
    *("depthwise", "depthwise_gradient", "normalise", "normalise_gradient", "normalise_evaluate"),
    *(
        "excite",
        "excite_gradient",
        "pool",
        "pool_gradient",
        "patches",
        "patches_gradient",
        "repack",
        "sum",
        "cross_entropy",
    ),
)

_HERE = Path(__file__).parent
_INCLUDE = Path(jaxlib.__file__).parent / "include"


class Unavailable(RuntimeError):
    """The kernels cannot be built or loaded here; says why."""


_one_at_a_time = threading.Lock()


def problem() -> str | None:
    """None once the kernels are known to XLA in this process; else why they cannot be. Builds them where need be."""
    with _one_at_a_time:
        return _problem()


@cache
def _problem() -> str | None:
    try:
        library = _load()
    except (Unavailable, OSError) as error:
        return str(error)
    import jax  # a second, in which the compiler can be at work already

    ffi: Any = jax.ffi  # has no types
    for name in KERNELS:
        symbol = f"scalesearch_{name}"
        ffi.register_ffi_target(symbol, ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    return None


def build_ahead(tell: Callable[[str], object]) -> None:
    """Starts to build the kernels in a thread if none are kept yet, and says so through `tell`.

    For a process that has much to import meanwhile, and whose workers will each have a part of the cores: here the
    compiler has them all. `problem` waits for it, in any process. Leaves it where jax may compute on an accelerator,
    and where it cannot be done: `problem` says why.
    """
    if entry_points(group="jax_plugins") or find_spec("libtpu"):
        return
    with contextlib.suppress(Unavailable, OSError):
        path = _path()
        make_private(path.parent)
        if not path.exists():
            tell("compiling the kernels for this processor: some ten seconds, once\n")
            threading.Thread(target=_build_and_keep, daemon=True).start()


def _build_and_keep() -> None:
    with contextlib.suppress(Unavailable, OSError, KeyboardInterrupt):
        _kept()


def _kept() -> Path:
    path = _path()
    make_private(path.parent)
    with FileLock(path.parent / "kernels.lock"):  # workers that start together build once
        if not path.exists():
            write_whole(path, _build)
    return path


def _path() -> Path:
    return cache_folder() / f"kernels-{_digest()}.so"


def _load() -> ctypes.CDLL:
    try:
        path = _kept()
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            raise PermissionError(f"{path} belongs to another user")
        return ctypes.CDLL(str(path))
    except OSError:  # a folder that is read-only, that knows no locks, or whose library was built on another system
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "kernels.so"
            _build(path)
            return ctypes.CDLL(str(path))


def _build(target: Path) -> None:
    compiler, reason = _compiler(), ""
    for native in (("-march=native",), ()):  # not every compiler knows its own processor
        interrupts.check()  # which may have ended the compiler, and be no fault of its options
        try:
            return _compile([*compiler, *FLAGS, *native, f"-I{_INCLUDE}"], target)
        except subprocess.CalledProcessError as error:
            if error.returncode < 0:
                raise Unavailable(f"{' '.join(compiler)} was ended by signal {-error.returncode}") from None
            lines = error.stderr.splitlines() or [f"it ended with exit code {error.returncode}"]
            reason = reason or next((line for line in lines if "error" in line), lines[0])
        except OSError as error:
            reason = reason or str(error)
    raise Unavailable(f"{' '.join(compiler)} cannot build the kernels: {reason}")


def _compile(command: list[str], target: Path) -> None:
    """Compiles the sources side by side, the largest first, then links them to `target`."""
    sources = sorted(_HERE.glob("*.cc"), key=lambda source: -source.stat().st_size)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(usable_cores())) as threads:
        objects = [str(Path(folder) / f"{source.stem}.o") for source in sources]
        jobs = ([*command, "-c", str(source), "-o", one] for source, one in zip(sources, objects, strict=True))
        list(threads.map(_run, jobs))
        _run([*command, "-shared", *objects, "-o", str(target)])


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)


def _compiler() -> list[str]:
    """The command that compiles: `$CXX`, which may hold options, else the first of `COMPILERS` that is there."""
    named = shlex.split(os.environ.get("CXX", ""))
    candidates = named[:1] or COMPILERS
    compiler = next(filter(None, map(shutil.which, candidates)), None)
    if compiler is None:
        raise Unavailable(f"no C++ compiler was found ({'$CXX: ' * bool(named)}{', '.join(candidates)})")
    return [compiler, *named[1:]]


def _digest() -> str:
    """Of sources, flags, compiler and processor: home directories are shared by unlike machines."""
    sources = [path.read_bytes() for path in sorted(_HERE.iterdir()) if path.suffix in (".cc", ".h")]
    parts = (sources, FLAGS, _compiler(), processor())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
