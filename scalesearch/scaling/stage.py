"""A stage as pure data. Each kind of block is one module of `scaling.cost`: its fields, its checks and its cost."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from scalesearch.errors import InputError
from scalesearch.runtime import modules
from scalesearch.runtime.text import short
from scalesearch.scaling.cost.tally import IntArray, Tally

LARGEST_SIZE = 100_000_000
"""The most for a width, a depth, a resolution …: larger values are typing errors, and would overflow 64-bit counts."""


def require_whole(name: str, value: object, least: int) -> None:
    """Raises `InputError` unless `value` is a whole number of at least `least` and at most `LARGEST_SIZE`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"`{name}` must be a whole number of at least {least}, but got {short(value)}")
    if value > LARGEST_SIZE:
        raise InputError(f"`{name}` must be at most {LARGEST_SIZE}, but got {short(value)}")


def require_odd(name: str, value: object) -> None:
    """Raises `InputError` unless `value` is an odd number above 0."""
    require_whole(name, value, 1)
    if value % 2 == 0:  # type: ignore[operator]  # an int by the line above
        raise InputError(f"`{name}` must be odd, but got {value!r}")


def require_ratio(name: str, value: object) -> None:
    """Raises `InputError` unless `value` is a number of at least 1 and at most `LARGEST_SIZE`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        raise InputError(f"`{name}` must be a number of at least 1, but got {short(value)}")
    if value > LARGEST_SIZE:
        raise InputError(f"`{name}` must be at most {LARGEST_SIZE}, but got {short(value)}")


def require_choice(name: str, value: object, allowed: Collection[str]) -> None:
    """Raises `InputError` unless `value` is one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"`{name}` must be one of {', '.join(allowed)}, but got {short(value)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec(ABC):
    """`depth` blocks of one kind; the first has `stride` and the width of the stage before.

    A kind is a subclass called `Stage` in a module of `scaling.cost` that has the kind's name. It may add fields. A
    new kind needs that module and one of the same name in `models.blocks`; nothing else has to be edited. A kind of the
    user's own is a subclass in a module of theirs: `block` is then "module:Class" (`baselines.protocol`).

    Attributes:
        block: the name of the kind.
        kernel_size: k of the block's k×k convolutions, odd.
        stride: stride of the first block.
        expand_ratio: its meaning depends on the kind, and so does whether it may be a fraction; 1 if there is none.
        width: output channels of each block.
        depth: number of blocks.
        se_ratio: squeeze width ÷ block input width, or as the kind says; 0 for no squeeze-excite.
        block_module: for a kind of the user's own, "module:Class" of its block, as in `models.blocks.BlockModule`.
    """

    block_module: ClassVar[str] = ""

    block: str
    kernel_size: int
    stride: int
    expand_ratio: int | float = 1
    width: int
    depth: int
    se_ratio: float = 0.0

    def __post_init__(self) -> None:
        if self.block != _own_name(type(self)):
            require_choice("block", self.block, kinds())
        require_odd("kernel_size", self.kernel_size)
        for name in ("stride", "width", "depth"):
            require_whole(name, getattr(self, name), 1)
        require_ratio("expand_ratio", self.expand_ratio)
        if isinstance(self.se_ratio, bool) or not isinstance(self.se_ratio, (int, float)):
            raise ValueError(f"`se_ratio` must be a number, but got {short(self.se_ratio)}")
        if not 0 <= self.se_ratio <= 1:
            raise ValueError(f"`se_ratio` must be at least 0 and at most 1, but got {short(self.se_ratio)}")
        self.check()

    @property
    def width_multiple(self) -> int:
        """What `width` must be a multiple of."""
        return 1

    @property
    def usual_divisor(self) -> int:
        """The divisor of widths for a baseline of one's own: eight for each unit of `width_multiple`."""
        return 8 * self.width_multiple

    @abstractmethod
    def check(self) -> None:
        """Raises `ValueError` for fields that this kind does not allow."""

    @abstractmethod
    def tally(self, width_in: IntArray, width: IntArray, stride: int) -> Tally:
        """The cost of one block that turns `width_in` channels into `width` at `stride`."""

    def refuse(self, *names: str) -> None:
        """Raises `ValueError` if one of these fields, which the kind does not use, is not at its default."""
        for name in names:
            default = StageSpec.__dataclass_fields__[name].default
            if getattr(self, name) != default:
                raise ValueError(
                    f"`{name}` must be {default:g} in a `{self.block}` block, but got {getattr(self, name)!r}"
                )


@cache
def kinds() -> Mapping[str, type[StageSpec]]:
    """The kinds of blocks by their names: one for each module of `scaling.cost` that has a `Stage`."""
    from scalesearch.scaling import cost

    modules = (
        (info.name, importlib.import_module(f"{cost.__name__}.{info.name}"))
        for info in pkgutil.iter_modules(cost.__path__)
    )
    stages = {name: module.Stage for name, module in modules if hasattr(module, "Stage")}
    first = [name for name in _ORDER if name in stages]
    return {name: stages[name] for name in (*first, *sorted(stages.keys() - set(first)))}


_ORDER = ("mbconv", "separable", "basic", "bottleneck")
"""The first names in messages; further kinds follow in alphabetical order."""


def kind_of(block: str) -> type[StageSpec]:
    """The class of a kind: one of `kinds`, or the user's own subclass of `StageSpec` that "module:Class" names.

    Raises `InputError` if there is none, or if it cannot be used.
    """
    if not modules.is_own(block):
        require_choice("block", block, kinds())
        return kinds()[block]
    kind = modules.load(block, "`block`")
    if not (isinstance(kind, type) and issubclass(kind, StageSpec)):
        raise InputError(f"`block` names {block}, which must be a subclass of StageSpec, but is {short(kind)}")
    if missing := ", ".join(sorted(kind.__abstractmethods__)):
        raise InputError(f"`block` names {block}, which must have the methods of a StageSpec, but lacks {missing}")
    if block != _own_name(kind):
        raise InputError(f"`block` must be {_own_name(kind)}, where the class is defined, but got {block}")
    return kind


def _own_name(kind: type[StageSpec]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def make_stage(block: str, **fields: Any) -> StageSpec:
    """The stage of the kind `block`. Raises `ValueError` for an unknown kind and for fields that it does not allow.

    >>> make_stage("separable", kernel_size=3, stride=1, width=16, depth=2).width
    16
    """
    return kind_of(block)(block=block, **fields)
