"""Which accelerator each of several worker processes gets, decided before any of them imports jax."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import entry_points

_SECONDS = 30.0  # nvidia-smi takes some where no daemon keeps the driver loaded
_LEFT = 0.9  # what processes that share a GPU take of its memory; jax's default for one process is 0.75


def visible_gpus(environment: Mapping[str, str] | None = None) -> list[str]:
    """The NVIDIA GPUs that a process may use, as `CUDA_VISIBLE_DEVICES` names them; none if jax would not use them."""
    environment = os.environ if environment is None else environment
    platforms = environment.get("JAX_PLATFORMS", "")
    is_wanted = not platforms or {"cuda", "gpu"} & set(platforms.split(","))
    if not is_wanted or not any("cuda" in each.name for each in entry_points(group="jax_plugins")):
        return []
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.split()


def environments(
    workers: int, gpus: list[str] | None = None, environment: Mapping[str, str] | None = None
) -> list[dict[str, str]]:
    """What to add to the environment of each of several worker processes: one GPU for each, in turn.

    Workers that share a GPU also share its memory, unless the user has set `XLA_PYTHON_CLIENT_MEM_FRACTION`. A single
    worker keeps all devices.

    Args:
        workers: how many processes.
        gpus: what `visible_gpus` gives; None asks it.
        environment: this process's, if not `os.environ`.

    Example:
        >>> environments(3, ["0", "1"], {})[2]
        {'CUDA_VISIBLE_DEVICES': '0', 'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.450'}
    """
    if workers == 1:
        return [{}]
    environment = os.environ if environment is None else environment
    gpus = visible_gpus(environment) if gpus is None else gpus
    chosen = [gpus[place % len(gpus)] if gpus else "" for place in range(workers)]
    sharers = Counter(chosen)
    added = []
    for gpu in chosen:
        own = {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}
        if sharers[gpu] > 1 and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in environment:
            own["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{_LEFT / sharers[gpu]:.3f}"
        added.append(own)
    return added
