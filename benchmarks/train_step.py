"""Training images per second of one network on random images: one JSON line, as the PyTorch peer prints it.

    train_step.py SPEC.json [--batch 128] [--steps 20] [--threads 2] [--convolutions auto|kernels|pallas|shift|native]
                  [--precision float32|bfloat16] [--remat] [--seeds 1] [--max-unrolled N] [--augment '{"crop": 0.25}']

AdamW (1e-3, weight decay 0.01) and label smoothing 0.1, as the peer. The time is that of whole epochs of `--steps`
steps (the median of several), the first left out; `losses` are their means. SPEC.json is an architecture spec, or any
document that holds one under "spec".
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from pathlib import Path


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path, nargs="?")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5, help="epochs timed (the median counts)")
    parser.add_argument("--threads", type=int, default=2, help="processor cores")
    parser.add_argument("--convolutions", choices=("auto", "kernels", "pallas", "shift", "native"), default="auto")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seeds", type=int, default=1, help="networks that train side by side; images are of all")
    parser.add_argument("--remat", action="store_true", help="blocks are computed again for the gradient")
    parser.add_argument("--max-unrolled", type=int, help="equal blocks of a stage that are unrolled")
    parser.add_argument("--augment", type=json.loads, default={}, help="keys of [training] that augment, as JSON")
    parser.add_argument("--quick", action="store_true", help="the default study's baseline, a few steps")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    if arguments.spec is None and not arguments.quick:
        parser.error("SPEC.json is missing")
    print(json.dumps(measure(arguments)))


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """The figures of one network."""
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
    from scalesearch.training.memory import MemoryPlan
    from scalesearch.training.schedule import schedule_of

    if arguments.spec is None:
        spec, steps = load_study(default_study_path()).resolved_baseline().spec, 5
    else:
        document = json.loads(arguments.spec.read_text(encoding="utf-8"))
        spec, steps = spec_from_json(document.get("spec", document)), arguments.steps
    training = TrainingSection(
        epochs=arguments.epochs + 1,
        batch_size=arguments.batch,
        optimizer="adamw",
        learning_rate=1e-3,
        warmup_epochs=0,
        weight_decay=0.01,
        label_smoothing=0.1,
        precision=arguments.precision,
        **arguments.augment,
    )
    random = np.random.default_rng(0)

    def images(count: int) -> Split:
        shape = (count, spec.resolution, spec.resolution, spec.in_channels)
        return Split(
            random.integers(0, 256, shape, dtype=np.uint8), random.integers(0, spec.num_classes, count, dtype=np.int32)
        )

    train, validation = images(steps * arguments.batch), images(arguments.batch)
    data = prepare(train, validation, spec.resolution, arguments.batch)
    schedule = schedule_of(training, len(train))
    operations = select(arguments.convolutions, jax.default_backend(), precision=arguments.precision)
    if arguments.max_unrolled is not None:
        operations = dataclasses.replace(operations, max_unrolled=arguments.max_unrolled)
    seed = np.array(0, np.uint32) if arguments.seeds == 1 else np.arange(arguments.seeds, dtype=np.uint32)
    start = time.perf_counter()
    program = compile_program(spec, operations, training, data, schedule, seed, MemoryPlan(arguments.remat))
    compile_seconds = time.perf_counter() - start
    state, times, losses = program.init(seed), [], []
    for epoch in range(arguments.epochs + 1):
        draws = draws_of_epoch(seed, epoch, training, images=len(train))
        start = time.perf_counter()
        state, loss = program.epoch(state, data, draws, schedule)
        loss.block_until_ready()
        times.append((time.perf_counter() - start) / steps)
        losses.append(round(float(np.mean(loss)), 4))
    step = statistics.median(times[1:])
    return {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "convolutions": operations.name,
        "precision": arguments.precision,
        "batch": arguments.batch,
        "seeds": arguments.seeds,
        "params": complexity(spec).params,
        "compile_s": round(compile_seconds, 2),
        "memory_mib": round(program.bytes_needed / 2**20, 1),
        "step_s": step,
        "images_per_s": arguments.batch * arguments.seeds / step,
        "losses": losses,
    }


if __name__ == "__main__":
    main()
