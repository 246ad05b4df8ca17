"""The compiled function of a network that serves, kept on disk whole: a later start neither traces nor compiles it.

Tracing EfficientNet-B0 needs flax and takes 1.2 s, which a command for one image should not wait for. jax's cache of
compiled programs saves compilation alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import pickle
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable

from scalesearch.models.ops.base import Operations
from scalesearch.models.ops.select import select
from scalesearch.runtime.cache import folder_in_use, make_private
from scalesearch.runtime.cores import processor, usable_cores
from scalesearch.runtime.digests import seal, unseal
from scalesearch.runtime.files import write_whole
from scalesearch.runtime.programs import compile_options, compile_with_options
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.training import Precision
from scalesearch.trained.leaves import Leaf

BATCHES = (1, 32)
"""Sizes of the batches that programs are compiled for. Other numbers of images are padded."""

_KEPT = 64
_Shape: Any = jax.ShapeDtypeStruct
_log = logging.getLogger(__name__)

Serve = Callable[..., jax.Array]
"""`serve(leaves, images, mean, std)`: logits of a batch of uint8 images (b, r, r, c)."""


class Programs:
    """The compiled functions of the network `spec`, for batches of `BATCHES`.

    Arguments are the arrays of `leaves` and what images are standardised by, so models of one spec share them.
    Networks with code of the user's own are not kept, since their code may change.
    """

    def __init__(self, spec: ArchitectureSpec, precision: Precision) -> None:
        self._spec, self._precision = spec, precision
        self._operations = select("auto", jax.default_backend(), precision=precision)
        own = spec.module or any(stage.block_module for stage in spec.stages)
        self._folder = None if own else folder_in_use()
        self._loaded: dict[int, Serve] = {}

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """The arrays of the network in the order of the first argument."""
        for batch in BATCHES:
            found = self._load(batch)
            if found is not None:
                leaves, self._loaded[batch] = found
                return leaves
        return self._network[1]

    def __getitem__(self, batch: int) -> Serve:
        """The program for batches of this size, loaded or compiled when it is first asked for."""
        if batch not in self._loaded:
            found = self._load(batch)
            self._loaded[batch] = self._compile(batch) if found is None else found[1]
        return self._loaded[batch]

    @cached_property
    def _network(self) -> tuple[Any, tuple[Leaf, ...], Any]:
        """The network as a function of the list of its arrays and images; those arrays; and their shapes."""
        from flax import nnx

        from scalesearch.data.feed import standardise
        from scalesearch.models.names import leaves_of
        from scalesearch.models.own import build_network

        network = build_network(
            self._spec,
            operations=self._operations,
            dropout=0.0,
            rng=np.random.default_rng(0),
            precision="float32" if self._spec.module else self._precision,
        )
        split: Any = nnx.split(network, (nnx.Param, nnx.BatchStat), ...)
        graph, state, streams = split
        structure = jax.tree.structure(state)

        def serve(arrays: list[jax.Array], images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
            merged: Any = nnx.merge(graph, jax.tree.unflatten(structure, arrays), streams, copy=True)
            logits: jax.Array = merged(standardise(images, mean, std), train=False)
            return logits

        shapes = [_Shape(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]
        return serve, leaves_of(state), shapes

    def _compile(self, batch: int) -> Serve:
        serve, leaves, shapes = self._network
        side, channels = self._spec.resolution, self._spec.in_channels
        images = _Shape((batch, side, side, channels), np.uint8)
        channel = _Shape((channels,), np.float32)
        with jax.enable_x64(False):
            lowered = jax.jit(serve).lower(shapes, images, channel, channel)
        options = compile_options(jax.default_backend(), quick=self._operations.precompiled)
        compiled = compile_with_options(lowered, options)
        self._keep(batch, leaves, compiled)
        return compiled

    def _load(self, batch: int) -> tuple[tuple[Leaf, ...], Serve] | None:
        """The arrays and the program that are kept; None if there is none that can be loaded."""
        if self._folder is None:
            return None
        path = self._path(batch)
        try:
            content = unseal(path.read_bytes())
            if content is None:
                raise ValueError("it has changed on the disk")
            leaves, (executable, *trees) = pickle.loads(content)  # from a folder that only this user can write to
            devices = jax.local_devices()[:1]
            loaded = serialize_executable.deserialize_and_load(
                executable, trees[0], trees[1], execution_devices=devices
            )
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever a damaged file leads pickle or XLA to: it is only a cache
            _log.info("the program is compiled again: %s cannot be loaded (%s)", path, error)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # when it was used last
        return leaves, loaded

    def _keep(self, batch: int, leaves: tuple[Leaf, ...], compiled: jax.stages.Compiled) -> None:
        """Keeps the program, and forgets those that were not used for long. Failing to is no error."""
        if self._folder is None:
            return
        path = self._path(batch)
        try:
            content = seal(pickle.dumps((leaves, serialize_executable.serialize(compiled))))
            make_private(path.parent)
            write_whole(path, lambda temporary: temporary.write_bytes(content))
            others = sorted(path.parent.glob("*.program"), key=lambda other: other.stat().st_mtime)
            for old in others[:-_KEPT]:
                old.unlink(missing_ok=True)
        except Exception as error:  # a full disk, or a backend whose programs cannot be written
            _log.info("the program is not kept: %s", error)

    def _path(self, batch: int) -> Path:
        """The file of a program. Its name holds a digest of all that the program depends on."""
        assert self._folder is not None
        return self._folder / "serving" / f"{_digest(self._spec, self._precision, self._operations, batch)}.program"


def _digest(spec: ArchitectureSpec, precision: Precision, operations: Operations, batch: int) -> str:
    device = jax.devices()[0]
    parts = (
        json.dumps(spec.to_json()),
        precision,
        repr(operations),
        batch,
        _code(),
        [version(package) for package in ("jax", "jaxlib", "flax", "numpy")],
        (device.platform, device.device_kind, len(jax.devices())),
        (processor(), len(usable_cores())),
        os.environ.get("XLA_FLAGS"),
        str(jax.config.values["jax_default_matmul_precision"]),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _code() -> str:
    """A digest of the code that programs are made of."""
    package = Path(__file__).parents[1]
    models = (path for path in (package / "models").rglob("*") if path.suffix in (".py", ".cc", ".h"))
    files = [*sorted(models), package / "data" / "feed.py", Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
