"""The numerics check of `doctor`: every convolution form on this device against a float64 reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jax import numpy as jnp
from numpy.typing import NDArray

from scalesearch.models.network import Precision
from scalesearch.models.ops.cpu import library
from scalesearch.models.ops.gpu import program as pallas
from scalesearch.models.ops.select import Forms, available_forms, convolve, convolve_depthwise
from scalesearch.runtime.doctor import Finding

Operation = Literal["depthwise", "dense", "pointwise"]
Wide = NDArray[np.float64]

_GEOMETRIES: tuple[tuple[Operation, int, int], ...] = (
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
class FormCheck:
    """Worst errors of one form, each relative to the largest entry of its reference."""

    op: Operation
    form: Forms
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


def check_forms(precision: Precision = "float32") -> tuple[FormCheck, ...]:
    """One check for each form, operation, kernel size and stride on jax's default device, of maps of `precision`."""
    # Accelerators may multiply in tf32 or bfloat16 (8 bits, 2⁻⁹ = 2e-3 an operand); a wrong tap is off by 0.1 or more.
    exact = jax.default_backend() == "cpu" and precision == "float32"
    return tuple(
        _check(op, form, kernel_size, stride, precision, 2e-5 if exact else 2e-2)
        for form in available_forms(jax.default_backend())
        for op, kernel_size, stride in _GEOMETRIES
    )


def examine_numerics() -> Finding:
    """Whether every form computes what the reference does, as a line for `doctor`."""
    checks = check_forms()
    failed = [check for check in checks if not check.passed]
    if failed:
        examples = "; ".join(map(str, failed[:5]))
        return Finding("numerics", f"{len(failed)} of {len(checks)} convolution forms are off: {examples}", good=False)
    return Finding("numerics", f"{len(checks)} convolution forms agree with a float64 reference", good=True)


def examine_kernels() -> Finding:
    """Whether the kernels for jax's default backend can be used, as a line for `doctor`."""
    match jax.default_backend():
        case "cpu":
            problem, fine = library.problem(), "compiled for this processor"
        case "gpu":
            problem, fine = pallas.problem(), "in Pallas, compiled with each network"
        case other:
            problem, fine = None, f"not needed on a {other}"
    return Finding("kernels", problem or fine, good=problem is None)


def _check(
    op: Operation, form: Forms, kernel_size: int, stride: int, precision: Precision, tolerance: float
) -> FormCheck:
    rng = np.random.default_rng(0)
    depthwise = op == "depthwise"
    shape = (kernel_size, kernel_size, *((1, _WIDTH_IN) if depthwise else (_WIDTH_IN, _WIDTH_OUT)))
    shapes = (
        (_IMAGES, _HEIGHT, _WIDTH, _WIDTH_IN),
        shape,
        (_IMAGES, -(-_HEIGHT // stride), -(-_WIDTH // stride), shape[3]),
    )
    x, kernel, g = (jnp.asarray(rng.normal(size=each), precision) for each in shapes)
    apply = partial(convolve_depthwise if depthwise else convolve, stride=stride, forms=form)

    @jax.jit
    def ours(x: Any, kernel: Any, g: Any) -> Any:
        y, pull = jax.vjp(apply, x, kernel)
        return y, *pull(g)

    exact_x, exact_kernel, exact_g = (np.asarray(each, np.float64) for each in (x, kernel, g))
    reference = _reference(exact_x, exact_kernel, exact_g, stride)
    errors = [
        float(np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max())
        for actual, expected in zip(ours(x, kernel, g), reference, strict=True)
    ]
    return FormCheck(op, form, stride, kernel_size, precision, errors[0], errors[1], errors[2], tolerance)


def _reference(x: Wide, kernel: Wide, g: Wide, stride: int) -> tuple[Wide, Wide, Wide]:
    """y, dx and dkernel of a SAME convolution, one tap after the other; a depthwise kernel has one input channel."""
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
