"""Parameters and multiply-adds of a network as it is built, and whether a spec of the user's own counts them right."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

from scalesearch.errors import InputError
from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.own import build_network
from scalesearch.runtime.text import enumerated
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.count import complexity


class Built(NamedTuple):
    """What a built network has: macs of one image, parameters, the shape of its logits, and its variables' types.

    `variables` are those that no training can hold, as "type of dtype".
    """

    macs: int
    params: int
    logits: tuple[int, ...]
    variables: tuple[str, ...]


def count_built(spec: ArchitectureSpec) -> Built:
    """What the network of `spec` has once it is built. Nothing is computed: shapes are traced.

    >>> from scalesearch.baselines.protocol import find_baseline
    >>> count_built(find_baseline("mobilenet-v1").spec).params
    4231976
    """

    def build() -> Any:
        return build_network(spec, operations=NativeOperations(), dropout=0.0, rng=np.random.default_rng(0))

    graphdef, state = nnx.split(nnx.eval_shape(build))
    structure: Any = jax.ShapeDtypeStruct
    images = structure((1, spec.resolution, spec.resolution, spec.in_channels), jnp.float32)
    program, logits = jax.make_jaxpr(
        lambda state, images: nnx.merge(graphdef, state)(images, train=False), return_shape=True
    )(state, images)
    variables = jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    return Built(
        _macs(program.jaxpr),
        sum(math.prod(variable.shape) for variable in variables if isinstance(variable, nnx.Param)),
        logits.shape,
        tuple(dict.fromkeys(text for variable in variables if (text := _foreign(variable)))),
    )


def check_own(spec: ArchitectureSpec) -> None:
    """Checks a network with code of the user's own against what its spec says; nothing for any other.

    Raises `InputError`: one line with what is counted, what is built, and the size of the network.
    """
    if not (spec.module or any(stage.block_module for stage in spec.stages)):
        return
    built, counted = count_built(spec), complexity(spec)
    who = spec.module or enumerated(sorted({stage.block for stage in spec.stages if stage.block_module}))
    where = f"{who} at depths {spec.depths}, widths {spec.widths}, {spec.resolution} px"
    if built.variables:
        foreign = enumerated(built.variables)
        raise InputError(f"{where}: variables must be float32 nnx.Param and nnx.BatchStat, but got {foreign}")
    if built.logits != (logits := (1, spec.num_classes)):
        raise InputError(f"{where}: logits of one image must be of shape {logits}, but got {built.logits}")
    for name in ("params", "macs"):
        expected, found = getattr(counted, name), getattr(built, name)
        if expected != found:
            raise InputError(f"{where}: `tally` counts {expected:,} {name}, but the flax module has {found:,}")


def _foreign(variable: Any) -> str:
    """The type of a variable that cannot be trained; empty for one that can, or that holds a random stream."""
    if isinstance(variable, nnx.RngState):
        return ""
    known = isinstance(variable, nnx.Param | nnx.BatchStat) and variable.dtype == jnp.float32
    return "" if known else f"{type(variable).__name__} of {variable.dtype}"


def _macs(program: Jaxpr) -> int:
    """Multiply-adds of the products and convolutions of `program`, padding included."""
    total = 0
    for equation in program.eqns:
        kind, parameters = equation.primitive.name, equation.params
        shapes: list[tuple[int, ...]] = [getattr(each.aval, "shape", ()) for each in equation.invars]
        if kind in ("dot_general", "conv_general_dilated"):
            if kind == "dot_general":
                (summed, _), _ = parameters["dimension_numbers"]
                terms = [shapes[0][axis] for axis in summed]
            else:
                _, *summed = parameters["dimension_numbers"].rhs_spec  # output features, input features, places
                terms = [shapes[1][axis] for axis in summed]
            (result,) = equation.outvars
            total += math.prod(getattr(result.aval, "shape", ())) * math.prod(terms)
        else:
            parts = [_macs(part) for value in parameters.values() for part in _programs(value)]
            total += max(parts, default=0) if kind == "cond" else sum(parts) * parameters.get("length", 1)
    return total


def _programs(value: Any) -> Iterator[Jaxpr]:
    """The programs in a parameter of an equation."""
    for part in value if isinstance(value, tuple | list) else (value,):
        if isinstance(part, ClosedJaxpr):
            yield part.jaxpr
        elif isinstance(part, Jaxpr):
            yield part
