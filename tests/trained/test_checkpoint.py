"""Checkpoints: which are kept, and what becomes of one that is damaged."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from scalesearch.trained.checkpoint import FOLDER, Checkpoints


def arrays(number: int) -> dict[str, np.ndarray]:
    return {"weights.stem.kernel": np.full((3, 3), number, np.float32), "step": np.array(number, np.int32)}


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / FOLDER).iterdir()}


def test_the_last_two_and_the_best_are_kept_and_a_damaged_one_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last() is None
        ranks = [(0.5, -1.0), (0.5, -0.9), (0.4, -0.1), None, None, None]
        for number, rank in enumerate(ranks, 1):
            checkpoints.save(10 * number, arrays(number), {"epoch": number}, rank)
        with pytest.raises(RuntimeError, match="checkpoint 60 must come after 60"):
            checkpoints.save(60, arrays(6), {})
    assert kept(tmp_path) == {"20", "50", "60"}  # of equal accuracy, the one with the lower loss

    # What a killed process leaves, and a file with another byte in it.
    (tmp_path / FOLDER / "70.orbax-checkpoint-tmp").mkdir()
    files = [path for path in (tmp_path / FOLDER / "60" / "state").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    damaged = bytearray(largest.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    largest.write_bytes(damaged)
    with caplog.at_level(logging.WARNING), Checkpoints(tmp_path) as checkpoints:
        last = checkpoints.last()
        assert last is not None
        assert (last.number, last.facts["epoch"], last.arrays["step"]) == (50, 5, 5)
        np.testing.assert_array_equal(last.arrays["weights.stem.kernel"], arrays(5)["weights.stem.kernel"])
        assert checkpoints.at(60) is None
        checkpoints.save(55, arrays(7), {"epoch": 7})
        checkpoints.wait()
    assert f"{tmp_path / FOLDER / '60'} is damaged and is left out" in caplog.text
    assert kept(tmp_path) == {"20", "50", "55"}


def test_a_digest_tells_whole_arrays_from_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, arrays(1), {})
        checkpoints.save(2, arrays(2), {})
    facts = tmp_path / FOLDER / "2" / "facts" / "metadata"
    facts.write_text(facts.read_text().replace('"digest": "', '"digest": "0'))
    with Checkpoints(tmp_path) as checkpoints:
        last = checkpoints.last()
    assert last is not None
    assert last.number == 1
    assert "(its digest is another)" in caplog.text

    # What Orbax reads of every checkpoint before it is asked for one.
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, arrays(3), {}, (0.5, -1.0))
    broken = [("_CHECKPOINT_METADATA", b"5"), ("metrics/metrics", b"5"), ("metrics/metrics", "{}".encode("utf-16"))]
    for name, content in broken:
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(4, arrays(4), {}, (0.6, -1.0))
        (tmp_path / FOLDER / "4" / name).write_bytes(content)
        with Checkpoints(tmp_path) as checkpoints:
            last = checkpoints.last()
        assert last is not None
        assert last.number == 3
