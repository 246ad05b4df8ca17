"""The numerics check of `doctor`: the convolutions of all operations on this device against a float64 reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jax import numpy as jnp
from numpy.typing import NDArray

from scalesearch.models.ops.base import Name, Operations
from scalesearch.models.ops.select import available, preferred
from scalesearch.runtime.doctor import Finding
from scalesearch.study.training import Precision

Kind = Literal["depthwise", "dense", "pointwise"]
Wide = NDArray[np.float64]

_GEOMETRIES: tuple[tuple[Kind, int, int], ...] = (
    ("depthwise", 3, 1),
    ("depthwise", 3, 2),
    ("depthwise", 5, 1),
    ("depthwise", 5, 2),
    ("dense", 3, 1),
    ("dense", 3, 2),
    ("pointwise", 1, 1),
    ("pointwise", 1, 2),
)
_IMAGES, _HEIGHT, _WIDTH, _WIDTH_IN, _WIDTH_OUT = 4, 9, 8, 16, 24


@dataclass(frozen=True, slots=True)
class OperationCheck:
    """The worst errors of one convolution, each relative to the largest entry of its reference."""

    op: Kind
    operations: Name
    stride: int
    kernel_size: int
    precision: Precision
    value_error: float
    input_gradient_error: float
    kernel_gradient_error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether all three errors are finite and within the tolerance."""
        errors = (self.value_error, self.input_gradient_error, self.kernel_gradient_error)
        return all(error <= self.tolerance for error in errors)  # NaN compares false


def check_operations(
    precision: Precision = "float32", operations: Sequence[Operations] | None = None
) -> tuple[OperationCheck, ...]:
    """One check for each convolution, kernel size and stride on jax's default device, with maps of `precision`.

    `operations` are those to check; by default all that this machine has.
    """
    # Accelerators may multiply in tf32 or bfloat16 (8 bits, 2⁻⁹ = 2e-3 an operand); a wrong tap is off by 0.1 or more.
    exact = jax.default_backend() == "cpu" and precision == "float32"
    return tuple(
        _check(op, each, kernel_size, stride, precision, 2e-5 if exact else 2e-2)
        for each in (available(jax.default_backend()) if operations is None else operations)
        for op, kernel_size, stride in _GEOMETRIES
    )


def examine_numerics() -> Finding:
    """Whether all operations compute what the reference does, as a line for `doctor`."""
    checks = check_operations()
    failed = [check for check in checks if not check.passed]
    if failed:
        examples = "; ".join(map(str, failed[:5]))
        return Finding("numerics", f"{len(failed)} of {len(checks)} convolutions are off: {examples}", good=False)
    return Finding("numerics", f"{len(checks)} convolutions agree with a float64 reference", good=True)


def examine_kernels() -> Finding:
    """Whether the best operations for jax's default backend can be used, as a line for `doctor`."""
    operations = preferred(jax.default_backend())
    problem = operations.problem()
    summary = operations.summary if operations.backend else f"not needed on a {jax.default_backend()}"
    return Finding("kernels", problem or summary, good=problem is None)


def _check(
    op: Kind, operations: Operations, kernel_size: int, stride: int, precision: Precision, tolerance: float
) -> OperationCheck:
    rng = np.random.default_rng(0)
    depthwise = op == "depthwise"
    shape = (kernel_size, kernel_size, *((1, _WIDTH_IN) if depthwise else (_WIDTH_IN, _WIDTH_OUT)))
    shapes = (
        (_IMAGES, _HEIGHT, _WIDTH, _WIDTH_IN),
        shape,
        (_IMAGES, -(-_HEIGHT // stride), -(-_WIDTH // stride), shape[3]),
    )
    x, kernel, g = (jnp.asarray(rng.normal(size=each), precision) for each in shapes)
    apply = partial(operations.depthwise if depthwise else operations.convolve, stride=stride)

    @jax.jit
    def ours(x: Any, kernel: Any, g: Any) -> Any:
        y, pull = jax.vjp(apply, x, kernel)
        return y, *pull(g)

    exact_x, exact_kernel, exact_g = (np.asarray(each, np.float64) for each in (x, kernel, g))
    reference = reference_convolution(exact_x, exact_kernel, exact_g, stride)
    errors = [
        float(np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max())
        for actual, expected in zip(ours(x, kernel, g), reference, strict=True)
    ]
    return OperationCheck(
        op, operations.name, stride, kernel_size, precision, errors[0], errors[1], errors[2], tolerance
    )


def reference_convolution(x: Wide, kernel: Wide, g: Wide, stride: int) -> tuple[Wide, Wide, Wide]:
    """y, dx and dkernel of a convolution in float64, tap by tap; a depthwise kernel has one input channel."""
    k, p, depthwise = kernel.shape[0], kernel.shape[0] // 2, kernel.shape[2] == 1
    padded = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    y, dpadded, dkernel = np.zeros_like(g), np.zeros_like(padded), np.zeros_like(kernel)
    for d, e in np.ndindex(k, k):
        rows = slice(d, d + (g.shape[1] - 1) * stride + 1, stride)
        columns = slice(e, e + (g.shape[2] - 1) * stride + 1, stride)
        tap = padded[:, rows, columns]
        if depthwise:
            y += tap * kernel[d, e, 0]
            dpadded[:, rows, columns] += g * kernel[d, e, 0]
            dkernel[d, e, 0] = (tap * g).sum((0, 1, 2))
        else:
            y += tap @ kernel[d, e]
            dpadded[:, rows, columns] += g @ kernel[d, e].T
            dkernel[d, e] = np.tensordot(tap, g, axes=((0, 1, 2), (0, 1, 2)))
    return y, dpadded[:, p : p + x.shape[1], p : p + x.shape[2]], dkernel
