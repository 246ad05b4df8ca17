"""How long steps wait for images: small colour pictures by the hundred thousand, and full-size JPEGs.

    feed.py [--quick] [--folder DIR] [--images 100000] [--photos 1500] [--turns 5] [--steps 100] [--threads 2]

Makes both folders (kept if `--folder` names a place), reads them, decodes them for one resolution (images/s), and
trains a small network on them from the cache, streamed in chunks as if the device had no memory for them, in turn with
as many steps on images that lie on the device. `waiting` is the share of the streamed steps' time in which the loop
waited for a chunk, whether or not the device was busy meanwhile; `waiting_for_the_first_chunk` is that part of it that
a longer epoch has only once; `slower` is how much longer streamed steps take. One JSON line each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

AIM = 0.05
CLASSES = 10


def main() -> int:
    """Measure and print; exit code 1 if steps wait for longer than the aim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where pictures are kept; a temporary folder if none")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--photos", type=int, default=1_500)
    parser.add_argument("--turns", type=int, default=5, help="turns timed each way")
    parser.add_argument("--steps", type=int, default=100, help="most steps of a turn")
    parser.add_argument("--threads", type=int, default=2, help="processor cores")
    parser.add_argument("--quick", action="store_true", help="a few pictures, one turn, no aim")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.images, arguments.photos, arguments.turns = 600, 80, 1
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])

    cases = [
        {"name": "small", "count": arguments.images, "size": (80, 64), "resolution": 64, "batch": 128},
        {"name": "photos", "count": arguments.photos, "size": (1600, 1200), "resolution": 128, "batch": 32},
    ]
    late = False
    with folder_for(arguments.folder) as folder:
        for case in cases:
            found = measure(folder, arguments.turns, arguments.steps, arguments.threads, **case)
            print(json.dumps(found), flush=True)
            late |= not arguments.quick and found["waiting"] > AIM
    return int(late)


@contextmanager
def folder_for(folder: Path | None) -> Iterator[Path]:
    """The folder asked for, or a temporary one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def measure(
    folder: Path,
    turns: int,
    steps: int,
    threads: int,
    name: str,
    count: int,
    size: tuple[int, int],
    resolution: int,
    batch: int,
) -> dict[str, Any]:
    """The figures of one folder of pictures."""
    made = seconds(lambda: make_pictures(folder / name, count, size, threads))

    import jax
    import numpy as np

    from scalesearch.data.cache import ImageCache, recipe_of
    from scalesearch.data.feed import prepare
    from scalesearch.data.images import pictures_in
    from scalesearch.data.splits import load_splits
    from scalesearch.data.stream import CHUNK_BYTES
    from scalesearch.models.ops.select import select
    from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
    from scalesearch.scaling.cost.count import complexity
    from scalesearch.scaling.stage import make_stage
    from scalesearch.study.sections import DataSection
    from scalesearch.study.training import TrainingSection
    from scalesearch.training.compile import compile_program
    from scalesearch.training.draws import draws_of_epoch
    from scalesearch.training.schedule import schedule_of

    start = time.perf_counter()
    splits = load_splits(DataSection(source=f"folder:{folder / name}", validation=max(8, count // 50)))
    read = time.perf_counter() - start
    shutil.rmtree(folder / "cache", ignore_errors=True)  # the first preparation is timed
    cache = ImageCache(folder / "cache")
    recipes = [recipe_of(pictures, resolution) for pictures in pictures_in(splits.train, splits.validation)]
    prepared = seconds(lambda: cache.build(recipes))
    again = seconds(lambda: cache.build(recipes))

    stage = {"block": "mbconv", "kernel_size": 3, "stride": 2, "expand_ratio": 3, "se_ratio": 0.25}
    stages = tuple(make_stage(**stage, width=width, depth=depth) for width, depth in ((16, 1), (24, 2), (40, 2)))
    spec = ArchitectureSpec(resolution, 3, CLASSES, StemSpec(16, 3, 2), stages, 128, "swish")
    training = TrainingSection(epochs=turns + 1, batch_size=batch, learning_rate=1e-3, shift=0.05, flip=True)
    schedule, seed = schedule_of(training, len(splits.train)), np.array(0, np.uint32)
    operations = select("auto", jax.default_backend(), precision="float32", sharded=False)
    steps = min(steps, len(splits.train) // batch)
    some = splits.train.take(np.arange(steps * batch))  # as many as a turn takes: they set the shapes
    stream = prepare(splits.train, splits.validation, resolution, batch, memory=0, cache=cache)
    stream = timed(stream.with_chunks_of(CHUNK_BYTES))
    ways: dict[str, tuple[Any, Any]] = {}
    states: dict[str, Any] = {}
    for way, memory in (("streamed", 0.0), ("on_device", float("inf"))):
        data = prepare(some, splits.validation, resolution, batch, memory=memory, cache=cache)
        if way == "streamed":
            data = data.with_chunks_of(CHUNK_BYTES)
        program = compile_program(spec, operations, training, data, schedule, seed)
        ways[way], states[way] = (program, stream if way == "streamed" else data), program.init(seed)

    # By turns, so that a machine whose speed changes does so for both; the first turn is not counted.
    times: dict[str, list[float]] = {way: [] for way in ways}
    blocked = []
    for turn in range(turns + 1):
        for way, (program, data) in ways.items():
            draws = draws_of_epoch(seed, turn, training, images=len(data.labels))
            draws = jax.tree.map(lambda each: each[:steps], draws)
            start = time.perf_counter()
            states[way], loss = program.epoch(states[way], data, draws, schedule)
            loss.block_until_ready()
            times[way].append(time.perf_counter() - start)
            if way == "streamed":
                blocked.append(data.waited.pop())
    streamed, on_device = (statistics.median(times[way][1:]) for way in ("streamed", "on_device"))
    shares = [[wait / time for wait in waits] for waits, time in zip(blocked, times["streamed"], strict=True)][1:]
    ratios = [one / other for one, other in zip(times["streamed"][1:], times["on_device"][1:], strict=True)]
    return {
        "case": name,
        "pictures": count,
        "size": size,
        "resolution": resolution,
        "made_per_s": round(count / made, 1) if made > 1 else None,
        "read_s": round(read, 2),
        "prepared_per_s": round(sum(recipe.shape[0] for recipe in recipes) / prepared, 1),
        "prepared_s": round(prepared, 2),
        "mapped_s": round(again, 4),
        "macs": complexity(spec).macs,
        "batch": batch,
        "steps": steps,
        "step_ms": round(1e3 * streamed / steps, 2),
        "step_on_device_ms": round(1e3 * on_device / steps, 2),
        "waiting": round(statistics.median(map(sum, shares)), 4),
        "waiting_for_the_first_chunk": round(statistics.median(share[0] for share in shares), 4),
        "slower": round(statistics.median(ratios) - 1, 4),
    }


def timed(stream: Any) -> Any:
    """A stream that records, for each epoch, how long each of its chunks was waited for."""
    from scalesearch.data.stream import ImageStream

    class Timed(ImageStream):
        waited: list[list[float]] = []  # noqa: RUF012  # one stream at a time

        def train_chunks(self, order: Any, sharding: Any = None, first: int = 0) -> Iterator[Any]:
            waits, chunks = list[float](), super().train_chunks(order, sharding, first)
            try:
                while True:
                    start = time.perf_counter()
                    chunk = next(chunks, None)
                    waits.append(time.perf_counter() - start)
                    if chunk is None:
                        break
                    yield chunk
            finally:
                chunks.close()
                self.waited.append(waits)

    names = ("images", "labels", "val_images", "val_labels", "mean", "std", "chunk_bytes")
    return Timed(*(getattr(stream, name) for name in names))


def seconds(action: Any) -> float:
    """How long an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def make_pictures(folder: Path, count: int, size: tuple[int, int], processes: int) -> None:
    """Pictures as large on disk as photographs are, with a folder for each class; unless they are there."""
    done = folder / "done"
    if done.exists() and done.read_text(encoding="utf-8") == f"{count} {size}":
        return
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
    step = 50
    with ProcessPoolExecutor(processes) as pool:
        jobs = [(folder, first, min(step, count - first), size) for first in range(0, count, step)]
        made = 0
        for number in pool.map(make_some, jobs):
            made += number
            print(f"\r{made:,} of {count:,} pictures", end="", file=sys.stderr)
    print(file=sys.stderr)
    done.write_text(f"{count} {size}", encoding="utf-8")


def make_some(job: tuple[Path, int, int, tuple[int, int]]) -> int:
    """Some pictures: colours that flow into one another, with the grain of a photograph."""
    folder, first, count, size = job
    for number in range(first, first + count):
        draws = random.Random(number)
        base = Image.new("RGB", (6, 5))
        base.putdata([tuple(draws.randbytes(3)) for _ in range(30)])
        noise = Image.frombytes("L", (97, 89), draws.randbytes(97 * 89)).resize(size, Image.Resampling.BILINEAR)
        picture = base.resize(size, Image.Resampling.BICUBIC)
        picture = ImageChops.blend(picture, Image.merge("RGB", (noise, noise, noise)), 0.15)
        picture.save(folder / f"class{number % CLASSES}" / f"{number:06}.jpg", quality=90)
    return count


if __name__ == "__main__":
    sys.exit(main())
