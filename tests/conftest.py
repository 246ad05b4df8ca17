"""What all tests share: nothing depends on chance, hypothesis never fails for being slow, and XLA compiles quickly."""

from __future__ import annotations

import importlib.metadata
import os

from hypothesis import settings

from tests.fixtures import (
    compilation_cache,
    hasty_sqlite,
    hugging_face,
    postgresql,
    postgresql_server,
    postgresql_url,
    storage_url,
)

__all__ = [
    "compilation_cache",
    "hasty_sqlite",
    "hugging_face",
    "postgresql",
    "postgresql_server",
    "postgresql_url",
    "storage_url",
]

# Compiling takes half to a quarter of the time. Tests look at what a program computes, not at how fast. Those that
# start the command in a process of its own (`tests.cli.tiny.scalesearch`) compile as users do.
HASTE = ["--xla_backend_optimization_level=0"]
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):  # later there is no other
    HASTE.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *HASTE]).strip()

# A machine that other work keeps busy is slow now and then: time is no property of the code.
# Derandomised, so that two runs of one commit agree.
settings.register_profile("scalesearch", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("scalesearch")
