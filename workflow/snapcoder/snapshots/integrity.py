"""Is a snapshot what it says it is? Hashes of files and tensors, and which snapshots share their weights."""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snapcoder.storage.hashing import file_sha256, json_sha256

_DIGITS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1, "I8": 1, "I16": 2}


def checkpoint_weights(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint, in name order; raises ValueError when there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder}: no .safetensors file; convert the checkpoint (pickled weights are not read)")
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
            try:
                (length,) = struct.unpack("<Q", handle.read(8))
                header = json.loads(handle.read(length))
            except (struct.error, json.JSONDecodeError, UnicodeDecodeError, MemoryError, OverflowError) as error:
                raise ValueError(f"{path}: not a safetensors file; delete it and rerun or fetch it again") from error
            header.pop("__metadata__", None)
            for name, facts in header.items():
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
    folder: Path, *, step: int, tokens: int | None, source: str, location: str, loss: float
) -> dict[str, Any]:
    """Return the content of snapshot.json for the checkpoint in `folder`.

    `location` is how readers find the folder from snapshot.json: "." or an absolute path. Raises ValueError when the
    folder is not a complete checkpoint.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = checkpoint_weights(folder)
    fingerprint, n_parameters = tensor_fingerprint(weights)
    files = {path.name: file_sha256(path) for path in [folder / "config.json", *weights]}
    return {
        "step": step,
        "tokens": tokens,
        "source": source,
        "folder": location,
        "files": files,
        "sha256": json_sha256({name: sha for name, sha in files.items() if name.endswith(".safetensors")}),
        "fingerprint": fingerprint,
        "n_parameters": n_parameters,
        "loss_fixed_batch": loss,
        "architecture": (config.get("architectures") or [config.get("model_type", "unknown")])[0],
        "n_layers": _first(config, "num_hidden_layers", "n_layer", "n_layers"),
        "d_model": _first(config, "hidden_size", "n_embd", "d_model"),
    }


def _first(config: Mapping[str, Any], *names: str) -> int:
    found = next((config[name] for name in names if name in config), None)
    if found is None:
        raise ValueError(f"config.json: none of {', '.join(names)}; this architecture is not supported")
    return int(found)
