"""Logits of our network and of others', in numpy."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from flax import nnx

from scalesearch.models.names import state_of
from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.own import build_network
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.trained.card import NamedArrays


def images_for(spec: ArchitectureSpec, size: int) -> np.ndarray:
    """Two images."""
    return np.random.default_rng(1).normal(0, 1, (2, size, size, spec.in_channels)).astype(np.float32)


def our_logits(spec: ArchitectureSpec, arrays: NamedArrays, images: np.ndarray) -> np.ndarray:
    """Those of our network."""
    network = build_network(spec, operations=NativeOperations(), dropout=0.0, rng=np.random.default_rng(0))
    graph, state = nnx.split(network)
    state = state_of(arrays, state, "arrays")
    return np.asarray(jax.jit(lambda state, x: nnx.merge(graph, state)(x, train=False))(state, images))


def their_logits(model: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Those of a network of PyTorch."""
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    return getattr(logits, "logits", logits).numpy()


def built(folder: Path) -> Any:
    """The module of an exported model.py."""
    spec = importlib.util.spec_from_file_location(f"exported_{folder.name}", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The last normalisation of a branch, in timm and torchvision's MobileNet, transformers, and torchvision's EfficientNet.
_LAST = re.compile(r"(bn[23]|conv\.3|layer\.[12]\.normalization|project_bn|block\.[0123]\.1)\.weight$")


def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The model with kernels that keep the size of maps, and statistics that differ from channel to channel."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, value in model.state_dict().items():
        shape = tuple(value.shape)
        if value.ndim > 1:  # the classifier is larger: so are the logits
            drawn = rng.normal(0, (4 if value.ndim == 2 else 1) * np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith("running_var") or (name.endswith("weight") and value.ndim == 1):
            # what blocks add to their input is small, so that maps and logits stay so
            drawn = rng.uniform(0.5, 1.5, shape) * (0.2 if _LAST.search(name) else 1)
        else:
            drawn = rng.normal(0, 0.1, shape)
        state[name] = torch.from_numpy(np.asarray(drawn)).to(value.dtype)
    model.load_state_dict(state)
    return model
