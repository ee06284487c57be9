"""The resumable checkpoint of pre-training: one safetensors file, written atomically, read without pickle."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from snapcoder.snapshots.pretrain import TrainingState
from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import canonical_json

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_checkpoint(path: Path, state: TrainingState, *, key: str, losses: dict[int, float]) -> None:
    """Write everything that training depends on; `key` names what it belongs to, `losses` the snapshots' fixed-batch losses."""
    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in state.model.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": moments[name].contiguous() for name in _MOMENTS}
    facts = {
        "key": key,
        "step": state.step,
        "log": state.log,
        "losses": {str(step): loss for step, loss in losses.items()},
    }
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={"snapcoder": canonical_json(facts)})


def restore_checkpoint(path: Path, state: TrainingState, *, key: str) -> dict[int, float] | None:
    """Put a checkpoint into `state` and return the losses, or None when there is none for `key` or it is unreadable."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("snapcoder", "{}"))
            if facts.get("key") != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, json.JSONDecodeError):
        return None
    state.model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    saved = state.optimizer.state_dict()
    numbers = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("optimizer.")})
    saved["state"] = {n: {name: tensors[f"optimizer.{n}.{name}"] for name in _MOMENTS} for n in numbers}
    state.optimizer.load_state_dict(saved)
    state.step, state.log = facts["step"], facts["log"]
    return {int(step): loss for step, loss in facts["losses"].items()}


def save_weights(path: Path, state: TrainingState) -> None:
    """Write the model's weights as Hugging Face does, byte-identical for equal weights."""
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in state.model.state_dict().items()
    }
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={"format": "pt"})
