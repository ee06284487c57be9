"""Activations of one snapshot on task prompts: clean and patch, grouped by example, ragged over their lengths."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import array_sha256, canonical_json


class PromptError(ValueError):
    """Prompt activations that cannot be used, or not together."""


@dataclass(frozen=True)
class PromptActivations:
    """What one snapshot thinks at block `layer` on the prompts of some examples.

    line [example] int32: line of the task file, from 0, ascending; offset [example + 1] int64: the positions of example
    e are offset[e]:offset[e + 1]; clean, patch [position, model] float32; examples_sha256: hash of the task file's
    bytes.
    """

    step: int
    layer: int
    line: np.ndarray
    offset: np.ndarray
    clean: np.ndarray
    patch: np.ndarray
    examples_sha256: str

    def positions(self, lines: np.ndarray) -> np.ndarray:
        """Return the positions of the examples on these lines of the task file, in their order, [position]."""
        at = np.searchsorted(self.line, lines)
        if len(lines) and (at.max() >= len(self.line) or (self.line[at] != lines).any()):
            raise PromptError("a task example has no cached prompt; delete the prompts folder and rerun")
        return np.concatenate(
            [np.arange(self.offset[e], self.offset[e + 1]) for e in at] or [np.zeros(0, dtype=np.int64)]
        )


def write_prompts(path: str | Path, prompts: PromptActivations, provenance: Mapping[str, Any]) -> None:
    """Write prompt activations as HDF5 with the hash of their content; raise `PromptError` if one is not finite."""
    for name in ("clean", "patch"):
        bad = ~np.isfinite(getattr(prompts, name)).all(axis=1)
        if bad.any():
            example = int(np.searchsorted(prompts.offset, int(np.flatnonzero(bad)[0]), side="right")) - 1
            raise PromptError(
                f"{path}: the {name} prompt on line {int(prompts.line[example]) + 1} of the task file gives an "
                "activation that is not finite; check the snapshot"
            )
    arrays: dict[str, np.ndarray] = {
        "line": prompts.line.astype(np.int32),
        "offset": prompts.offset.astype(np.int64),
        "clean": prompts.clean.astype(np.float32),
        "patch": prompts.patch.astype(np.float32),
    }
    with atomic_path(path) as part, h5py.File(part, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values)
        for name in ("clean", "patch"):
            file[name].attrs["axes"] = "position, model"
            file[name].attrs["unit"] = "residual stream"
        file.attrs.update(
            step=prompts.step,
            layer=prompts.layer,
            examples_sha256=prompts.examples_sha256,
            content_sha256=array_sha256(*arrays.values()),
            provenance=canonical_json(provenance),
        )


def read_prompts(path: str | Path) -> PromptActivations:
    """Read prompt activations; raise `PromptError` when the content is not what its hash says."""
    try:
        with h5py.File(path, "r") as file:
            arrays = {name: file[name][:] for name in ("line", "offset", "clean", "patch")}
            stored = str(file.attrs["content_sha256"])
            prompts = PromptActivations(
                step=int(file.attrs["step"]),
                layer=int(file.attrs["layer"]),
                examples_sha256=str(file.attrs["examples_sha256"]),
                **arrays,
            )
    except (OSError, KeyError) as error:
        raise PromptError(
            f"{path}: not a readable file of prompt activations ({error}); delete it and rerun"
        ) from error
    if array_sha256(*arrays.values()) != stored:
        raise PromptError(
            f"{path}: the activations are not those that were written (hash differs); delete the file and rerun"
        )
    return prompts


def require_same_prompts(prompts: PromptActivations, path: str | Path, *, examples_sha256: str, layer: int) -> None:
    """Raise `PromptError` unless the activations are of this task file and this layer."""
    if prompts.examples_sha256 != examples_sha256:
        raise PromptError(f"{path}: was captured on other task examples; delete it and rerun")
    if prompts.layer != layer:
        raise PromptError(f"{path}: holds block {prompts.layer}, expected block {layer}; delete it and rerun")
