"""What `benchmarks/train_step.py` prints is a contract: others compare it with their own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.long
def test_a_training_step_is_one_json_line_of_the_asked_fields() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "train_step.py", "--quick", "--batch", "16", "--epochs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert {"images_per_s", "step_s", "compile_s", "params", "memory_mib"} <= found.keys()
    assert found["params"] == 19_108  # `scalesearch count`, and PyTorch's own count in peer_torch.py
    assert math.isclose(found["images_per_s"], 16 / found["step_s"])
    assert found["losses"] == sorted(found["losses"], reverse=True)
    assert len(found["losses"]) == 3  # the first epoch is not timed
