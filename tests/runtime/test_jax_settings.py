"""Settings of JAX that forbid training are named, with what is allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from scalesearch.errors import InputError
from scalesearch.runtime.jax_settings import check_jax

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("jax_disable_jit", True, "JAX_DISABLE_JIT must be false or unset, since .*, but got true"),
        ("jax_numpy_dtype_promotion", "strict", "JAX_NUMPY_DTYPE_PROMOTION must be standard .*, but got strict"),
        ("jax_numpy_rank_promotion", "raise", "JAX_NUMPY_RANK_PROMOTION must be allow .*, but got raise"),
    ],
)
def test_an_option_that_forbids_training(option: str, value: Any, message: str) -> None:
    check_jax()
    before = jax.config.values[option]
    jax.config.update(option, value)
    try:
        with pytest.raises(InputError, match=message):
            check_jax()
    finally:
        jax.config.update(option, before)
    check_jax()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "JAX_PLATFORMS",
            "cuda",
            "JAX_PLATFORMS must name a platform .* but got 'cuda': the device is missing",
        ),
        ("JAX_PLATFORMS", "abacus", "but got 'abacus': Unable to initialize backend 'abacus'"),
        ("JAX_DISABLE_JIT", "perhaps", "invalid truth value 'perhaps' for environment 'JAX_DISABLE_JIT'"),
    ],
)
def test_a_variable_that_jax_itself_trips_over(variable: str, value: str, message: str) -> None:
    """In a process of its own: jax reads them once."""
    if value == "cuda" and jax.default_backend() == "gpu":
        pytest.skip("CUDA works here")
    code = (
        "import re, sys\nfrom scalesearch.errors import InputError\n"
        "from scalesearch.runtime.jax_settings import check_jax\n"
        "try: check_jax()\nexcept InputError as error: sys.exit(not re.search(sys.argv[1], str(error)))\n"
        "sys.exit(2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, message],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), variable: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
