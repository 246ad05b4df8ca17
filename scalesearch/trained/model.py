"""A trained network that classifies images: what `trained.opening.load_model` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from scalesearch.data.arrays import made_square
from scalesearch.data.files import free_memory
from scalesearch.data.images import DataError
from scalesearch.data.loose import Picture, square_images
from scalesearch.data.resize import resize_in_parts
from scalesearch.errors import InputError
from scalesearch.runtime.jax_settings import check_jax
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.training import Precision
from scalesearch.trained.card import ModelCard, NamedArrays, Preprocessing
from scalesearch.trained.leaves import arranged, check_size
from scalesearch.trained.program import BATCHES, Programs
from scalesearch.trained.weights import WEIGHTS_FILE, read_folder

Images: TypeAlias = "UInt8[np.ndarray, 'n h w c'] | UInt8[np.ndarray, 'h w c'] | Picture | Sequence[Picture]"
"""Grey levels of one image or of several of one size, the file of a picture, a picture of Pillow, or a list of them."""


_ONE_BY_ONE = 4
"""So few images are no batch, which would take as long as a full one."""


class Model:
    """A trained network that classifies images of any size.

    Images are made square, resized and standardised exactly as the validation images in training. On a CPU the network
    computes in float32, on an accelerator in the precision of its training.

    Attributes:
        card: the network, how images become its input, and where it comes from.
        spec: the network, at the resolution of its evaluation.
    """

    def __init__(self, card: ModelCard, arrays: NamedArrays, where: str = "weights") -> None:
        """Checks that `arrays`, by their plain names, are those of the card's network; `where` names them in errors.

        Raises `InputError`: the card has no preprocessing, or arrays are missing, left over, of another shape or not
        finite.
        """
        if card.preprocessing is None:
            raise InputError(f"{where}: a definition without trained weights cannot classify images")
        self.card = card
        self._how: Preprocessing = card.preprocessing
        self.spec: ArchitectureSpec = dataclasses.replace(card.spec, resolution=card.preprocessing.resolution)
        check_size(self.spec, arrays, where)
        side = self.spec.resolution
        if 4 * side**2 * self.spec.in_channels > free_memory() / 2:
            raise InputError(
                f"{where}: an image of {side:,} px, `resolution` of the preprocessing, does not fit into memory"
            )
        check_jax()
        bfloat16 = card.training.get("precision") == "bfloat16" and jax.default_backend() != "cpu"
        precision: Precision = "bfloat16" if bfloat16 else "float32"
        self._programs = Programs(self.spec, precision)
        self._arrays = jax.device_put(arranged(arrays, self._programs.leaves, where))
        self._mean, self._std = (np.asarray(values, np.float32) for values in (self._how.mean, self._how.std))

    def __repr__(self) -> str:
        side, channels = self._how.resolution, "grey" if self.spec.in_channels == 1 else "colour"
        return f"<Model {self.card.name}: {side}×{side} px, {channels}, {self.spec.num_classes} classes>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the order of the probabilities; numbers if the data had no names."""
        return self.card.classes or tuple(map(str, range(self.spec.num_classes)))

    def __call__(self, images: Images) -> Float[np.ndarray, "n classes"]:
        """The probability of each class for each image.

        Args:
            images: uint8 grey levels of shape (n, h, w, c) or (h, w, c), of any size; or the path of a picture, a
                picture of Pillow, or a list of these.

        Raises:
            InputError: an array of another type or number of channels, or a picture that cannot be read.
        """
        return softmax(self.logits(images))

    def logits(self, images: Images) -> Float[np.ndarray, "n classes"]:
        """What the softmax of the probabilities is taken of; arguments as for a call."""
        parts = [self.serve(part) for part in self._squares(images)]
        return np.concatenate(parts) if parts else np.zeros((0, self.spec.num_classes), np.float32)

    def serve(self, squares: UInt8[np.ndarray, "n r r c"]) -> Float[np.ndarray, "n classes"]:
        """Logits of images that have the network's resolution already."""
        size = BATCHES[0] if len(squares) <= _ONE_BY_ONE else BATCHES[-1]
        program, logits = self._programs[size], []
        for start in range(0, len(squares), size):
            part = squares[start : start + size]
            padded = np.pad(part, [(0, size - len(part)), (0, 0), (0, 0), (0, 0)])
            logits.append(np.asarray(program(self._arrays, padded, self._mean, self._std))[: len(part)])
        return np.concatenate(logits)

    def squares(self, images: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n r r c"]:
        """Images of any one size as the network takes them, before they are standardised."""
        square, side = made_square(images, self._how.fit), self._how.resolution
        return square if square.shape[1] == side else np.concatenate(list(resize_in_parts(square, side)))

    def each(self, pictures: Sequence[Picture]) -> list[Float[np.ndarray, " classes"] | DataError]:
        """The probabilities of each picture, or why it cannot be read: the others do not suffer from it."""
        read = self._read(pictures)
        whole = [one for one in read if not isinstance(one, DataError)]
        rows = iter(softmax(self.serve(np.stack(whole))) if whole else ())
        return [one if isinstance(one, DataError) else next(rows) for one in read]

    def _read(self, pictures: Sequence[Picture]) -> list[UInt8[np.ndarray, "r r c"] | DataError]:
        return square_images(pictures, self.spec.in_channels, self._how.resolution, self._how.fit)

    def _squares(self, images: Images) -> Iterator[UInt8[np.ndarray, "n r r c"]]:
        """The images at the network's resolution, in parts of the size of a batch."""
        size = BATCHES[-1]
        if isinstance(images, np.ndarray):
            whole = self._checked(images)
            for start in range(0, len(whole), size):
                part = whole[start : start + size]
                yield self.squares(part)
            return
        listed = [images] if isinstance(images, str | Path | Image.Image) else list(images)
        for item in listed:
            if not isinstance(item, str | Path | Image.Image):
                raise InputError(
                    f"`images` must be a uint8 array, or paths or pictures of Pillow, but got a {type(item).__name__}"
                )
        for start in range(0, len(listed), size):
            read = self._read(listed[start : start + size])
            for one in read:
                if isinstance(one, DataError):
                    raise one
            yield np.stack(cast("list[np.ndarray]", read))

    def _checked(self, images: np.ndarray) -> UInt8[np.ndarray, "n h w c"]:
        whole = images[None] if images.ndim == 3 else images
        channels = self.spec.in_channels
        if images.dtype != np.uint8 or whole.ndim != 4 or whole.shape[3] != channels or not all(whole.shape[1:]):
            raise InputError(
                f"`images` must be uint8 of shape (n, h, w, {channels}) or (h, w, {channels}), but got {images.dtype} "
                f"{images.shape}"
            )
        return whole


def read_model(folder: Path) -> Model:
    """The trained model in `folder`, with code of the user's own from where this process looks already."""
    return Model(*read_folder(folder), str(folder / WEIGHTS_FILE))


def softmax(logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """e^z / Σ e^z of each row.

    >>> softmax(np.array([[0.0, 0.0]], np.float32)).tolist()
    [[0.5, 0.5]]
    """
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(1, keepdims=True)
    return shares
