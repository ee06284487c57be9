"""The resumable checkpoint of pre-training: one safetensors file, written atomically, read without pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from snapcoder.snapshots.pretrain import TrainingState
from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import canonical_json

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_COUNTS = ("step", "tokens")


def save_checkpoint(path: Path, state: TrainingState, *, key: str, losses: dict[int, float]) -> None:
    """Write everything that the rest of training depends on.

    `key` names the job that it belongs to; `losses` are the fixed-batch losses of the snapshots so far, by step.
    """
    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in state.model.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": moments[name].contiguous() for name in _MOMENTS}
    if state.log:
        for name in state.log[0]:
            tensors[f"log.{name}"] = torch.tensor([row[name] for row in state.log], dtype=torch.float64)
    facts = {"key": key, "step": state.step, "losses": {str(step): loss for step, loss in losses.items()}}
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={"snapcoder": canonical_json(facts)})


def checkpoint_losses(path: Path, *, key: str) -> dict[int, float] | None:
    """Return the losses of the snapshots before a checkpoint, or None when it is not of `key` or unreadable."""
    facts = _facts(path)
    return {int(step): loss for step, loss in facts["losses"].items()} if facts.get("key") == key else None


def restore_checkpoint(path: Path, state: TrainingState, *, key: str) -> dict[int, float] | None:
    """Put a checkpoint into `state` and return `checkpoint_losses`; None leaves the state as it was."""
    losses = checkpoint_losses(path, key=key)
    if losses is None:
        return None
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    state.model.load_state_dict(_below("model.", tensors))
    saved = state.optimizer.state_dict()
    moments = _below("optimizer.", tensors)
    numbers = sorted({int(name.split(".")[0]) for name in moments})
    saved["state"] = {number: {name: moments[f"{number}.{name}"] for name in _MOMENTS} for number in numbers}
    state.optimizer.load_state_dict(saved)
    state.step, state.log = int(_facts(path)["step"]), _rows(_below("log.", tensors))
    return losses


def _facts(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {}).get("snapcoder", "{}"))
    except (OSError, SafetensorError, json.JSONDecodeError):
        return {}


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _rows(columns: dict[str, torch.Tensor]) -> list[dict[str, float]]:
    values = {
        name: [int(value) if name in _COUNTS else value for value in column.tolist()]
        for name, column in columns.items()
    }
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def save_weights(path: Path, state: TrainingState) -> None:
    """Write the model's weights as Hugging Face does, byte-identical for equal weights."""
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in state.model.state_dict().items()
    }
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={"format": "pt"})
