"""What `train` does, as data: a network, its images and its recipe. The file train.toml of a model's folder."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tomli_w

from scalesearch.errors import InputError, StudyMismatch
from scalesearch.runtime.files import read_document, write_text
from scalesearch.runtime.text import enumerated, short
from scalesearch.study.documents import FROM_LIST, Section, Spec, read, with_tuples
from scalesearch.study.sections import DataSection, RuntimeSection
from scalesearch.study.training import TrainSection

JOB_FILE = "train.toml"

_SAME = ("name", "runtime", "rule", "data.source", "data.test_source", "data.classes", "origin.source", "origin.name")
"""What another call may change: digests say whether data and origin are the same, wherever they are."""


class Origin(Section):
    """The network that a transfer begins with.

    Attributes:
        source: the folder of a trained model, or the file of another library (`export.opened`).
        name: of the network.
        digest: of its weights (`trained.weights.digest_of`).
        mean: of each channel, in grey levels, that images are standardised by; that of the new data if it is not known.
        std: the deviation.
    """

    source: str
    name: str
    digest: str
    mean: Annotated[tuple[float, ...], FROM_LIST] | None = None
    std: Annotated[tuple[float, ...], FROM_LIST] | None = None

    def to_json(self) -> dict[str, Any]:
        """The object in the provenance of model.json."""
        return self.model_dump(include={"source", "name", "digest"})


class Job(Section):
    """One network, trained once.

    Attributes:
        name: of the network, such as "efficientnet-b0 φ = 2".
        phi: its φ in the family of `rule`.
        digest: of the data (`Splits.digest`).
        data: where images come from.
        training: the recipe.
        runtime: how the work is carried out.
        spec: the network.
        rule: the rule as in coefficients.json.
        origin: where the weights come from that it begins with; None for initial ones.
    """

    name: str
    phi: float | None = None
    digest: str
    data: DataSection
    training: TrainSection
    runtime: RuntimeSection = RuntimeSection()
    spec: Spec
    rule: dict[str, Any] | None = None
    origin: Origin | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that `job_of` reads."""
        return {**self.model_dump(mode="json", exclude={"spec"}), "spec": self.spec.to_json()}


def job_of(document: Mapping[str, Any], where: str = "job") -> Job:
    """The job of an object. Raises `InputError`: one line with `where`, the key, what is allowed, and the value."""
    return read(Job, with_tuples(document), lambda job: job, where)


def write_job(folder: Path, job: Job) -> None:
    """Writes train.toml: the whole recipe, without the rule, which is in model.json."""
    write_text(folder / JOB_FILE, tomli_w.dumps(_without_nulls({**job.to_json(), "rule": None})))


def check_same(folder: Path, job: Job) -> bool:
    """Whether `folder` holds the training of `job`, begun or finished.

    Raises:
        StudyMismatch: it holds another one; the message names what differs.
        InputError: its train.toml cannot be read.
    """
    path = folder / JOB_FILE
    try:
        document = read_document(path, tomllib.loads)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid TOML ({error})") from None
    before, now = (_flat(each.to_json()) for each in (job_of(document, str(path)), job))
    differing = [key for key in sorted(before | now) if before.get(key) != now.get(key) and not _may_change(key)]
    if differing:
        told = [f"`{key}` was {short(before.get(key))}, now {short(now.get(key))}" for key in differing]
        raise StudyMismatch(f"{folder} holds another training: {enumerated(told, most=4)}; choose another --out")
    return True


def _may_change(key: str) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in _SAME)


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`section.key` → value."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _without_nulls(value: Any) -> Any:
    """TOML has no null; a key that is left out has its default."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value
