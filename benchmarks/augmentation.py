"""What augmentation takes: milliseconds a batch on device and host, seconds to compile; a Markdown table.

    augmentation.py [--resolution 64] [--channels 3] [--batch 128] [--rounds 60] [--threads 2]

Batches of random images are made as in a step, without a network, by turns; the least time of `--rounds` counts.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

MOVED: dict[str, Any] = {"shift": 0.08, "flip": True}
SETTINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "shift, flip": MOVED,
    "crop": {"crop": 0.25},
    "crop, shift, flip": {"crop": 0.25, **MOVED},
    "color_jitter": {"color_jitter": 0.4},
    "rand_augment": {"rand_augment": 2},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "all": {"crop": 0.25, "color_jitter": 0.4, "rand_augment": 2, "mixup": 0.2, "cutmix": 1.0, **MOVED},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2, help="processor cores")
    parser.add_argument("--quick", action="store_true", help="small images, a few rounds")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.resolution, arguments.batch, arguments.rounds = 8, 8, 3
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Print a row for each of `SETTINGS`."""
    import jax
    import numpy as np

    from scalesearch.data.feed import prepare
    from scalesearch.data.sources import Split
    from scalesearch.study.training import TrainingSection
    from scalesearch.training.batch import batch_of
    from scalesearch.training.draws import draws_of_epoch

    images, steps = 8 * arguments.batch, 8
    shape = (images, arguments.resolution, arguments.resolution, arguments.channels)
    split = Split(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8), np.zeros(images, np.int32))
    data = prepare(split, split, arguments.resolution, arguments.batch)

    programs, host, compiling = {}, {}, {}
    for name, settings in SETTINGS.items():
        training = TrainingSection(epochs=2, batch_size=arguments.batch, learning_rate=1, warmup_epochs=0, **settings)
        times = []
        for epoch in range(5):
            start = time.perf_counter()
            draws = draws_of_epoch(np.array(0, np.uint32), epoch, training, images=images)
            times.append((time.perf_counter() - start) / steps)
        host[name] = min(times)
        drawn = jax.tree.map(lambda each: jax.device_put(each[0]), draws)
        function = jax.jit(lambda data, drawn, training=training: batch_of(data, drawn, training))
        lowered = function.lower(data, drawn)
        start = time.perf_counter()
        programs[name] = lowered.compile(), drawn
        compiling[name] = time.perf_counter() - start

    least = dict.fromkeys(SETTINGS, float("inf"))
    for _ in range(arguments.rounds):
        for name, (program, drawn) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(data, drawn))
            least[name] = min(least[name], time.perf_counter() - start)

    print(f"{jax.devices()[0].device_kind}, {arguments.batch} images of {arguments.resolution} px\n")
    print("| augmentation | device, ms | host, ms | compile, s |\n|---|---|---|---|")
    for name in SETTINGS:
        print(f"| {name} | {1e3 * least[name]:.1f} | {1e3 * host[name]:.2f} | {compiling[name]:.2f} |")


if __name__ == "__main__":
    main()
