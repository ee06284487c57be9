"""Is a snapshot what it says it is? Hashes of files and tensors, and which snapshots share their weights."""

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from snapcoder.storage.hashing import file_sha256, json_sha256
from snapcoder.storage.json_file import read_json

_DIGITS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1, "I8": 1, "I16": 2}


def checkpoint_weights(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers reads of a checkpoint: the only one, or those of its index.

    Raises ValueError when there are none, and naming the first shard that is missing.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise ValueError(
            f"{folder}: no .safetensors file of a whole model; convert the checkpoint (pickled weights are not read)"
        )
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index}: has no weight_map; fetch or write the checkpoint again")
    files = [folder / name for name in sorted(set(names.values()))]
    for path in files:
        if not path.is_file():
            raise ValueError(f"{path}: named in {index.name} but not there; fetch or write the checkpoint again")
    return files


def tensor_fingerprint(files: Sequence[Path]) -> tuple[str, int]:
    """Return a hash over names, types, shapes and bytes of all tensors, and the number of parameters.

    The hash does not depend on how tensors are spread over files or ordered in them. Raises ValueError for a file
    that is not safetensors.
    """
    hashes: dict[str, str] = {}
    n_parameters = 0
    for path in files:
        with path.open("rb") as handle:
            header, length = _header(handle, path)
            for name, facts in sorted(header.items(), key=lambda entry: entry[1]["data_offsets"]):
                start, stop = facts["data_offsets"]
                handle.seek(8 + length + start)
                data = handle.read(stop - start)
                if len(data) < stop - start:
                    raise ValueError(f"{path}: tensor {name} is cut short; delete the file and fetch it again")
                digest = hashlib.sha256(f"{facts['dtype']}{facts['shape']}".encode())
                digest.update(data)
                hashes[name] = digest.hexdigest()
                n_parameters += (stop - start) // _DIGITS.get(facts["dtype"], 4)
    return json_sha256(hashes), n_parameters


def _header(handle: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    """Return the tensor entries of an opened safetensors file, and the length of its header in bytes."""
    try:
        (length,) = struct.unpack("<Q", handle.read(8))
        if length > path.stat().st_size:
            raise ValueError("the header is longer than the file")
        header = json.loads(handle.read(length))
        header.pop("__metadata__", None)
    except (struct.error, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not a safetensors file; delete it and rerun or fetch it again") from error
    return header, length


@torch.no_grad()
def fixed_batch_loss(model: nn.Module, tokens: Tensor, *, batch_size: int = 64) -> float:
    """Return the mean next-token loss (nats) of tokens [sequence, position], summed in float64."""
    total, count = 0.0, 0
    for part in tokens.split(batch_size):
        logits = model(input_ids=part, use_cache=False).logits[:, :-1].float()
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none")
        total += float(losses.double().sum())
        count += losses.numel()
    return total / count


def describe_snapshot(
    folder: Path,
    *,
    step: int,
    tokens: int | None,
    source: str,
    location: str,
    loss: float,
    n_parameters: int | None = None,
) -> dict[str, Any]:
    """Return the content of snapshot.json for the checkpoint in `folder`.

    `location` is how readers find the folder from snapshot.json: "." or an absolute path. `n_parameters` is the
    model's own count, for old checkpoints that store buffers and tied weights too; left out, all stored values count.
    Raises ValueError when the folder is not a complete checkpoint, and when the loss is not finite.
    """
    if not math.isfinite(loss):
        raise ValueError(f"{folder}: the loss on the fixed batch is {loss}; the weights of step {step} are not usable")
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise ValueError(f"{config_path}: is missing; a snapshot is a folder in Hugging Face format")
    config, weights = read_json(config_path), checkpoint_weights(folder)
    fingerprint, n_stored = tensor_fingerprint(weights)
    files = {path.name: file_sha256(path) for path in [config_path, *weights]}
    return {
        "step": step,
        "tokens": tokens,
        "source": source,
        "folder": location,
        "files": files,
        "sha256": json_sha256({name: sha for name, sha in files.items() if name.endswith(".safetensors")}),
        "fingerprint": fingerprint,
        "n_parameters": n_stored if n_parameters is None else n_parameters,
        "loss_fixed_batch": loss,
        "architecture": (config.get("architectures") or [config.get("model_type", "unknown")])[0],
        "n_layers": _first(config, config_path, "num_hidden_layers", "n_layer", "n_layers"),
        "d_model": _first(config, config_path, "hidden_size", "n_embd", "d_model"),
    }


def _first(config: Mapping[str, Any], path: Path, *names: str) -> int:
    found = next((config[name] for name in names if name in config), None)
    if found is None:
        raise ValueError(f"{path}: has none of {', '.join(names)}; this architecture is not supported")
    return int(found)
