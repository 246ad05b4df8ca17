"""The cost of some layers as a polynomial in their widths, kept apart for the places where the layers run.

A block's layers run on its input map, on its output map, or on the pooled vector (squeeze-excite, classifier). Widths
may be numbers or whole numpy arrays, so the fold that counts one network also fills the tables from which `feasible`
counts hundreds of thousands. No cost has two formulas.

Counted: multiply-adds of convolutions and of the classifier, padding taps included (what arXiv:1905.11946 calls
FLOPS); trainable parameters, batch normalisation's two included; activations are the output elements of every
convolution and of the classifier (arXiv:2003.13678 §3.1). The 1×1 layers of squeeze-excite are convolutions with bias.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

INPUT, OUTPUT, POOLED = range(3)
"""Where a layer runs: on the block's input map, on its output map, on the pooled vector."""


class Tally(NamedTuple):
    """Multiply-adds and channels for each position of (input map, output map, pooled vector); and parameters."""

    macs: tuple[IntArray, IntArray, IntArray]
    channels: tuple[IntArray, IntArray, IntArray]
    params: IntArray

    @classmethod
    def empty(cls, like: IntArray) -> Tally:
        """Nothing, in the shape of `like`."""
        zero = np.zeros_like(like)
        return cls((zero, zero, zero), (zero, zero, zero), zero)

    def add(
        self,
        where: int,
        kernel_size: int,
        width_in: IntArray,
        width_out: IntArray,
        *,
        groups: IntArray | int = 1,
        normalised: bool = True,
        biased: bool | None = None,
    ) -> Tally:
        """With one convolution more, followed by a normalisation or, without it, with a bias.

        Args:
            where: `INPUT`, `OUTPUT` or `POOLED`.
            kernel_size: k of the k×k kernel.
            width_in: input channels.
            width_out: output channels.
            groups: groups of channels; as many as there are channels make a depthwise convolution.
            normalised: whether a normalisation follows, which has two parameters a channel.
            biased: whether the convolution has a bias; by default if no normalisation follows.
        """
        weights = kernel_size**2 * (width_in // groups) * width_out
        macs, channels = list(self.macs), list(self.channels)
        macs[where] = macs[where] + weights
        channels[where] = channels[where] + width_out
        vectors = 2 * normalised + ((not normalised) if biased is None else biased)
        params = self.params + weights + vectors * width_out
        return Tally((macs[0], macs[1], macs[2]), (channels[0], channels[1], channels[2]), params)

    def add_params(self, count: IntArray) -> Tally:
        """With `count` parameters more that cost no multiply-adds: of a normalisation on its own, of a layer scale."""
        return self._replace(params=self.params + count)

    def where(self, condition: NDArray[np.bool_], otherwise: Tally) -> Tally:
        """This tally where `condition` holds, and `otherwise` elsewhere."""

        def pick(a: IntArray, b: IntArray) -> IntArray:
            return np.where(condition, a, b)

        macs = tuple(map(pick, self.macs, otherwise.macs))
        channels = tuple(map(pick, self.channels, otherwise.channels))
        return Tally(macs, channels, pick(self.params, otherwise.params))  # type: ignore[arg-type]  # three each
