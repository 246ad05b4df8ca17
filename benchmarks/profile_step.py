"""Where the time of a training step goes, and how far it is from what the machine can do.

    profile_step.py SPEC.json [--batch 128] [--steps 10] [--threads 2] [--precision float32|bfloat16] [--quick]

The machine's peaks are measured here: a product of 2048 × 2048 matrices; and adding in place, over and over, to as many
bytes as the step's maps have, which for a small network stay in the processor's caches, and to 256 MiB, which do not.
A step needs 6 floating-point operations a multiply-add (forward and two gradients), and in these kernels moves each
map fourteen times: a convolution writes it and reads its input, normalisation reads it twice and writes it once (5);
back through the normalisation two reads each of the map and its gradient and one write (5), through the convolution two
reads of the gradient, one of the input and one write (4). The bound is the longer of the two times, that of the traffic
at the faster of the two rates. The profile sums the time of XLA's kernels by the part of the step that they belong to
(`jax.named_scope`); kernels overlap, so the sums are shares of work, not of the clock. Images are moved and mirrored
and weights averaged, as in the studies. One JSON line.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PASSES = 14
"""Reads and writes of a map of a normalised convolution, forward 2 + 3 and back 5 + 4."""

LARGE = 2**28
"""Bytes that no cache holds."""

KINDS = (  # the first that an operation's name holds
    "depthwise kernel gradient",
    "depthwise input gradient",
    "depthwise gradient",
    "depthwise",
    "dense gradient",
    "dense",
    "pointwise",
    "normalise gradient",
    "normalise",
    "squeeze-excite gradient",
    "squeeze-excite",
    "skip",
    "cross-entropy",
    "packing",
    "optimizer",
    "average",
    "augmentation",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path, nargs="?")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2, help="processor cores")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--quick", action="store_true", help="the default study's baseline, a few steps")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    if arguments.quick:
        arguments.steps = 3
    elif arguments.spec is None:
        parser.error("SPEC.json is missing")
    print(json.dumps(measure(arguments)))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak, bound, step and profile of one network."""
    import jax
    import numpy as np

    from scalesearch.data.feed import prepare
    from scalesearch.data.sources import Split
    from scalesearch.models.ops.select import select
    from scalesearch.scaling.cost.count import complexity
    from scalesearch.study.documents import spec_from_json
    from scalesearch.study.load import default_study_path, load_study
    from scalesearch.study.training import TrainingSection
    from scalesearch.training.compile import compile_program
    from scalesearch.training.draws import draws_of_epoch
    from scalesearch.training.schedule import schedule_of

    if arguments.spec is None:
        spec = load_study(default_study_path()).resolved_baseline().spec
    else:
        document = json.loads(arguments.spec.read_text(encoding="utf-8"))
        spec = spec_from_json(document.get("spec", document))
    batch, steps = arguments.batch, arguments.steps
    training = TrainingSection(
        epochs=4,
        batch_size=batch,
        learning_rate=1e-3,
        warmup_epochs=0,
        weight_decay=0.01,
        label_smoothing=0.1,
        ema_decay=0.98,
        shift=0.08,
        flip=True,
        precision=arguments.precision,
    )
    rng = np.random.default_rng(0)
    shape = (steps * batch, spec.resolution, spec.resolution, spec.in_channels)
    split = Split(rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, spec.num_classes, shape[0], np.int32))
    data = prepare(split, Split(split.images[:batch], split.labels[:batch]), spec.resolution, batch)
    schedule, seed = schedule_of(training, shape[0]), np.array(0, np.uint32)
    operations = select("auto", jax.default_backend(), precision=arguments.precision)
    program = compile_program(spec, operations, training, data, schedule, seed)
    state = program.init(seed)
    draws = draws_of_epoch(seed, 0, training, images=shape[0])

    def epoch() -> None:
        nonlocal state
        state, loss = program.epoch(state, data, draws, schedule)
        loss.block_until_ready()

    cost = complexity(spec)
    maps = (4 if arguments.precision == "float32" else 2) * cost.activations * batch
    flops_per_s = multiplying(arguments.precision)
    near, far = moving(maps), moving(LARGE)
    seconds = fastest(epoch) / steps
    arithmetic = 6 * cost.macs * batch / flops_per_s
    traffic = PASSES * maps / max(near, far)
    compiled: Any = program.epoch
    shares = profile(epoch, compiled.as_text())
    return {
        "device": jax.devices()[0].device_kind,
        "batch": batch,
        "params": cost.params,
        "peak_gflops": round(flops_per_s / 1e9, 1),
        "maps_mib": round(maps / 2**20, 1),
        "bandwidth_gb_per_s": {"of the maps": round(near / 1e9, 1), "of 256 MiB": round(far / 1e9, 1)},
        "arithmetic_ms": round(arithmetic * 1e3, 2),
        "traffic_ms": round(traffic * 1e3, 2),
        "step_ms": round(seconds * 1e3, 2),
        "step_over_bound": round(seconds / max(arithmetic, traffic), 2),
        "shares": shares,
    }


def multiplying(precision: str) -> float:
    """Floating-point operations a second, of a product of matrices."""
    import jax
    from jax import numpy as jnp

    size = 2048
    matrix = jnp.ones((size, size), precision)
    product = jax.jit(jnp.matmul)
    return 2 * size**3 / fastest(lambda: product(matrix, matrix).block_until_ready())


def moving(size: int) -> float:
    """Bytes read and written a second, by adding to an array of `size` bytes in place, over and over."""
    import jax
    from jax import numpy as jnp

    times = max(2**31 // size, 1)
    add = jax.jit(lambda x: jax.lax.fori_loop(0, times, lambda _, x: x + 1, x), donate_argnums=0)
    x = jnp.zeros(size // 4)

    def run() -> None:
        nonlocal x
        x = add(x).block_until_ready()

    return times * 2 * size / fastest(run)


def fastest(function: Callable[[], Any], repetitions: int = 5) -> float:
    """Seconds of the fastest of some runs, after one that does not count."""
    function()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def profile(function: Callable[[], Any], program: str) -> dict[str, float]:
    """The share of each kind of operation in the time of all kernels; `program` is the compiled HLO."""
    import jax

    times: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            function()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(trace)).planes:
            for line in plane.lines:
                for event in line.events:
                    operation = dict(event.stats).get("hlo_op")
                    if operation is not None:
                        times[str(operation)] += event.duration_ns
    names = dict(re.findall(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*?op_name="([^"]*)"', program, re.MULTILINE))
    inside = _inside_loops(program, names)
    kinds: collections.Counter[str] = collections.Counter()
    for operation, nanoseconds in times.items():
        name = names.get(operation, "")
        if operation not in inside:
            kind = next((kind for kind in KINDS if kind in name), "other")
            kinds[f"{kind} gradient" if kind in ("pointwise", "squeeze-excite") and "transpose" in name else kind] += (
                nanoseconds
            )
    total = sum(kinds.values())
    return {kind: round(nanoseconds / total, 3) for kind, nanoseconds in kinds.most_common()}


def _inside_loops(program: str, names: dict[str, str]) -> set[str]:
    """Operations of loops within a step, whose time is that of their loop; and the loop over the steps."""
    bodies = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) \(.*?\{\n(.*?)^\}", program, re.MULTILINE | re.DOTALL))
    inside: set[str] = set()
    for loop, body in re.findall(r"%?([\w.\-]+) = .*? while\(.*?body=%?([\w.\-]+)", program):
        if "while/body" in names.get(loop, ""):
            inside |= set(re.findall(r"^\s*(?:ROOT )?%?([\w.\-]+) = ", bodies[body], re.MULTILINE))
        else:
            inside.add(loop)
    return inside


if __name__ == "__main__":
    main()
