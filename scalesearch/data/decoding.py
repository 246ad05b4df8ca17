"""Decoding many pictures at once, by all cores."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
from jaxtyping import UInt8

from scalesearch.data.images import Pictures
from scalesearch.data.picture_facts import quiet_pillow
from scalesearch.data.pictures import decoded
from scalesearch.runtime import interrupts
from scalesearch.runtime.cores import usable_cores

_CHUNK = 32
"""Pictures that a thread decodes before it takes the next ones."""

_POLL_SECONDS = 0.1


def decode_in_parts(
    pictures: Pictures, resolution: int, start: int = 0
) -> Generator[UInt8[np.ndarray, "m r r c"], None, None]:
    """The pictures from place `start` on as square images of `resolution` pixels, part after part, in their order.

    Decoded by all cores: Pillow lets other threads run meanwhile. An interrupt stops it between two parts.
    """
    stopped = threading.Event()

    def decode(first: int) -> UInt8[np.ndarray, "m r r c"]:
        size = min(_CHUNK, len(pictures) - first)
        images = np.empty((size, resolution, resolution, pictures.channels), np.uint8)
        for place in range(size):
            if stopped.is_set():  # a large picture takes a second
                break
            picture = pictures.open(first + place)
            images[place] = decoded(picture, pictures.channels, resolution, pictures.fit)
        return images

    threads = len(usable_cores())
    waiting: deque[Future[UInt8[np.ndarray, "m r r c"]]] = deque()
    with quiet_pillow(), ThreadPoolExecutor(threads) as pool:
        try:
            for first in range(start, len(pictures), _CHUNK):
                waiting.append(pool.submit(decode, first))
                if len(waiting) > 2 * threads:  # what waits is bounded
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[UInt8[np.ndarray, "m r r c"]]) -> UInt8[np.ndarray, "m r r c"]:
    """The result, as soon as it is there. Waits where an interrupt gets through."""
    while not future.done():
        interrupts.check()
        wait([future], timeout=_POLL_SECONDS)
    interrupts.check()
    return future.result()
