"""What a trained network is, apart from its arrays: `ModelCard`, the object of model.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from scalesearch.errors import InputError
from scalesearch.runtime.files import read_document
from scalesearch.runtime.text import first_line
from scalesearch.study.documents import FROM_LIST, Section, Spec, read

CARD_FILE = "model.json"
CARD_VERSION = 1

NamedArrays = dict[str, np.ndarray]
"""The variables of a network by their plain names (`models.names`): `stages.2.0.expand.kernel`."""


class Preprocessing(Section):
    """How an image becomes the input of a network: made square by `fit`, resized to `resolution`, (x − mean) / std.

    `mean` and `std` are those of each channel, in grey levels from 0 to 255.
    """

    resolution: Annotated[int, Field(ge=1)]
    fit: Literal["crop", "pad", "stretch"] = "crop"
    mean: Annotated[tuple[float, ...], FROM_LIST]
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], FROM_LIST]


class ModelCard(Section):
    """A network, how images become its input, and where it comes from.

    Attributes:
        name: such as "efficientnet-b0 φ = 2".
        spec: the network, at the resolution of its evaluation.
        preprocessing: None where no data have been seen: a definition without weights.
        classes: the names of the classes in the order of the logits; empty if they have none.
        rule: the rule that scaled it, as in coefficients.json; None for a network that no rule scaled.
        phi: its φ in the family of the rule.
        data: the data that it was trained on, as in a study file, with their digest.
        training: the recipe that it was trained by, as in a study file.
        provenance: versions, device, date.
    """

    schema_version: Annotated[int, Field(ge=1, le=CARD_VERSION)] = CARD_VERSION
    name: str
    spec: Spec
    preprocessing: Preprocessing | None = None
    classes: Annotated[tuple[str, ...], FROM_LIST] = ()
    rule: dict[str, Any] | None = None
    phi: float | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.classes and len(self.classes) != self.spec.num_classes:
            raise ValueError(f"`classes` must be {self.spec.num_classes} names, but got {len(self.classes)}")
        if self.preprocessing is not None:
            for key in ("mean", "std"):
                got = len(getattr(self.preprocessing, key))
                if got != self.spec.in_channels:
                    raise ValueError(
                        f"`{key}` must have a value for each of {self.spec.in_channels} channels, but got {got}"
                    )
        return self

    def to_json(self) -> dict[str, Any]:
        """The object of model.json."""
        return {**self.model_dump(mode="json", exclude={"spec"}), "spec": self.spec.to_json()}


def read_card(folder: Path) -> ModelCard:
    """The card in the folder of a trained model. Raises `InputError`: one line with file, key and what is allowed."""
    path = folder / CARD_FILE
    try:
        document = read_document(path, json.loads)
    except FileNotFoundError:
        raise InputError(f"{folder}: no trained model there (its folder holds a {CARD_FILE})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({first_line(error)})") from None
    return read(ModelCard, document, lambda card: card, str(path))


def card_text(card: ModelCard) -> str:
    """The text of model.json."""
    return json.dumps(card.to_json(), indent=2, ensure_ascii=False) + "\n"
