"""The state of a training: weights, optimiser, moving average; and how weights become a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Int

from scalesearch.models.network import Network
from scalesearch.models.ops.base import Operations
from scalesearch.models.own import OwnNetwork
from scalesearch.training.packing import Packed, Packing, pack_on_host


class Weights(NamedTuple):
    """All variables of a network: trained parameters, and the batch statistics that evaluation normalises by."""

    params: Packed
    stats: Packed


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class TrainState:
    """What a step changes.

    `weights.stats` averages the statistics of the batches so far; `average` is the moving average of the
    weights, None if the study has none.
    """

    step: Int[Array, ""]
    weights: Weights
    optimizer: Any
    average: Weights | None


class Layout(NamedTuple):
    """How weights become a network: its static graph, the packing of its two kinds of variables, its operations.

    A network of the user's own may hold `streams` of random numbers, and it `averages` its statistics by itself.
    """

    graphdef: nnx.GraphDef[Any]
    params: Packing
    stats: Packing
    streams: Any
    operations: Operations
    averages: bool

    def network(self, params: Any, stats: Any) -> Any:
        """The network with these variables."""
        # copied: flax's own modules change variables in place, which those of an outer trace do not allow
        return nnx.merge(self.graphdef, params, stats, self.streams, copy=True)


def layout_of(network: Network | OwnNetwork) -> Layout:
    """The layout of the variables of `network`."""
    split: Any = nnx.split(network, nnx.Param, nnx.BatchStat, ...)
    graphdef, *states, streams = split
    params, stats = (Packing(state, network.operations) for state in states)
    return Layout(graphdef, params, stats, streams, network.operations, isinstance(network, OwnNetwork))


def weights_of(network: Network | OwnNetwork) -> Weights:
    """The initial values of `network`, packed, in the host's memory."""
    return Weights(*(pack_on_host(nnx.state(network, kind)) for kind in (nnx.Param, nnx.BatchStat)))


def evaluated_weights(state: TrainState) -> Weights:
    """The weights that validation judges, after at least one step: the moving average, if there is one."""
    return state.weights if state.average is None else state.average
