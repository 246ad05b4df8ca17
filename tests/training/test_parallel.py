"""Batches spread over several devices give the losses of one device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PARALLEL = """
import dataclasses, json, sys
from pathlib import Path
import jax
from scalesearch.runtime.program_cache import use_program_cache
from scalesearch.training.loop import train
from scalesearch.training.memory import MemoryPlan, release
from scalesearch.training.parallel.data import shardings_of
from scalesearch.training.prepare import prepare_training
from scalesearch.study.sections import DataSection, RuntimeSection
from scalesearch.errors import InputError
from scalesearch.data.splits import load_splits
from tests.training.test_memory import SMALL, TRAINING, curves, run
assert len(jax.devices()) == 2
assert shardings_of("auto", 32, 32, vector=False) is not None
assert shardings_of("auto", 33, 32, vector=False) is None
try:
    shardings_of(True, 33, 32, vector=False)
except InputError as error:
    assert "multiple of the 2 devices" in str(error) and "got 33" in str(error), error
else:
    raise AssertionError
splits = load_splits(DataSection(source="mnist-sample", train=160, validation=64, test=50))
use_program_cache(Path(sys.argv[1]))
hits = []
jax.monitoring.register_event_listener(lambda event, **details: hits.append(event.endswith("/cache_hits")))
several = (dict(data_parallel=False), dict(), dict(seeds_together=True, convolutions="shift"))
results = [run(splits, spec=SMALL, **settings) for settings in several]
release()
hits.clear()
again = [run(splits, spec=SMALL, **settings) for settings in several]
assert list(map(curves, again)) == list(map(curves, results))  # by kept programs
assert sum(hits) >= 9  # epoch, evaluation and start of each
augmented = TRAINING.model_copy(
    update=dict(flip=True, crop=0.4, color_jitter=0.4, rand_augment=2, mixup=0.4, cutmix=1.0)
)
uneven = dataclasses.replace(splits, uneven=True)
for parallel in (True, False):  # batches in parts, with every augmentation
    runtime = RuntimeSection(convolutions="shift", data_parallel=parallel)
    arguments = (SMALL, uneven, augmented, runtime, (0, 1))
    prepared = prepare_training(*arguments, plans=(MemoryPlan(remat=True, micro_batches=2),))
    results.append(train(*arguments, lambda report: None, prepared))
balanced = [[seed.val_balanced_accuracy_curve for seed in result.seeds] for result in results]
print(json.dumps([*map(curves, results), balanced]))
"""


@pytest.mark.long
def test_two_devices_give_the_losses_of_one_by_kept_programs_too(tmp_path: Path) -> None:
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PARALLEL, tmp_path], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    alone, spread, side_by_side, parts, parts_alone, balanced = json.loads(done.stdout)
    for one, other in ((alone, spread), (alone, side_by_side), (parts_alone, parts)):
        for first, second in zip(one, other, strict=True):
            assert first[0] == second[0]
            np.testing.assert_allclose(first[1:], second[1:], rtol=2e-3)
    assert balanced[:3] == [[[], []]] * 3
    assert np.min(balanced[4]) > 0
    np.testing.assert_allclose(balanced[3], balanced[4], atol=0.05)  # an image or two may be judged otherwise
