"""Images at one resolution, made once and kept on disk: all processes of this machine map the same file."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from jaxtyping import Int, UInt8

from scalesearch.data.decoding import decode_in_parts
from scalesearch.data.images import DataError, Pictures
from scalesearch.data.kept import CannotKeep, KeptImages, PartFile, Record
from scalesearch.data.statistics import level_counts
from scalesearch.runtime.cache import image_folder
from scalesearch.runtime.doctor import Finding
from scalesearch.runtime.text import plural

LIMIT_BYTES = 64e9
"""Size of the cache, beyond which sets that nobody uses are removed, those first that were not used for longest."""

SPARE_BYTES = 256e6
"""What stays free on the disk."""

MEMORY_SHARE = 0.5
"""The share of the machine's memory that images may take where they cannot be kept on disk."""

_VERSION = 1
_SAVE_SECONDS = 5.0

OnDone = Callable[[int, int, int], object]
"""Called with the resolution of the images that are made, and how many are made of how many."""

Parts = Generator[UInt8[np.ndarray, "m r r c"], None, None]
"""Images, part after part."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a set of images.

    Attributes:
        key: names the set; other images have another key.
        shape: (n, r, r, c).
        make: the images from a place on.
    """

    key: str
    shape: tuple[int, int, int, int]
    make: Callable[[int], Parts]

    @property
    def bytes_per_image(self) -> int:
        """Bytes of one image."""
        return math.prod(self.shape[1:])

    @property
    def bytes(self) -> int:
        """Bytes of all images."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class MadeImages:
    """Images of a recipe, read only, and how often each grey level occurs in each of their channels."""

    pixels: UInt8[np.ndarray, "n r r c"]
    counts: Int[np.ndarray, "c 256"]


def recipe_of(pictures: Pictures, resolution: int) -> Recipe:
    """How `pictures` become square images of `resolution` pixels."""
    settings = f"{_VERSION} pictures {pictures.channels} {pictures.fit} {resolution} {PIL.__version__} "
    digest = hashlib.sha256(settings.encode())
    digest.update(np.ascontiguousarray(pictures.hashes).data)
    return Recipe(
        digest.hexdigest()[:32],
        (len(pictures), resolution, resolution, pictures.channels),
        lambda start: decode_in_parts(pictures, resolution, start),
    )


class ImageCache:
    """Makes images, or finds them where they are kept.

    Args:
        folder: where they are kept; None for the user's cache folder.
        limit_bytes: the size beyond which unused sets are removed.
        spare_bytes: what stays free on the disk.
        memory_bytes: how large a set may be that cannot be kept on disk; None for half of the machine's memory.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        limit_bytes: float = LIMIT_BYTES,
        spare_bytes: float = SPARE_BYTES,
        memory_bytes: float | None = None,
    ) -> None:
        self._kept = KeptImages(image_folder() if folder is None else folder)
        self._limit, self._spare = limit_bytes, spare_bytes
        self._memory = _physical_memory() * MEMORY_SHARE if memory_bytes is None else memory_bytes

    def images(self, recipe: Recipe, on_done: OnDone = lambda resolution, done, total: None) -> MadeImages:
        """The images of `recipe`: mapped if they are kept, else made.

        What an interrupt leaves is used next time. Another process that makes the same images is waited for. Where
        they cannot be kept, they are made in memory, with a warning.

        Raises:
            DataError: they fit neither on the disk nor into memory, or one cannot be read.
        """
        if not recipe.bytes:
            return MadeImages(np.empty(recipe.shape, np.uint8), np.zeros((recipe.shape[-1], 256), np.int64))
        try:
            return self._find_or_make(recipe, on_done)
        except CannotKeep as problem:
            self._check_memory(recipe.bytes, problem)
            warnings.warn(
                f"decoded images are not kept: {problem}; each network makes its own in memory, which takes time; "
                f"SCALESEARCH_CACHE_DIR names another folder",
                stacklevel=2,
            )
        pixels, done = np.empty(recipe.shape, np.uint8), 0
        with contextlib.closing(recipe.make(0)) as parts:
            for part in parts:
                pixels[done : done + len(part)] = part
                done += len(part)
                on_done(recipe.shape[1], done, recipe.shape[0])
        return MadeImages(pixels, level_counts(pixels))

    def build(
        self, recipes: Sequence[Recipe], on_done: OnDone = lambda resolution, done, total: None
    ) -> list[MadeImages]:
        """Makes all images of `recipes` that are not kept yet; no set is removed as long as the result lives.

        Where not all of them can be kept, only a warning says so: whoever needs them makes them.

        Args:
            recipes: what to make.
            on_done: called if there is something to make, with its progress over all of it.

        Raises:
            DataError: some fit neither on the disk nor into memory, or one image cannot be read.
        """
        recipes = [recipe for recipe in recipes if recipe.bytes]
        made: list[MadeImages] = []
        try:
            if recipes:
                self._kept.prepare()
            # Those that are there are mapped first, so that none is removed to make room for the others.
            missing: list[Recipe] = []
            for recipe in recipes:
                found = self._find(recipe)
                if found is None:
                    missing.append(recipe)
                else:
                    made.append(found)
            self._make_room(missing)
            total, before = sum(recipe.shape[0] for recipe in missing), 0

            def on_part(resolution: int, done: int, _: int) -> None:
                on_done(resolution, before + done, total)

            for recipe in missing:
                made.append(self._find_or_make(recipe, on_part))
                before += recipe.shape[0]
        except CannotKeep as problem:
            self._check_memory(max(recipe.bytes for recipe in recipes), problem)
            warnings.warn(
                f"decoded images are not all kept: {problem}; SCALESEARCH_CACHE_DIR names another folder", stacklevel=2
            )
        return made

    def size(self) -> tuple[int, int]:
        """How many sets are kept, and how many bytes they take."""
        return self._kept.size()

    def _find_or_make(self, recipe: Recipe, on_done: OnDone) -> MadeImages:
        self._kept.prepare()
        found = self._find(recipe)
        if found is not None:
            return found
        with self._kept.locked(recipe.key):
            return self._find(recipe) or self._make(recipe, on_done)

    def _find(self, recipe: Recipe) -> MadeImages | None:
        """The images, if they are complete."""
        record = self._kept.record(recipe.key, recipe.shape)
        if record is None or record.images != recipe.shape[0]:
            return None
        pixels = self._kept.map(recipe.key, recipe.shape)
        return None if pixels is None else MadeImages(pixels, record.counts)

    def _made(self, recipe: Recipe) -> Record:
        """How far an earlier process came."""
        record = self._kept.record(recipe.key, recipe.shape)
        if record is None or self._kept.bytes_made(recipe.key) < record.images * recipe.bytes_per_image:
            return Record(0, np.zeros((recipe.shape[-1], 256), np.int64))
        return record

    def _make(self, recipe: Recipe, on_done: OnDone) -> MadeImages:
        """Makes the images from where an earlier process stopped. Its caller holds their lock."""
        self._make_room([recipe])
        record = self._made(recipe)
        with (
            self._kept.open_part(recipe.key, record.images * recipe.bytes_per_image) as part,
            contextlib.closing(recipe.make(record.images)) as parts,
        ):
            try:
                record = self._write(recipe, record, parts, part, on_done)
            except CannotKeep:
                self._kept.remove_files(recipe.key)
                raise
        self._kept.complete(recipe.key)
        found = self._find(recipe)
        if found is None:
            raise CannotKeep(f"{self._kept.folder} does not keep what is written to it")
        return found

    def _write(self, recipe: Recipe, record: Record, parts: Parts, part: PartFile, on_done: OnDone) -> Record:
        """Writes all that is left, and records how far it is, now and then and whatever ends it."""
        saved = time.monotonic()
        try:
            for images in parts:
                part.write(images)
                record = Record(record.images + len(images), record.counts + level_counts(images))
                on_done(recipe.shape[1], record.images, recipe.shape[0])
                if time.monotonic() - saved > _SAVE_SECONDS:
                    part.save(record)
                    saved = time.monotonic()
        except CannotKeep:
            raise
        except BaseException:
            with contextlib.suppress(CannotKeep):
                part.save(record)
            raise
        part.save(record)
        return record

    def _make_room(self, recipes: Sequence[Recipe]) -> None:
        """Raises `CannotKeep` if the disk has too little room for what is to be made of `recipes`."""
        if not recipes:
            return
        needed = sum(recipe.bytes - self._made(recipe).images * recipe.bytes_per_image for recipe in recipes)
        free = self._kept.make_room(needed, {recipe.key for recipe in recipes}, self._limit, self._spare)
        if free < needed:
            images = plural(sum(recipe.shape[0] for recipe in recipes), "image")
            raise CannotKeep(
                f"{images} need {_gigabytes(needed)} in {self._kept.folder}, where {_gigabytes(free)} are free"
            )

    def _check_memory(self, needed: int, problem: CannotKeep) -> None:
        if needed > self._memory:
            raise DataError(
                f"decoded images fit neither on disk nor into memory: {problem}; in memory they may take "
                f"{_gigabytes(self._memory)}; SCALESEARCH_CACHE_DIR names another folder"
            )


def examine_images() -> Finding:
    """The cache of decoded images: where it is and how much it holds."""
    count, size = ImageCache().size()
    text = f"{image_folder()}: {plural(count, 'set')}, {_gigabytes(size)} of {_gigabytes(LIMIT_BYTES)}"
    return Finding("image cache", text, good=True)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.2f} GB"


def _physical_memory() -> float:
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return math.inf
