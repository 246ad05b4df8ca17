"""The learning-rate schedule: epochs turned into steps, linear warm-up, then a cosine or an exponential decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from scalesearch.study.training import TrainingSection


class Decay(NamedTuple):
    """An exponential decay: times `rate` every `steps` steps."""

    rate: Float[Array, ""]
    steps: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule as arguments of a compiled step; lengths are in optimiser steps.

    One program serves all cosines, whose `decay` is None, and another one all exponential decays.
    """

    learning_rate: Float[Array, ""]
    final_fraction: Float[Array, ""]
    warmup: Int[Array, ""]
    total: Int[Array, ""]
    decay: Decay | None = None


def schedule_of(training: TrainingSection, images: int) -> Schedule:
    """The schedule over `images` training images. Those that do not fill a batch are left out of each epoch.

    >>> section = TrainingSection(epochs=6, batch_size=100, learning_rate=0.1, warmup_epochs=0.5)
    >>> schedule = schedule_of(section, images=3050)
    >>> int(schedule.warmup), int(schedule.total)
    (15, 180)
    """
    steps_per_epoch = images // training.batch_size
    decay = Decay(jnp.float32(training.decay_rate), jnp.float32(steps_per_epoch * training.decay_epochs))
    return Schedule(
        learning_rate=jnp.float32(training.learning_rate),
        final_fraction=jnp.float32(training.final_learning_rate_fraction),
        warmup=jnp.int32(round(steps_per_epoch * training.warmup_epochs)),
        total=jnp.int32(steps_per_epoch * training.epochs),
        decay=decay if training.schedule == "exponential" else None,
    )


def learning_rate(schedule: Schedule, step: Int[Array, ""]) -> Float[Array, ""]:
    """Rate of step t = 0, 1, …: peak·(t + 1)/W for t < W, then peak·(f + (1 − f)·(1 + cos π·(t − W)/(T − W))/2).

    W is the end of the warm-up and T that of the schedule. The last step of the warm-up and the first after it run at
    the peak, and the final fraction f would be reached at step T, just after the end: no step runs at rate 0.
    An exponential decay is that of the released EfficientNet: peak·rate^⌊t / steps⌋ after the warm-up, with stairs that
    are counted from step 0 (tensorflow/tpu models/official/efficientnet/utils.py, `build_learning_rate`).
    """
    warmup, total = schedule.warmup.astype(jnp.float32), schedule.total.astype(jnp.float32)
    t = step.astype(jnp.float32)
    rising = (t + 1) / jnp.maximum(warmup, 1)
    if schedule.decay is not None:
        falling = schedule.decay.rate ** jnp.floor(t / schedule.decay.steps)
    else:
        progress = (t - warmup) / jnp.maximum(total - warmup, 1)
        falling = schedule.final_fraction + (1 - schedule.final_fraction) * (1 + jnp.cos(math.pi * progress)) / 2
    return schedule.learning_rate * jnp.where(t < warmup, rising, falling)
