"""`scalesearch.load_model`: a network that classifies images, from a folder of ours or a file of another library."""

from __future__ import annotations

import os
from pathlib import Path

from scalesearch.export.opened import is_foreign, open_network
from scalesearch.runtime.modules import look_in
from scalesearch.trained.model import Model, read_model


def load_model(source: str | os.PathLike[str]) -> Model:
    """The trained model in a folder that `scalesearch train` wrote, or one of another library.

    The first call for a network on a machine compiles it; later ones take what is kept of that.

    Args:
        source: the folder, or `timm:FILE.safetensors`, `torchvision:FILE.pth`, `keras:FILE`, `transformers:FOLDER`.

    Raises:
        InputError: there is no whole model of this or an earlier version, or weights do not fit its network.

    >>> load_model("no such folder")
    Traceback (most recent call last):
    scalesearch.errors.InputError: no such folder: no trained model there (its folder holds a model.json)
    """
    if is_foreign(source):
        return Model(*open_network(source), os.fspath(source))
    folder = Path(source)
    look_in(folder, Path.cwd())  # for networks with code of the user's own
    return read_model(folder)
