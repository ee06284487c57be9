"""Find and read the weights and the config.json of another library's dictionary, without running code from them."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from snapcoder.storage.json_file import read_json

WEIGHT_FILES = (
    "sae_weights.safetensors",  # llamascopium, in the order of its own loader
    "sae_weights.pt",
    "sae_weights.dcp",
    "checkpoints/pruned.safetensors",
    "checkpoints/pruned.pt",
    "checkpoints/pruned.dcp",
    "checkpoints/final.safetensors",
    "checkpoints/final.pt",
    "checkpoints/final.dcp",
    "ae.pt",  # dictionary_learning
    "model.safetensors",
)


class InteropError(ValueError):
    """A dictionary that cannot be exchanged exactly; the message says why and what to do."""


def find_weights(source: Path) -> Path:
    """Return the weight file of a folder, or `source` itself when it is one. Raises `InteropError`."""
    if not source.exists():
        raise InteropError(f"{source}: no such file or folder")
    if source.is_file() or source.suffix == ".dcp":
        return source
    found = next((source / name for name in WEIGHT_FILES if (source / name).exists()), None)
    if found is None:
        raise InteropError(
            f"{source}: no weights here (looked for {', '.join(WEIGHT_FILES)}); name the weight file itself"
        )
    return found


def read_config(weights: Path) -> dict[str, Any]:
    """Return the config.json beside the weights, or above a folder `checkpoints`; empty when there is none."""
    above = [weights.parent.parent] if weights.parent.name == "checkpoints" else []
    for folder in (weights.parent, *above):
        if (folder / "config.json").is_file():
            return read_json(folder / "config.json")
    return {}


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file or of a state dict saved by torch.save.

    Floating-point tensors become float32, the others int64. Raises `InteropError` for files that would have to be
    unpickled to be read.
    """
    if path.suffix == ".dcp":
        raise InteropError(
            f"{path}: the index of a distributed checkpoint is a pickle, which is not loaded here; convert it where you "
            "trust it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch "
            f"{path.name} {path.stem}.pt"
        )
    tensors = _safetensors(path) if path.suffix == ".safetensors" else _state_dict(path)
    return {name: _array(tensor) for name, tensor in tensors.items()}


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            if "snapcoder" in (file.metadata() or {}):
                raise InteropError(f"{path}: is a dictionary of Snapcoder already")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InteropError(f"{path}: not a readable safetensors file ({error})") from error


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InteropError(
            f"{path}: not a plain state dict; only tensors are loaded, no pickled classes. Save it again as "
            "model.state_dict() or as safetensors"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("sae"), dict):  # llamascopium's wrapper
        content = content["sae"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InteropError(f"{path}: not a state dict of tensors")
    return content


def _array(tensor: Tensor) -> np.ndarray:
    kind = torch.float32 if tensor.is_floating_point() else torch.int64
    return tensor.detach().to(kind).numpy()


def require_finite(path: Path, **arrays: np.ndarray) -> None:
    """Raise `InteropError` naming the first tensor with a value that is not finite."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InteropError(f"{path}: {name} holds values that are not finite; the training diverged")


def require_shape(path: Path, name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise `InteropError` when a tensor does not have the expected shape."""
    if array.shape != shape:
        raise InteropError(f"{path}: {name} has shape {array.shape}, expected {shape}")
