"""The state of a training by plain names, for checkpoints that outlive the packing of vectors and stacking of blocks.

`weights.…` and `average.…` are the variables of the network (`models.names`), `optimizer.0.mu.…` those of a moment of
the optimiser, `step` and `optimizer.0.count` counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from scalesearch.errors import InputError
from scalesearch.models.names import named_arrays, state_of
from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.own import build_network
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.trained.card import NamedArrays
from scalesearch.training.draws import init_generator
from scalesearch.training.packing import Packed, pack_on_host
from scalesearch.training.state import TrainState, Weights, layout_of


class StateNames:
    """Names what is in the training states of the network of `spec`, and finds it again."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        network = build_network(spec, operations=NativeOperations(), dropout=0.0, rng=init_generator(0))
        self._layout = layout_of(network)

    def weights(self, weights: Weights) -> NamedArrays:
        """The variables of a network by name."""
        return named_arrays(self._variables(weights))

    def packed(self, named: Mapping[str, np.ndarray], like: Weights, where: str) -> Weights:
        """The weights that `weights` made `named` of. Raises `InputError` as `state_of`."""
        restored = state_of(named, self._variables(like), where)
        params, stats = nnx.split_state(restored, nnx.Param, nnx.BatchStat)
        return Weights(pack_on_host(params), pack_on_host(stats))

    def named(self, state: TrainState) -> NamedArrays:
        """Everything in a state by name, on the host."""
        named: NamedArrays = {}
        for name, part in _parts(jax.device_get(state)):
            match part:
                case Weights():
                    named |= _prefixed(name, self.weights(part))
                case Packed():
                    named |= _prefixed(name, named_arrays(self._layout.params.unpack_on_host(part)))
                case _:
                    named[name] = np.asarray(part)
        return named

    def state(self, named: Mapping[str, np.ndarray], like: TrainState, where: str) -> TrainState:
        """The state that `named` was made of, in numpy.

        Args:
            named: what `named` returned.
            like: a state of the same training.
            where: names the checkpoint in errors.

        Raises:
            InputError: an array is missing, is left over, has another shape, or holds a number that is not finite.
        """
        left = dict(named)
        restored: dict[str, Any] = {}
        like = jax.device_get(like)
        for name, part in _parts(like):
            if not isinstance(part, Weights | Packed):
                value = left.pop(name, None)
                if value is None or np.shape(value) != part.shape:
                    raise InputError(f"{where}: `{name}` must be there and have shape {part.shape}")
                restored[name] = np.asarray(value, part.dtype)
                continue
            inside = [each for each in left if each.startswith(f"{name}.")]
            own = {each.removeprefix(f"{name}."): left.pop(each) for each in inside}
            place = f"{where}: {name}"
            if isinstance(part, Weights):
                restored[name] = self.packed(own, part, place)
            else:
                restored[name] = pack_on_host(state_of(own, self._layout.params.unpack_on_host(part), place))
        if left:
            raise InputError(f"{where}: holds what the training does not have: `{min(left)}`")
        structure = jax.tree.structure(like, is_leaf=_is_part)
        state: TrainState = jax.tree.unflatten(structure, [restored[name] for name, _ in _parts(like)])
        return state

    def _variables(self, weights: Weights) -> Any:
        params = self._layout.params.unpack_on_host(weights.params)
        return nnx.merge_state(params, self._layout.stats.unpack_on_host(weights.stats))


def _parts(state: TrainState) -> list[tuple[str, Any]]:
    """The weights, packed vectors and single arrays of a state, by name."""
    return [
        (".".join(str(getattr(key, "name", getattr(key, "idx", None))) for key in path), part)
        for path, part in jax.tree.leaves_with_path(state, is_leaf=_is_part)
    ]


def _is_part(value: Any) -> bool:
    return isinstance(value, Weights | Packed)


def _prefixed(prefix: str, named: NamedArrays) -> NamedArrays:
    return {f"{prefix}.{name}": array for name, array in named.items()}
