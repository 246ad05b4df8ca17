"""The readers of models."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzzing.targets import Target

TARGETS: Mapping[str, Target] = {}
