"""The losses of a tiny training, as committed in tests/golden/training.json.

They change when the numbers of a training change: draws, initial values, schedule, optimiser, augmentation, batch
statistics, operations. If that was the aim, say so in CHANGELOG.md and update the file by

    UPDATE_GOLDEN=1 python -m pytest tests/training/test_golden.py

If it was not, or only one of the operations differs, the change has a defect. Sums in another order (another compiler,
another processor) stay within the tolerance over so few steps.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from scalesearch.data.splits import load_splits
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage
from scalesearch.study.sections import DataSection, RuntimeSection
from scalesearch.study.training import TrainingSection
from scalesearch.training.loop import train

GOLDEN = Path(__file__).parents[1] / "golden" / "training.json"
STAGE = make_stage("mbconv", kernel_size=3, stride=2, expand_ratio=2, width=8, depth=2, se_ratio=0.25)
SPEC = ArchitectureSpec(8, 1, 10, StemSpec(4, 3, 1), (STAGE,), 16, "swish")
DATA = DataSection(source="mnist-sample", train=128, validation=50, test=50)
TRAINING = TrainingSection(
    epochs=2,
    batch_size=32,
    optimizer="sgd",  # Adam would divide by gradients that are nearly 0, and amplify rounding
    learning_rate=0.1,
    warmup_epochs=0.5,
    weight_decay=0.02,
    label_smoothing=0.1,
    ema_decay=0.9,
    dropout=0.1,
    shift=0.08,
    flip=True,
)


@pytest.mark.parametrize("convolutions", ["kernels", "shift"])
def test_losses_are_the_committed_ones(convolutions: Literal["kernels", "shift"]) -> None:
    runtime = RuntimeSection(convolutions=convolutions)
    (seed,) = train(SPEC, load_splits(DATA), TRAINING, runtime, (0,), lambda report: None).seeds
    losses = {"train_loss": list(seed.train_loss), "val_loss": list(seed.val_loss_curve)}
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(losses, indent=2) + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for name, values in golden.items():
        np.testing.assert_allclose(losses[name], values, rtol=1e-5, err_msg=name)


def test_stochastic_depth_acts() -> None:
    training = TRAINING.model_copy(update={"stochastic_depth": 0.9, "epochs": 1})
    (seed,) = train(SPEC, load_splits(DATA), training, RuntimeSection(), (0,), lambda report: None).seeds
    assert abs(seed.train_loss[0] / json.loads(GOLDEN.read_text(encoding="utf-8"))["train_loss"][0] - 1) > 1e-3
