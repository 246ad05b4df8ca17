"""`load_model` and `evaluate`: a network that classifies images, from a folder of ours or a file of another library."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from scalesearch.export.opened import is_foreign, open_network
from scalesearch.runtime.modules import look_in
from scalesearch.trained.evaluation import Evaluation, OnImages, evaluate_images
from scalesearch.trained.labelled import SplitName, labelled_images
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


def evaluate(
    model: Model | str | os.PathLike[str],
    data: str | None = None,
    split: SplitName | None = None,
    *,
    on_images: OnImages = lambda done, total: None,
) -> Evaluation:
    """How good a model is on labelled images.

    Args:
        model: the model, or what `load_model` takes.
        data: a data source, such as `folder:DIR`; None for the data that it was trained on.
        split: `test`, `validation` or `train`; None for test if there are test images, else validation; of a source
            that is one set, all of it.
        on_images: called with how many images are evaluated of how many.

    Raises:
        InputError: there is no whole model, the data cannot be read, lack the split, or have other classes or channels.
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    labelled = labelled_images(loaded.card, data, split)
    for note in labelled.notes:
        warnings.warn(f"{labelled.source}: {note}", stacklevel=2)
    return evaluate_images(loaded, labelled, on_images=on_images)
