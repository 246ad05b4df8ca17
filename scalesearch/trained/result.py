"""What `train` returns: a trained model's folder, read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scalesearch.errors import InputError
from scalesearch.scaling.cost.count import complexity
from scalesearch.trained.card import ModelCard, read_card
from scalesearch.trained.curves import EpochRow, best_of, read_curves


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A network that was trained, its curves, and the folder that holds its weights.

    Attributes:
        folder: holds model.json, weights.safetensors, curves.csv, checkpoints, …
        card: the network, how images become its input, and where it comes from.
        curves: what each epoch gave.
    """

    folder: Path
    card: ModelCard
    curves: tuple[EpochRow, ...]

    @property
    def best(self) -> EpochRow:
        """The epoch whose weights are kept."""
        best = best_of(self.curves)
        assert best is not None
        return best

    @property
    def finished(self) -> bool:
        """Whether it is trained to the end of its recipe."""
        return bool(self.card.provenance.get("finished"))

    def to_json(self) -> dict[str, Any]:
        """The object that `train --json` prints."""
        counted = complexity(self.card.spec)
        return {
            "folder": str(self.folder),
            "name": self.card.name,
            "phi": self.card.phi,
            "macs": counted.macs,
            "params": counted.params,
            "epochs": len(self.curves),
            "finished": self.finished,
            "best": asdict(self.best),
            "seconds": sum(row.seconds for row in self.curves),
            "spec": self.card.spec.to_json(),
        }

    def __repr__(self) -> str:
        """The model in a line."""
        return f"<TrainedModel {self.card.name}: accuracy {self.best.val_accuracy:.4f}, {self.folder}>"


def read_trained(folder: Path) -> TrainedModel:
    """The trained model in `folder`. Raises `InputError` if there is none."""
    card, curves = read_card(folder), read_curves(folder)
    if not curves:
        raise InputError(f"{folder}: no epoch is trained yet")
    return TrainedModel(folder, card, curves)
