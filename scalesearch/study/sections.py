"""The sections of a study file as frozen values that check themselves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from scalesearch.baselines.protocol import find_baseline, own_code, usual_rounding
from scalesearch.baselines.published import NAMES
from scalesearch.errors import InputError
from scalesearch.runtime import modules
from scalesearch.scaling.architecture import Activation, ArchitectureSpec, Norm
from scalesearch.scaling.compound import Baseline, DepthRounding, EndRounding, HeadRounding, Rounding, StemRounding
from scalesearch.scaling.cost.budgeted import MACS, Cost
from scalesearch.scaling.family import DEFAULT_TOLERANCE
from scalesearch.scaling.feasible import MAX_BUDGET
from scalesearch.study.documents import Count, Section, Stages, Stem
from scalesearch.study.sources import parse_source
from scalesearch.study.training import RecipeSection, TrainingSection

DesignKind = Literal["lattice", "grid", "qmc", "tpe"]
DESIGNS_OF: Mapping[str, tuple[DesignKind, ...]] = {
    "degree": ("lattice",),
    "step": ("grid",),
    "band": ("grid",),
    "size": ("qmc", "tpe"),
}
"""The kinds of design that a key of its section belongs to."""
OperationsName = Literal["kernels", "pallas", "shift", "native"]
Phi = Annotated[float, Field(gt=0, le=20)]


class BaselineSection(Section):
    """A published baseline by `name`, its input changed or not; or, with `stem` and `stages`, one of your own.

    A name of the form "module:name" is a baseline of your own in Python (`baselines.protocol`). `module` names a flax
    module that is built instead of the stem and stages. A text alone is the name.
    Channels and classes follow the data unless they are set, as does the resolution of a published baseline.
    """

    name: str
    resolution: Count | None = None
    in_channels: Count | None = None
    num_classes: Count | None = None
    head_width: Annotated[int, Field(ge=0)] | None = None
    activation: Activation | None = None
    final_norm: Norm | None = None
    hidden_width: Annotated[int, Field(ge=0)] | None = None
    stem: Stem | None = None
    stages: Stages | None = None
    module: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, section: Any) -> Any:
        return {"name": section} if isinstance(section, str) else section

    @model_validator(mode="after")
    def _whole_or_published(self) -> Self:
        if (self.stem is None) != (self.stages is None):
            raise ValueError("a baseline of your own needs both `stem` and `stages`")
        if self.stages is None and self.name not in NAMES and not modules.is_own(self.name):
            raise ValueError(
                f"`name` must be one of {', '.join(NAMES)} unless `stem` and `stages` define it, or MODULE:NAME of "
                f"your own, but got {self.name!r}"
            )
        if self.stages is not None:
            for key in ("resolution", "head_width"):
                if getattr(self, key) is None:
                    raise ValueError(f"a baseline of your own needs `{key}`")
        # The spec and the user's code check themselves: here, so that their messages name the file too.
        self.whole_spec()
        self.own_files()
        return self

    def own_files(self) -> dict[str, Path]:
        """The files of the user's own code that it stands on, by module. Raises `InputError` as `modules.files_of`."""
        named = {self.name: "`name`"} if self.stages is None and modules.is_own(self.name) else {}
        return modules.files_of({**own_code(self.whole_spec()), **named})

    def spec(self) -> ArchitectureSpec:
        """The network at φ = 0. Raises `InputError` if its channels or classes follow data that were not looked at."""
        for key in ("in_channels", "num_classes"):
            if self.stages is not None and getattr(self, key) is None:
                raise InputError(f"`baseline.{key}` follows the data; set it to count the network without them")
        return self.whole_spec()

    def whole_spec(self) -> ArchitectureSpec:
        """The network at φ = 0, with one channel and one class if a baseline of one's own leaves them to the data."""
        values = {key: value for key, value in self if key != "name" and value is not None}
        if self.stages is None:
            return dataclasses.replace(find_baseline(self.name).spec, **values)
        return ArchitectureSpec(**{"in_channels": 1, "num_classes": 1, **values})


class RoundingSection(Section):
    """What the study changes in the baseline's rounding.

    `depth` is balanced unless it says otherwise; in a nominal grid, the baseline's own.
    """

    width_divisor: Count | None = None
    depth: DepthRounding | None = None
    resolution_step: Count | None = None
    stem: StemRounding | None = None
    head: HeadRounding | None = None
    first_last_depth: EndRounding | None = None
    first_last_width: EndRounding | None = None


class DesignSection(Section):
    """Which candidates are trained: `lattice` uses degree; `grid` step, band, nominal; `qmc`, `tpe` size and seed.

    A grid holds the multipliers 1, 1 + step, … whose product is within `band` · budget of the budget;
    `nominal` trains those networks as they round, at whatever they really cost (as the paper does).
    """

    kind: DesignKind = "lattice"
    degree: Annotated[int, Field(ge=1, le=40)] = 4
    step: Annotated[float, Field(ge=0.005, le=1)] = 0.05
    band: Annotated[float, Field(gt=0, lt=1)] = 0.05
    nominal: bool = False
    size: Count = 15
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _nominal_is_a_grid(self) -> Self:
        if self.nominal and self.kind != "grid":
            raise ValueError(f"`nominal` needs `kind` grid, but got {self.kind}")
        return self


class DataSection(Section):
    """`source` is a kind and a place, such as `folder:DIR`; sizes are numbers of images (0: all that there are).

    A source's own validation and test sets are used whole if their size is 0. Without a validation set, `validation`
    images of the training set are set aside, a fifth of them if it is 0; without a test set, `test` images. The split
    is a permutation by `split_seed`, and stratified where classes are uneven.

    `fit` makes an image square: `crop` takes the middle, `pad` adds borders, `stretch` changes the proportions.
    `skip_broken` leaves out files that cannot be decoded. `channels_first` says that arrays have shape (N, C, H, W).
    `image_column` and `label_column` name columns of a table, where they cannot be guessed. `classes` are the names of
    the classes in the order of their labels, by default the source's; they change no result. `test_source` holds the
    test images instead; since no search sees them, it may be named later.
    """

    source: str
    train: Annotated[int, Field(ge=0)] = 0
    validation: Annotated[int, Field(ge=0)] = 0
    test: Annotated[int, Field(ge=0)] = 0
    split_seed: Annotated[int, Field(ge=0)] = 0
    fit: Literal["crop", "pad", "stretch"] = "crop"
    skip_broken: bool = False
    channels_first: bool = False
    image_column: str | None = None
    label_column: str | None = None
    classes: tuple[str, ...] = ()
    test_source: str | None = None

    @model_validator(mode="after")
    def _known_source(self) -> Self:
        for source in filter(None, (self.source, self.test_source)):
            parse_source(source)
        return self


class RuntimeSection(Section):
    """How the work is carried out; changes speed, never what is compared, so it is not in the fingerprint.

    `convolutions`: `auto` picks the implementation that is fast on the backend: `kernels` on a CPU, `pallas` on a GPU.
    `seeds_together`: `auto` trains the seeds of a candidate side by side where that is faster (GPU, TPU). `workers` is
    how many processes `run` trains in, each on its share of the cores. `memory` in GiB is what a network may take while
    it trains, by default all that the device has; a network that needs more trains in another way
    (`training/memory.py`). `data_parallel`: `auto` spreads each batch over all local devices if their number divides
    it; true requires it. `compile_ahead`: `auto` prepares the next candidate while the current one trains, if a process
    has four cores.
    """

    convolutions: Literal["auto", OperationsName] = "auto"
    seeds_together: bool | Literal["auto"] = "auto"
    workers: Count = 1
    memory: Annotated[float, Field(gt=0)] | None = None
    data_parallel: bool | Literal["auto"] = "auto"
    compile_ahead: bool | Literal["auto"] = "auto"


class Study(Section):
    """Everything that a search needs; one TOML file in `studies/`.

    With `race`, `seeds` is the most that a candidate gets: all train for the first one, then those that may still
    be best. With `prune`, a candidate that is behind the others after the same epochs of the same schedule trains no
    further, and is left out of the choice. `phi`: the levels, B^φ of macs each, that one rule is fitted to. `rungs`:
    numbers of epochs below that of the schedule, at which the same candidates train too, to see whether the schedule's
    length changes their ranking. `train` is for networks of the rule that the search finds.
    """

    # A database takes 512 characters, with what the names of parts add.
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200)]
    budget: Annotated[float, Field(gt=1, le=MAX_BUDGET)] = 2.0
    tolerance: Annotated[float, Field(gt=0, lt=1)] = DEFAULT_TOLERANCE
    metric: Literal["val_loss", "val_accuracy"] = "val_loss"
    seeds: Annotated[int, Field(ge=1, le=1000)] = 2
    race: bool = False
    prune: bool = False
    phi: Annotated[tuple[Phi, ...], Field(min_length=1, max_length=10)] = (1.0,)
    rungs: Annotated[tuple[Count, ...], Field(max_length=100)] = ()
    baseline: BaselineSection
    rounding: RoundingSection = RoundingSection()
    design: DesignSection = DesignSection()
    data: DataSection
    training: TrainingSection
    runtime: RuntimeSection = RuntimeSection()
    train: RecipeSection | None = None

    def resolved_baseline(self) -> Baseline:
        """The baseline with the rounding of this study: the baseline's, unless the study changes it."""
        return self._rounded(self.baseline.spec())

    def _rounded(self, spec: ArchitectureSpec) -> Baseline:
        section = self.rounding
        usual = usual_rounding(spec) if self.baseline.stages else find_baseline(self.baseline.name).rounding
        rounding = Rounding(
            width_divisor=section.width_divisor or usual.width_divisor,
            depth=section.depth or (usual.depth if self.design.nominal else "balanced"),
            resolution_step=section.resolution_step or usual.resolution_step,
            stem=section.stem or usual.stem,
            head=section.head or usual.head,
            first_last_depth=section.first_last_depth or usual.first_last_depth,
            first_last_width=section.first_last_width or usual.first_last_width,
        )
        return Baseline(self.baseline.name, spec, rounding)

    @property
    def cost(self) -> Cost:
        """What the budget counts."""
        return MACS

    @model_validator(mode="after")
    def _parts_make_sense(self) -> Self:
        if self.race and (self.design.kind == "tpe" or self.design.nominal):
            kind = "a nominal grid" if self.design.nominal else self.design.kind
            raise ValueError(f"`race` needs a design of feasible candidates (lattice, grid, qmc), but got {kind}")
        if self.race and self.prune:
            raise ValueError("`race` and `prune` are two ways to spend less: only one of them can be true")
        if 1 not in self.phi or len(set(self.phi)) < len(self.phi):
            raise ValueError(f"`phi` must hold 1 and no number twice, but got {list(self.phi)}")
        if max(self.phi) * math.log(self.budget) > math.log(MAX_BUDGET):
            raise ValueError(f"`budget`^φ must be at most {MAX_BUDGET:,}, but φ is {max(self.phi):g}")
        if any(rung >= self.training.epochs for rung in self.rungs) or len(set(self.rungs)) < len(self.rungs):
            raise ValueError(
                f"`rungs` must be numbers of epochs below `training.epochs` ({self.training.epochs}), none twice, "
                f"but got {list(self.rungs)}"
            )
        if (len(self.phi) > 1 or self.rungs) and self.design.kind == "tpe":
            raise ValueError("`phi` and `rungs` train the same splits again, which needs a planned design, but got tpe")
        self._rounded(self.baseline.whole_spec())  # the rounding checks that it leaves stages to scale
        return self

    def identity(self) -> dict[str, Any]:
        """What changes results, as flat `section.key` → JSON value: the fingerprint of the study.

        Levels and rungs are separate searches, so a study can be given more of them later.
        """
        document = self.model_dump(mode="json", exclude={"runtime", "name", "phi", "rungs", "train"})
        for key in ("classes", "test_source"):
            del document["data"][key]
        return {key: value for key, value in _flat(document) if (key, value) not in _BEFORE.items()}


_BEFORE = {
    "training.precision": "float32",
    "prune": False,
    "data.fit": "crop",
    "data.skip_broken": False,
    "baseline.stem.norm": "batch",
    "data.channels_first": False,
    "training.crop": 1.0,
    "training.color_jitter": 0.0,
    "training.rand_augment": 0,
    "training.rand_augment_magnitude": 9.0,
    "training.mixup": 0.0,
    "training.cutmix": 0.0,
    "training.schedule": "cosine",
    "training.decay_rate": 0.97,
    "training.decay_epochs": 2.4,
    "training.statistics_decay": 0.9,
    "training.stochastic_depth": 0.0,
}
"""What studies older than these settings used: such a value is no part of an identity, so they can be resumed."""


def _flat(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            rows.append((prefix + key, value))
    return rows
