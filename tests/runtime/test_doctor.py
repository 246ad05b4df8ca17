"""The findings about this machine."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from scalesearch.runtime.doctor import Finding, examine_cache, examine_device, examine_machine


def test_the_machine_is_as_it_should_be() -> None:
    findings = [examine_device(), *examine_machine()]
    assert [finding.topic for finding in findings] == ["device", "cores", "python", "versions"]
    assert all(finding.good for finding in findings)
    assert f"jax {jax.__version__}, jaxlib " in findings[-1].text
    assert findings[0].to_json() == {"topic": "device", "found": findings[0].text, "good": True}


def test_a_jax_that_cannot_train_is_wrong() -> None:
    jax.config.update("jax_disable_jit", True)
    try:
        finding = examine_device()
    finally:
        jax.config.update("jax_disable_jit", False)
    assert not finding.good
    assert finding.text.startswith("JAX_DISABLE_JIT must be false or unset")


def test_the_cache_is_measured_or_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "cache"))
    assert examine_cache().text.endswith(": 0 files, 0.0 MB")
    (folder,) = (tmp_path / "cache").iterdir()
    (folder / "one.program").write_bytes(bytes(300_000))
    assert examine_cache() == Finding("compilation cache", f"{folder}: 1 file, 0.3 MB", good=True)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "file"))
    finding = examine_cache()
    assert not finding.good
    assert "must be yours and writable, but Not a directory" in finding.text
