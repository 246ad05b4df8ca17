"""Named random streams of a seed, so that the order of images never depends on the network."""

from __future__ import annotations

import enum

import jax
from jaxtyping import Array, Key, UInt32


class Stream(enum.IntEnum):
    """What a key is for. The numbers are part of every result: never renumber."""

    INIT = 0
    ORDER = 1
    AUGMENT = 2
    DROPOUT = 3


def stream_key(seed: UInt32[Array, ""], stream: Stream) -> Key[Array, ""]:
    """The key of one stream; draw from `fold_in(key, step or epoch)`. Threefry by name: the same on every backend."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), int(stream))
