"""The weights of a trained model in its folder: weights.safetensors, by their plain names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scalesearch.errors import InputError
from scalesearch.runtime.files import check_file, write_whole
from scalesearch.runtime.text import first_line
from scalesearch.trained.card import ModelCard, NamedArrays, read_card

WEIGHTS_FILE = "weights.safetensors"


def write_weights(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes float32 `arrays` as weights.safetensors, at once or not at all."""
    from safetensors.numpy import save_file

    # Contiguous: the library writes the memory of an array as it lies (safetensors#825).
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_whole(folder / WEIGHTS_FILE, lambda path: save_file(whole, path))


def read_weights(path: Path) -> NamedArrays:
    """The arrays of a safetensors file, by the names in it. Raises `InputError` if it is not a whole one."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    check_file(path)
    try:
        return load_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file ({first_line(error)})") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # numbers of 8 bits, more than 64 axes
        raise InputError(f"{path}: holds an array that numpy cannot ({first_line(error)})") from None


def read_folder(folder: Path) -> tuple[ModelCard, NamedArrays]:
    """The card and the weights of a trained model. Raises `InputError` if one of them is not there or not whole."""
    card, path = read_card(folder), folder / WEIGHTS_FILE
    if not path.exists():
        raise InputError(f"{folder}: half a model: its folder lacks {WEIGHTS_FILE}")
    return card, read_weights(path)


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """A SHA-256 over the names, types, shapes and numbers of arrays."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
