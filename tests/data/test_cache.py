"""Decoded images on disk: made once, resumed, shared, private, bounded; in memory where the disk will not do."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from PIL import Image

from scalesearch.data.cache import ImageCache, Recipe, examine_images, recipe_of
from scalesearch.data.images import DataError, Fit, Pictures
from scalesearch.data.pictures import decoded
from scalesearch.data.statistics import level_counts

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)


class Drawn(Pictures):
    """Pictures of two sizes, each of its own colour."""

    channels = 3

    def __init__(self, numbers: np.ndarray, fit: Fit = "crop") -> None:
        self.fit, self.numbers = fit, numbers
        self.sizes = np.array([(20 + 10 * (number % 2), 30) for number in numbers]).reshape(-1, 2)
        self.hashes = np.repeat(numbers.astype(np.uint8)[:, None], 16, 1)

    def __getitem__(self, index: np.ndarray) -> Self:
        return type(self)(self.numbers[index], self.fit)

    def open(self, place: int) -> Image.Image:
        height, width = self.sizes[place].tolist()
        return Image.new("RGB", (width, height), (int(self.numbers[place]), 0, 255))


def recipe(key: str = "some", parts: Callable[[int], Generator[np.ndarray, None, None]] | None = None) -> Recipe:
    def make(start: int) -> Generator[np.ndarray, None, None]:
        for first in range(start, len(PIXELS), 2):
            yield PIXELS[first : first + 2]

    return Recipe(key, PIXELS.shape, parts or make)


def never(start: int) -> Generator[np.ndarray, None, None]:
    pytest.fail(f"made again from image {start} on")
    yield PIXELS


def test_pictures_are_made_once_in_their_order_and_mapped_read_only(tmp_path: Path) -> None:
    pictures = Drawn(np.arange(100) % 7)
    cache, calls = ImageCache(tmp_path / "new" / "images"), []
    made = cache.images(recipe_of(pictures, 8), lambda *call: calls.append(call))
    assert calls[-1] == (8, 100, 100)
    expected = [decoded(pictures.open(place), 3, 8, "crop") for place in range(100)]
    np.testing.assert_array_equal(made.pixels, expected)
    np.testing.assert_array_equal(made.pixels[:, 0, 0, 0], np.arange(100) % 7)
    np.testing.assert_array_equal(made.counts, level_counts(made.pixels))
    with pytest.raises(ValueError, match="read-only"):
        made.pixels[0] = 0
    calls.clear()
    again = ImageCache(tmp_path / "new" / "images").images(recipe_of(pictures, 8), lambda *call: calls.append(call))
    np.testing.assert_array_equal(again.pixels, made.pixels)
    np.testing.assert_array_equal(again.counts, made.counts)
    assert calls == []


def test_other_pictures_sizes_and_fits_are_other_sets() -> None:
    numbers = np.arange(5)
    recipes = [
        recipe_of(Drawn(numbers), 8),
        recipe_of(Drawn(numbers), 9),
        recipe_of(Drawn(numbers, "pad"), 8),
        recipe_of(Drawn(numbers[::-1]), 8),
    ]
    assert len({each.key for each in recipes}) == 4
    assert recipe_of(Drawn(numbers), 8).key == recipes[0].key


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    ImageCache(folder).images(recipe())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def broken(start: int, error: type[BaseException] = KeyboardInterrupt) -> Generator[np.ndarray, None, None]:
    yield PIXELS[start : start + 2]
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError])
def test_an_interrupted_preparation_goes_on_where_it_stopped(tmp_path: Path, error: type[BaseException]) -> None:
    starts = []

    def rest(start: int) -> Generator[np.ndarray, None, None]:
        starts.append(start)
        yield PIXELS[start:]

    cache = ImageCache(tmp_path)
    for _ in range(2):
        with pytest.raises(error):
            cache.images(recipe(parts=lambda start: broken(start, error)))
    with next(tmp_path.glob("*.part")).open("ab") as stream:
        stream.write(b"half an image, when the power failed")
    made = cache.images(recipe(parts=rest))
    assert starts == [4]
    np.testing.assert_array_equal(made.pixels, PIXELS)
    np.testing.assert_array_equal(made.counts, level_counts(PIXELS))


@pytest.mark.parametrize("suffix", ["pixels", "json"])
def test_a_damaged_set_is_made_again(tmp_path: Path, suffix: str) -> None:
    ImageCache(tmp_path).images(recipe())
    (tmp_path / f"some.{suffix}").write_bytes(b"{}")
    with pytest.raises(KeyboardInterrupt):
        ImageCache(tmp_path).images(recipe(parts=broken))
    made = ImageCache(tmp_path).images(recipe())
    np.testing.assert_array_equal(made.pixels, PIXELS)
    np.testing.assert_array_equal(made.counts, level_counts(PIXELS))


def test_any_changed_byte_of_the_counts_is_noticed(tmp_path: Path) -> None:
    ImageCache(tmp_path).images(recipe())
    whole = (tmp_path / "some.json").read_bytes()
    for place in range(3, len(whole), 101):
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / "some.json").write_bytes(changed)
        made = ImageCache(tmp_path).images(recipe())
        np.testing.assert_array_equal(made.pixels, PIXELS)
        np.testing.assert_array_equal(made.counts, level_counts(PIXELS))


def test_who_comes_second_waits_for_the_first(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(start: int) -> Generator[np.ndarray, None, None]:
        begun.set()
        go_on.wait(10)
        yield PIXELS

    first = threading.Thread(target=lambda: ImageCache(tmp_path).images(recipe(parts=slow)))
    first.start()
    begun.wait(10)
    found = []
    second = threading.Thread(target=lambda: found.append(ImageCache(tmp_path).images(recipe(parts=never))))
    second.start()
    time.sleep(0.05)
    assert not found
    go_on.set()
    first.join(10)
    second.join(10)
    np.testing.assert_array_equal(found[0].pixels, PIXELS)


@pytest.mark.skipif(os.name != "posix", reason="POSIX locks")
def test_beyond_the_limit_what_nobody_uses_goes_the_oldest_first(tmp_path: Path) -> None:
    used = ImageCache(tmp_path).images(recipe("used"))
    cache = ImageCache(tmp_path, limit_bytes=3 * ImageCache(tmp_path).size()[1])
    for age, key in enumerate(["newer", "older"]):
        cache.images(recipe(key))
        past = time.time() - 1000 * (age + 1)
        for kind in ("pixels", "json"):
            os.utime(tmp_path / f"{key}.{kind}", (past, past))
    os.utime(tmp_path / "used.json", (0, 0))
    os.utime(tmp_path / "used.pixels", (0, 0))
    cache.images(recipe("last"))
    assert {path.stem for path in tmp_path.glob("*.pixels")} == {"used", "newer", "last"}
    np.testing.assert_array_equal(used.pixels, PIXELS)
    del used
    cache.images(recipe("one more"))
    assert "used" not in {path.stem for path in tmp_path.glob("*.pixels")}


def test_a_build_makes_what_is_missing_and_counts_over_all_of_it(tmp_path: Path) -> None:
    cache, calls = ImageCache(tmp_path), []
    cache.images(recipe("there"))
    empty = Recipe("empty", (0, 4, 4, 3), never)
    made = cache.build([recipe("one"), recipe("there", never), empty, recipe("two")], lambda *call: calls.append(call))
    assert calls == [(4, done, 12) for done in (2, 4, 6, 8, 10, 12)]
    assert len(made) == 3
    assert cache.size()[0] == 3
    calls.clear()
    cache.build([recipe("one", never), recipe("two", never)], lambda *call: calls.append(call))
    assert calls == []
    assert cache.build([]) == []


def test_where_the_disk_will_not_do_they_are_made_in_memory_if_they_fit(tmp_path: Path) -> None:
    full = ImageCache(tmp_path, spare_bytes=1e18)
    with pytest.warns(UserWarning, match=r"not kept: 6 images need 0\.00 GB in .*, where 0\.00 GB are free; each netw"):
        made = full.images(recipe())
    np.testing.assert_array_equal(made.pixels, PIXELS)
    np.testing.assert_array_equal(made.counts, level_counts(PIXELS))
    with pytest.warns(UserWarning, match=r"not all kept: 12 images need .* SCALESEARCH_CACHE_DIR names another"):
        assert full.build([recipe("one", never), recipe("two", never)]) == []
    assert not list(tmp_path.glob("*.part"))

    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="must be yours and writable, but (File exists|Not a directory)"):
        ImageCache(tmp_path / "file").images(recipe())

    nowhere = ImageCache(tmp_path, spare_bytes=1e18, memory_bytes=10)
    for use in (nowhere.images, lambda recipe: nowhere.build([recipe])):
        with pytest.raises(DataError, match=r"neither on disk nor into memory: 6 images need .* SCALESEARCH_CACHE_DIR"):
            use(recipe(parts=never))


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PIXELS.nbytes // 2, limits[1]))
    try:
        with pytest.warns(UserWarning, match="not kept: .*: File too large; each network makes its own"):
            made = ImageCache(tmp_path).images(recipe())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    np.testing.assert_array_equal(made.pixels, PIXELS)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_the_doctor_says_how_much_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path))
    assert examine_images().text == f"{tmp_path / 'images'}: 0 sets, 0.00 GB of 64.00 GB"
    ImageCache().images(recipe())
    assert examine_images().text == f"{tmp_path / 'images'}: 1 set, 0.00 GB of 64.00 GB"
