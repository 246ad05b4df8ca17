"""The arrays and the configuration in a file that Keras wrote, by the names of layers: h5py and JSON, nothing else."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from scalesearch.errors import InputError
from scalesearch.runtime.files import check_file
from scalesearch.runtime.text import first_line

# The variables of a layer by their number: Keras stores them in this order, in most files without their names.
_VARIABLES: Mapping[int, tuple[str, ...]] = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    3: ("mean", "variance", "count"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
_LONGEST_CONFIGURATION = 2**26  # bytes; that of EfficientNetB7 has a million


class KerasFile(NamedTuple):
    """`arrays` by "layer/variable", and the configurations of `layers` in their order; none in a file of weights."""

    arrays: dict[str, np.ndarray]
    layers: dict[str, Mapping[str, Any]]


def read_file(path: Path) -> KerasFile:
    """What is in a .keras file, a .weights.h5 file, or an .h5 file with weights or a model.

    Raises `InputError` if it cannot be read as one. Memory is bounded by the size of the file.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise InputError(f"{path}: needs the package h5py: pip install 'scalesearch[keras]'") from None
    check_file(path)
    try:
        with _opened(path) as (stream, text), h5py.File(stream, "r") as root:
            arrays = dict(_arrays(root, path.stat().st_size))
            configuration = text or _text(root.attrs.get("model_config", ""))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    # Damaged files make these libraries raise almost anything.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a whole file of Keras ({first_line(error)})") from None
    return KerasFile(arrays, _layers(configuration, path))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """The HDF5 file at `path`, or the one in it, and the text of the configuration."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            yield stream, ""
        return
    with zipfile.ZipFile(path) as archive:
        configuration, weights = (archive.getinfo(name) for name in ("config.json", "model.weights.h5"))
        if weights.compress_type != zipfile.ZIP_STORED:
            raise InputError("model.weights.h5 in it must not be compressed, as Keras writes it")
        if configuration.file_size > _LONGEST_CONFIGURATION:
            raise InputError(f"config.json in it must be at most {_LONGEST_CONFIGURATION:,} bytes")
        text = archive.read(configuration).decode()
        yield io.BytesIO(archive.read(weights)), text  # to seek in the archive would read it again and again


def _arrays(root: Any, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Each array by "layer/variable"."""
    for layer, datasets in _groups(root):
        if len(datasets) not in _VARIABLES:
            raise InputError(f"`{layer}` must have at most 4 variables, but has {len(datasets)}")
        for variable, dataset in zip(_VARIABLES[len(datasets)], datasets, strict=True):
            # Links to other files, and shapes that promise more than the file holds, are not followed.
            if dataset.is_virtual or dataset.external or dataset.nbytes > size:
                raise InputError(f"`{layer}/{variable}` is not in the file itself")
            size -= dataset.nbytes
            yield f"{layer}/{variable}", np.asarray(dataset[()])


def _groups(root: Any) -> Iterator[tuple[str, list[Any]]]:
    """Each layer with variables, and those in their order."""
    if "layers" in root and "layer_names" not in root.attrs:  # Keras 3
        for layer in _member(root, "layers"):
            group = _member(root, f"layers/{layer}")
            if "vars" not in group or not len(_member(group, "vars")):
                continue
            group = _member(group, "vars")
            if "name" not in group.attrs:
                raise InputError(
                    "it does not name its layers: load it with a newer version of Keras 3, and save it again"
                )
            yield _text(group.attrs["name"]), [_member(group, key) for key in sorted(group)]
        return
    root = _member(root, "model_weights") if "model_weights" in root else root
    if "layer_names" not in root.attrs:
        raise InputError("it holds no layers of Keras")
    for name in map(_text, root.attrs["layer_names"]):
        group = _member(root, name)
        datasets = [_member(group, _text(each)) for each in group.attrs["weight_names"]]
        if datasets:
            yield name, datasets


def _member(group: Any, path: str) -> Any:
    """What is in `group` at `path`. A link could lead to any other file of this machine: raises `InputError`."""
    import h5py

    for part in path.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise InputError(f"`{part}` in it is a link")
        group = group[part]
    return group


def _layers(text: str, path: Path) -> dict[str, Mapping[str, Any]]:
    if not text:
        return {}
    try:
        document = json.loads(text)["config"]["layers"]
        layers = {layer["config"]["name"]: layer["config"] for layer in document}
        if not all(isinstance(name, str) and isinstance(layer, dict) for name, layer in layers.items()):
            raise TypeError
        return layers
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InputError(f"{path}: its configuration is not that of a network of Keras") from None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
