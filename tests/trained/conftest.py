"""A model that nobody trained, in a folder; the kernels are built before anything needs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalesearch.models.ops.cpu.library import problem
from scalesearch.study.sections import Study
from scalesearch.trained.card import ModelCard
from tests.models_on_disk import tiny_card, tiny_study, write_model


@pytest.fixture(scope="session", autouse=True)
def _kernels(compilation_cache: None) -> None:
    del compilation_cache  # which names the folder
    assert problem() is None


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return tiny_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def card(study: Study) -> ModelCard:
    return tiny_card(study)


@pytest.fixture(scope="session")
def folder(card: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny", card)
