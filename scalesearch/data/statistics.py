"""Mean and deviation of each channel, exact: from how often each grey level occurs."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

CHUNK_VALUES = 2**22
"""Values counted at a time, which bounds memory: `bincount` copies its input as int64."""


def level_counts(images: UInt8[np.ndarray, "n h w c"], chunk_values: int = CHUNK_VALUES) -> Int[np.ndarray, "c 256"]:
    """How often each of the 256 grey levels occurs in each channel; `chunk_values` are counted at a time."""
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    if images.size:
        for part in np.array_split(images, -(-images.size // chunk_values)):
            counts += [np.bincount(part[..., c].reshape(-1), minlength=256) for c in range(channels)]
    return counts


def statistics_of(counts: Int[np.ndarray, "c 256"]) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Mean and standard deviation of each channel in grey levels.

    A channel that never changes has deviation 1, so that it is standardised to 0.
    """
    levels = np.arange(256, dtype=np.float64)
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def channel_statistics(
    images: UInt8[np.ndarray, "n h w c"], chunk_values: int = CHUNK_VALUES
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Mean and standard deviation of each channel of `images` in grey levels.

    >>> channel_statistics(np.full((2, 3, 3, 1), 7, np.uint8))
    (array([7.], dtype=float32), array([1.], dtype=float32))
    """
    return statistics_of(level_counts(images, chunk_values))
