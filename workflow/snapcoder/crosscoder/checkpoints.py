"""Resumable training state: one safetensors file, written atomically, tied to a key of everything it depends on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import canonical_json


@dataclass(frozen=True)
class Checkpoint:
    """Everything that training needs to go on as if it had never stopped.

    tensors: parameters, optimiser moments, dead counters, by name; facts: step count, thresholds, history (plain JSON,
    whose numbers survive the round trip exactly).
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class CheckpointStore(Protocol):
    """Where training saves its state and finds it again."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the saved state."""

    def load(self) -> Checkpoint | None:
        """Return the saved state; None when there is none that fits."""

    def remove(self) -> None:
        """Delete the saved state."""


@dataclass(frozen=True)
class CheckpointFile:
    """Where the state is kept, and the key of the settings, inputs and code that it belongs to."""

    path: Path
    key: str

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the state atomically."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        with atomic_path(self.path) as part:
            save_file(
                tensors, part, metadata={"snapcoder": canonical_json({"key": self.key, "facts": checkpoint.facts})}
            )

    def load(self) -> Checkpoint | None:
        """Return the saved state; None when there is none or it belongs to other settings, inputs or code."""
        if not self.path.exists():
            return None
        with safe_open(self.path, framework="pt") as file:
            stored = json.loads((file.metadata() or {}).get("snapcoder", "{}"))
            if stored.get("key") != self.key:
                return None
            return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, stored["facts"])  # noqa: SIM118

    def remove(self) -> None:
        """Delete the state and its folder when that is empty."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.exists() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()
