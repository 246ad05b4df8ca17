"""`scalesearch.export`: a member of a rule's family, or a trained model, in a format of another library."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from scalesearch.errors import InputError
from scalesearch.export.formats import FORMATS, exporter
from scalesearch.export.opened import is_foreign, open_network
from scalesearch.export.rule_json import read_rule, rule_text
from scalesearch.runtime.files import write_folder, write_whole
from scalesearch.scaling.family import family
from scalesearch.scaling.rule import ScalingRule
from scalesearch.trained.card import CARD_FILE, ModelCard, NamedArrays, read_card
from scalesearch.trained.weights import WEIGHTS_FILE

DEFAULT_PHI = 1.0


def export(
    source: ScalingRule | str | os.PathLike[str], *, to: str, path: str | os.PathLike[str], phi: float | None = None
) -> None:
    """Hands over a network to another library: its definition, and its weights if it has been trained.

    Args:
        source: a rule, a coefficients.json, a run folder, the folder of a trained model, or weights of another
            library, as `timm:FILE.safetensors` (`export.opened`).
        to: a name in `export.formats.FORMATS`.
        path: the file to write, or for formats that write a folder, one that is new, empty or an earlier export.
        phi: which member of the rule's family, 1 if None; for a trained model it must be None. As JSON, None writes
            the rule itself.

    Raises `InputError` for a network that the format cannot hold exactly, with the reason, and for a source or a path
    that cannot be used.

    >>> import scalesearch
    >>> scalesearch.export("runs/mnist_sample", to="flax", path="my_net", phi=2)  # doctest: +SKIP
    """
    write, target = writer(source, to, phi), Path(path)
    try:
        if FORMATS[to].folder:
            write_folder(target, write)
        else:
            write_whole(target, write)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from None


def writer(source: ScalingRule | str | os.PathLike[str], to: str, phi: float | None = None) -> Callable[[Path], None]:
    """What writes `source` to a path, see `export`. Everything is read and checked before."""
    module, sort = exporter(to), FORMATS[to]
    origin = source if isinstance(source, ScalingRule) else Path(source)
    if isinstance(origin, Path) and is_trained(origin):
        if phi is not None:
            raise InputError(f"`phi` chooses a member of a rule, but {origin} is a trained model")
        card, arrays = _trained(origin, to)
    else:
        rule = origin if isinstance(origin, ScalingRule) else read_rule(origin)
        if to == "json" and phi is None:
            return partial(_write_rule, rule)
        if not sort.definition:
            raise InputError(
                f"--to {to} writes a network with its weights, but {origin} is a rule: export the folder of a trained "
                "model (`scalesearch train`)"
            )
        card, arrays = member_card(rule, DEFAULT_PHI if phi is None else phi), None
    return partial(module.export, card, arrays)


def is_trained(path: Path) -> bool:
    """Whether `path` is the folder of a trained model, or names weights of another library."""
    return is_foreign(path) or (path / CARD_FILE).is_file()


def member_card(rule: ScalingRule, phi: float) -> ModelCard:
    """The card of the member φ of a rule's family, which has not been trained."""
    try:
        (member,) = family(rule, (phi,))
    except ValueError as error:
        raise InputError(str(error)) from None
    name = f"{rule.baseline.name} φ = {phi:g}"
    return ModelCard.model_validate({"name": name, "spec": member.spec.to_json(), "rule": rule.to_json(), "phi": phi})


def _write_rule(rule: ScalingRule, target: Path) -> None:
    target.write_text(rule_text(rule), encoding="utf-8")


def _trained(origin: Path, to: str) -> tuple[ModelCard, NamedArrays | None]:
    """The card of a trained model and its weights, which fit it; for JSON the card alone, which needs no jax.

    The network is that which classifies: at the resolution of its evaluation, which may be another than it trained at.
    """
    if to == "json":
        return (open_network(origin)[0] if is_foreign(origin) else read_card(origin)), None
    from scalesearch.models.names import shapes_of
    from scalesearch.trained.leaves import check_names

    card, arrays = open_network(origin)
    check_names(arrays, shapes_of(card.spec), str(origin if is_foreign(origin) else origin / WEIGHTS_FILE))
    if card.preprocessing is not None:
        spec = dataclasses.replace(card.spec, resolution=card.preprocessing.resolution)
        card = card.model_copy(update={"spec": spec})
    return card, arrays
