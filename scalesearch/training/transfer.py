"""What trains in a transfer: the classifier alone, or each part of the network at a learning rate of its own."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.training import TrainingSection, TrainSection
from scalesearch.training.packing import Packed, Packing

Factors = tuple[float, ...]
"""What the learning rate of each parameter is multiplied by, in the order of the leaves of the parameters' tree."""

_PARTS = {"stem": 0, "stem_norm": 0, "stages": 1, "head": 2, "maps_norm": 2, "pooled_norm": 2, "hidden": 2}
_CLASSIFIER = (3, 0)


def check_transfer(spec: ArchitectureSpec, training: TrainingSection) -> None:
    """Raises `InputError` if `training` asks for parts of a network of the user's own, whose parts are not known."""
    if isinstance(training, TrainSection) and spec.module:
        for key, value, only in (("frozen", training.frozen, False), ("layer_rate", training.layer_rate, 1)):
            if value != only:
                raise InputError(
                    f"`train.{key}` must be {str(only).lower()} for a network that {spec.module} builds, whose parts "
                    f"are not known, but got {str(value).lower()}"
                )


def is_frozen(training: TrainingSection) -> bool:
    """Whether the classifier trains alone."""
    return isinstance(training, TrainSection) and training.frozen


def rate_factors(training: TrainingSection, packing: Packing) -> Factors | None:
    """The factor of each parameter; None where all are 1.

    That is `layer_rate` to the power of the distance from the classifier, with the stem, each stage and the head (if
    there is one) as parts; for a frozen network, 0 but for the classifier.
    """
    if not isinstance(training, TrainSection) or not (training.frozen or training.layer_rate < 1):
        return None
    parts = [_part(path) for path in packing.paths]
    if training.frozen:
        return tuple(float(part == _CLASSIFIER) for part in parts)
    factors = {part: training.layer_rate**distance for distance, part in enumerate(sorted(set(parts), reverse=True))}
    return tuple(factors[part] for part in parts)


def without_gradient(params: Any, factors: Factors) -> Any:
    """`params`, of which those with factor 0 are constants."""
    leaves, structure = jax.tree.flatten(params)
    constant = [leaf if factor else jax.lax.stop_gradient(leaf) for leaf, factor in zip(leaves, factors, strict=True)]
    return jax.tree.unflatten(structure, constant)


def apply_scaled(packing: Packing, factors: Factors, params: Packed, updates: Packed) -> Packed:
    """`params` + factor · `updates`; those with factor 0 stay as they are, bit for bit."""

    def step(factor: float, values: Array, update: Array) -> Array:
        return values + factor * update if factor else values

    return packing.by_leaf(step, factors, params, updates)


def only_trained(packing: Packing, factors: Factors, average: Packed, params: Packed) -> Packed:
    """The moving average of what trains, and the rest of `params` as it is: its average may be rounded."""
    return packing.by_leaf(lambda factor, mean, values: mean if factor else values, factors, average, params)


def _part(path: Any) -> tuple[int, int]:
    """The part of the network that holds the variable at `path`; parts are in order."""
    first, second = (getattr(key, "key", getattr(key, "name", None)) for key in path[:2])
    if first == "classifier":
        return _CLASSIFIER
    return _PARTS[str(first)], int(str(second)) if first == "stages" else 0
