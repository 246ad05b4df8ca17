"""The C++ kernels as a shared library: compiled once on each machine, kept, and registered with XLA.

XLA:CPU compiles every fusion of every network from scratch, which took longer than a short training. A kernel is
compiled once for all shapes and for exactly this processor, and is faster than XLA's loops: `docs/decisions/0010`.
This module imports jax only once the library is there, so that a process without jax can build it.
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
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from scalesearch.runtime import interrupts
from scalesearch.runtime.cache import cache_folder, check_room, make_private
from scalesearch.runtime.cores import processor, usable_cores
from scalesearch.runtime.digests import seal, unseal
from scalesearch.runtime.files import write_whole

COMPILERS = ("c++", "g++", "clang++")
"""Tried in this order unless `$CXX` names one."""

FLAGS = (
    # Not C++20, whose headers take twice as long to compile. The kernels use its template lambdas, which GCC and Clang
    # both accept in C++17.
    *("-fno-fast-math", "-std=c++17", "-O3", "-fPIC", "-pthread"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"),  # NaN and order are kept
)

KERNELS = (
    *("depthwise", "depthwise_gradient", "patches", "patches_gradient"),
    *("normalise", "normalise_gradient", "normalise_evaluate"),
    *("excite", "excite_gradient", "pool", "pool_gradient"),
    *("repack", "sum", "cross_entropy"),
)
"""The functions of the library, without their prefix `scalesearch_`."""


class Unavailable(RuntimeError):
    """The kernels cannot be built or loaded here. The message says why."""


class Library:
    """The shared library of the C++ files in the folder `sources`."""

    def __init__(self, sources: Path = Path(__file__).parent) -> None:
        self.sources = sources

    @property
    def path(self) -> Path:
        """Where it is kept. Raises `Unavailable` without a compiler.

        The name holds a digest of sources, flags, compiler and processor: a home directory may be shared by machines
        of different kinds.
        """
        contents = [path.read_bytes() for path in sorted(self.sources.iterdir()) if path.suffix in (".cc", ".h")]
        parts = (contents, FLAGS, compiler_command(), processor(), "sealed")
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
        return cache_folder() / f"kernels-{digest}.so"

    def load(self) -> ctypes.CDLL:
        """The library, built first if necessary. Raises `Unavailable` or `OSError` if that fails."""
        try:
            path = self.keep()
            if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
                raise PermissionError(f"{path} belongs to another user")
            return ctypes.CDLL(str(path))
        except OSError:  # a folder that is read-only or has no file locks, or a library built on another system
            with tempfile.TemporaryDirectory() as temporary:
                path = Path(temporary) / "kernels.so"
                self.build(path)
                return ctypes.CDLL(str(path))

    def keep(self) -> Path:
        """Its path, once it is built there, with its digest behind it. Processes that start together build it once."""
        path = self.path
        make_private(path.parent)
        with FileLock(path.parent / "kernels.lock"):
            if not self.is_kept():
                check_room(path.parent)  # before it is built in vain
                with tempfile.TemporaryDirectory() as temporary:  # a disk that is full is not the linker's fault
                    built = Path(temporary) / path.name
                    self.build(built)
                    write_whole(path, lambda target: target.write_bytes(seal(built.read_bytes())))
        return path

    def is_kept(self) -> bool:
        """Whether it is built and unchanged since. One that has changed is removed, with a warning.

        Executing it could end the process without a word, for example after a power cut.
        """
        path = self.path
        try:
            if unseal(path.read_bytes()) is not None:
                return True
            path.unlink()
        except FileNotFoundError:
            return False
        warnings.warn(f"{path} had changed on the disk: removed, the kernels are compiled anew", stacklevel=2)
        return False

    def build(self, target: Path) -> None:
        """Compiles all sources and links them to `target`. Raises `Unavailable` if the compiler fails."""
        compiler, reason = compiler_command(), ""
        for native in (("-march=native",), ()):  # not every compiler knows the processor that it runs on
            interrupts.check()  # an interrupt may have ended the compiler: then its options are not to blame
            try:
                return self._compile([*compiler, *FLAGS, *native, f"-I{_include_folder()}"], target)
            except subprocess.CalledProcessError as error:
                if error.returncode < 0:
                    raise Unavailable(f"{' '.join(compiler)} was ended by signal {-error.returncode}") from None
                lines = error.stderr.splitlines() or [f"it ended with exit code {error.returncode}"]
                reason = reason or next((line for line in lines if "error" in line), lines[0])
            except OSError as error:
                reason = reason or str(error)
        raise Unavailable(f"{' '.join(compiler)} cannot build the kernels: {reason}")

    def _compile(self, command: list[str], target: Path) -> None:
        """Compiles the sources in parallel, the largest first, then links them to `target`."""
        sources = sorted(self.sources.glob("*.cc"), key=lambda source: -source.stat().st_size)
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(usable_cores())) as threads:
            objects = [str(Path(folder) / f"{source.stem}.o") for source in sources]
            jobs = ([*command, "-c", str(source), "-o", one] for source, one in zip(sources, objects, strict=True))
            list(threads.map(_run, jobs))
            _run([*command, "-shared", *objects, "-o", str(target)])


_registration = threading.Lock()


def problem() -> str | None:
    """Why the kernels cannot be used; None once they are registered with XLA in this process.

    Builds them if they are not kept.
    """
    with _registration:
        return _register()


@cache
def _register() -> str | None:
    try:
        library = Library().load()
    except (Unavailable, OSError) as error:
        return str(error)
    import jax  # takes a second, in which the compiler is already at work

    ffi: Any = jax.ffi  # has no types
    for name in KERNELS:
        symbol = f"scalesearch_{name}"
        ffi.register_ffi_target(symbol, ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    return None


def build_ahead(setting: str, notify: Callable[[str], object], library: Library | None = None) -> None:
    """Starts to build the kernels in a thread if they are not built yet, and says so through `notify`.

    For the process that starts the workers: it has all cores, and each worker only some of them. `problem` waits for
    the build in any process. Does nothing if the `setting` of `runtime.convolutions` excludes
    them, if jax may compute on an accelerator, or if they cannot be built: `problem` says why.
    """
    if setting not in ("auto", "kernels") or entry_points(group="jax_plugins") or find_spec("libtpu"):
        return
    library = library or Library()

    def build() -> None:
        with contextlib.suppress(Unavailable, OSError, KeyboardInterrupt):
            library.keep()

    with contextlib.suppress(Unavailable, OSError):
        path = library.path
        make_private(path.parent)
        if not library.is_kept():
            check_room(path.parent)
            notify("compiling the kernels for this processor: some ten seconds, once\n")
            threading.Thread(target=build, daemon=True).start()


def compiler_command() -> list[str]:
    """The compiler: `$CXX`, which may hold options, else the first of `COMPILERS` on the path.

    Raises `Unavailable` if there is none.
    """
    named = shlex.split(os.environ.get("CXX", ""))
    candidates = named[:1] or COMPILERS
    compiler = next(filter(None, map(shutil.which, candidates)), None)
    if compiler is None:
        raise Unavailable(f"no C++ compiler was found ({'$CXX: ' * bool(named)}{', '.join(candidates)})")
    return [compiler, *named[1:]]


def _include_folder() -> Path:
    """XLA's headers, which come with jaxlib; located without importing it."""
    spec = find_spec("jaxlib")
    if spec is None or spec.origin is None:
        raise Unavailable("jaxlib, which brings XLA's headers, is not installed")
    return Path(spec.origin).parent / "include"


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)
