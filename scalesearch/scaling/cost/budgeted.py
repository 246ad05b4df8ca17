"""What a budget counts: macs today. Another kind of cost, such as latency, is another value of `Cost`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.count import Complexity, Tables, complexity
from scalesearch.scaling.cost.tally import IntArray


@dataclass(frozen=True, slots=True)
class Cost:
    """What a budget counts of a network.

    Args:
        name: its name in messages.
        amount: its amount for a network that is counted.
        table: its part of the tables by which many networks are counted at once.
    """

    name: str
    amount: Callable[[Complexity], int]
    table: Callable[[Tables], IntArray]

    def of(self, spec: ArchitectureSpec) -> int:
        """The amount for `spec`.

        >>> from scalesearch.baselines.published import baseline
        >>> MACS.of(baseline("efficientnet-b0").spec)
        385814752
        """
        return self.amount(complexity(spec))


MACS = Cost("macs", attrgetter("macs"), attrgetter("macs"))
"""Multiply-adds of one forward pass at batch 1, which arXiv:1905.11946 calls FLOPS."""
