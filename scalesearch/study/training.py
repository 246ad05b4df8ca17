"""The sections of a study file that say how networks train: `[training]` and `[train]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from scalesearch.study.documents import Count, Section

Precision = Literal["float32", "bfloat16"]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class TrainingSection(Section):
    """The short schedule that every candidate trains on.

    Learning rate: linear warm-up over `warmup_epochs`, then a cosine to `final_learning_rate_fraction`; or, with an
    `exponential` `schedule`, times `decay_rate` every `decay_epochs`.
    `weight_decay` skips normalisation and biases; it is decoupled except for `rmsprop`, where it is the paper's
    L2 loss. `ema_decay` 0 evaluates the raw weights. `statistics_decay` is that of the running statistics of batch
    normalisation. `dropout` acts before the classifier; with `stochastic_depth` r, the residual branch of block i of N,
    counted from 0, is dropped with probability r·i/N. `precision` is that of maps and products: parameters, batch
    statistics and loss are float32.

    Augmentation: `shift` is the largest translation as a fraction of the image; `flip` mirrors half of the images;
    `crop` is the smallest area of a random resized crop (1: no crop); `color_jitter` is how much brightness, contrast
    and saturation change at most; `rand_augment` is how many operations of RandAugment act on an image; `mixup` and
    `cutmix` are the α of their Beta(α, α).
    """

    epochs: Count
    batch_size: Count
    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)]
    final_learning_rate_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    schedule: Literal["cosine", "exponential"] = "cosine"
    decay_rate: Annotated[float, Field(gt=0, le=1)] = 0.97
    decay_epochs: Annotated[float, Field(gt=0)] = 2.4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Fraction = 0.9
    label_smoothing: Fraction = 0.0
    ema_decay: Fraction = 0.0
    statistics_decay: Fraction = 0.9
    dropout: Fraction = 0.0
    stochastic_depth: Fraction = 0.0
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    flip: bool = False
    crop: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    color_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    rand_augment: Annotated[int, Field(ge=0, le=10)] = 0
    rand_augment_magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0
    precision: Precision = "float32"

    @model_validator(mode="before")
    @classmethod
    def _usual_warm_up_fits(cls, values: Any) -> Any:
        """A single epoch warms up for half of it unless the study says otherwise."""
        if isinstance(values, Mapping) and values.get("epochs") == 1:
            return {"warmup_epochs": 0.5, **values}
        return values

    @model_validator(mode="after")
    def _warm_up_fits(self) -> Self:
        _check_warm_up(self.warmup_epochs, self.epochs)
        return self

    @model_validator(mode="after")
    def _keys_of_the_schedule(self) -> Self:
        other = ("decay_rate", "decay_epochs") if self.schedule == "cosine" else ("final_learning_rate_fraction",)
        needed = "exponential" if self.schedule == "cosine" else "cosine"
        for key in other:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"`{key}` needs `schedule` {needed}, but got {self.schedule}")
        return self

    @model_validator(mode="after")
    def _magnitude_of_something(self) -> Self:
        default = type(self).model_fields["rand_augment_magnitude"].default
        if not self.rand_augment and self.rand_augment_magnitude != default:
            raise ValueError(
                f"`rand_augment_magnitude` needs `rand_augment` of at least 1, but got {self.rand_augment}"
            )
        return self


class TrainSection(TrainingSection):
    """How `train` trains one network, with every value of its recipe filled in.

    `evaluation_resolution` is that at which images are judged and predicted, by default that of the network.
    In a transfer, `frozen` trains the classifier alone, and `layer_rate` below 1 multiplies the learning rate of each
    stage by a factor less than that of the stage behind it.
    """

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    evaluation_resolution: Count | None = None
    frozen: bool = False
    layer_rate: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _frozen_stages_have_no_rate(self) -> Self:
        if self.frozen and self.layer_rate != 1:
            raise ValueError(f"`layer_rate` must be 1 where `frozen` is true, but got {self.layer_rate:g}")
        return self


def _optional(section: type[Section]) -> dict[str, Any]:
    """The keys of a section, each of which may be left out."""
    fields = section.model_fields.items()
    return {key: (Annotated[field.annotation, Field(), *field.metadata] | None, None) for key, field in fields}


class RecipeSection(create_model("Optional", __base__=Section, **_optional(TrainSection))):  # type: ignore[misc]
    """What the user says about the training of one network: a `recipe`, and any values that replace those of it.

    Besides those of `TrainSection`, which may all be left out, its only key is `recipe` (`study.recipes`).
    """

    recipe: Literal["auto", "paper", "study", "transfer"] = "auto"

    def given(self) -> dict[str, Any]:
        """The values that are set, by their keys in `TrainSection`."""
        return {key: value for key, value in self if key != "recipe" and value is not None}

    @model_validator(mode="after")
    def _warm_up_fits(self) -> Self:
        given = self.given()
        if "epochs" in given and "warmup_epochs" in given:
            _check_warm_up(given["warmup_epochs"], given["epochs"])
        return self


def _check_warm_up(warmup_epochs: float, epochs: int) -> None:
    if warmup_epochs >= epochs:
        raise ValueError(f"`warmup_epochs` must be below `epochs` ({epochs}), but got {warmup_epochs:g}")
