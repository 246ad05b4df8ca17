"""The optimisers, as optax transformations that take the learning rate as an argument of each update."""

from __future__ import annotations

from typing import Any

import jax
import optax

from scalesearch.study.training import TrainingSection
from scalesearch.training.packing import Packed

# The usual constants of AdamW (arXiv:1711.05101), and those of arXiv:1905.11946 §5.2 and its reference code. That code
# uses TensorFlow's RMSProp: ε inside the root, mean square 1 at the start, the learning rate inside the momentum.
ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
RMSPROP_DECAY = 0.9
RMSPROP_EPSILON = 1e-3


def build_optimizer(training: TrainingSection) -> optax.GradientTransformationExtraArgs:
    """`adamw`, `sgd` (Nesterov momentum) or `rmsprop` for `Packed` parameters; only kernels decay.

    Use as `update(gradients, state, params, learning_rate=rate)`. With direction d of the optimiser, parameters
    become p − rate·(d + weight_decay·p). RMSProp is the paper's: its momentum gathers rate·d, and
    weight_decay·p is added to the gradient (an L2 loss) before all else.
    """
    match training.optimizer:
        case "adamw":
            chain = [optax.scale_by_adam(*ADAM_BETAS, eps=ADAM_EPSILON), _scale_by_learning_rate()]
        case "sgd":
            chain = [optax.trace(training.momentum, nesterov=True), _scale_by_learning_rate()]
        case "rmsprop":
            rms = optax.scale_by_rms(RMSPROP_DECAY, RMSPROP_EPSILON, initial_scale=1.0, eps_in_sqrt=True)
            chain = [rms, _scale_by_learning_rate(), optax.trace(training.momentum)]
    if training.weight_decay:
        chain = (
            [_penalise_kernels(training.weight_decay), *chain]
            if training.optimizer == "rmsprop"
            else [*chain, _decay_kernels(training.weight_decay)]
        )
    return optax.chain(*chain)


def _scale_by_learning_rate() -> optax.GradientTransformationExtraArgs:
    def update(
        updates: Packed,
        state: optax.EmptyState,
        params: Packed | None = None,
        *,
        learning_rate: jax.Array,
        **extra: Any,
    ) -> tuple[Packed, optax.EmptyState]:
        del params, extra
        return jax.tree.map(lambda update: -learning_rate * update, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _penalise_kernels(weight_decay: float) -> optax.GradientTransformation:
    """The gradient of ½ weight_decay · Σ p² over the kernels."""

    def update(updates: Packed, state: optax.EmptyState, params: Packed) -> tuple[Packed, optax.EmptyState]:
        return updates._replace(kernels=updates.kernels + weight_decay * params.kernels), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def _decay_kernels(weight_decay: float) -> optax.GradientTransformationExtraArgs:
    def update(
        updates: Packed, state: optax.EmptyState, params: Packed, *, learning_rate: jax.Array, **extra: Any
    ) -> tuple[Packed, optax.EmptyState]:
        del extra
        kernels = updates.kernels - learning_rate * weight_decay * params.kernels
        return updates._replace(kernels=kernels), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
