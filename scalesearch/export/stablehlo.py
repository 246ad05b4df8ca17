"""stablehlo: the serving function as a program of `jax.export`, which jax loads on a CPU, on CUDA and on a TPU.

It takes grey levels, uint8 (n, resolution, resolution, channels) for any n, standardises them, and returns logits
(n, classes) in float32. The weights are in the program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import export as exporting
from jax import numpy as jnp

from scalesearch.errors import InputError
from scalesearch.models.names import state_of
from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.own import build_network
from scalesearch.trained.card import ModelCard, NamedArrays

PLATFORMS = ("cpu", "cuda", "tpu")


def export(card: ModelCard, arrays: NamedArrays | None, target: Path) -> None:
    """Writes the program."""
    if arrays is None:
        raise InputError("--to stablehlo writes a program with its weights, but there are none")
    if card.preprocessing is None:
        raise InputError("--to stablehlo writes a program that standardises images, but the model has no preprocessing")
    spec, preprocessing = card.spec, card.preprocessing
    # XLA's own operations: programs of other machines cannot call kernels that were compiled here.
    network = build_network(spec, operations=NativeOperations(), dropout=0.0, rng=np.random.default_rng(0))
    graphdef, state = nnx.split(network)
    state = state_of(arrays, state, card.name)
    mean, std = (np.asarray(each, np.float32) for each in (preprocessing.mean, preprocessing.std))

    def serve(images: jax.Array) -> jax.Array:
        logits: jax.Array = nnx.merge(graphdef, state)((images.astype(jnp.float32) - mean) / std, train=False)
        return logits

    shape = exporting.symbolic_shape(f"n, {spec.resolution}, {spec.resolution}, {spec.in_channels}")
    structure: Any = jax.ShapeDtypeStruct
    program = exporting.export(jax.jit(serve), platforms=PLATFORMS)(structure(shape, jnp.uint8))
    target.write_bytes(program.serialize())
