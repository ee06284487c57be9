"""The trained dictionary as one safetensors file: weights, thresholds, and the stored scales, never folded."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import canonical_json


@dataclass(frozen=True)
class Dictionary:
    """A cross-snapshot dictionary over S snapshots of width d with F features, all float32.

    A raw activation a of snapshot s is normalised as x = (a − center[s]) · scale[s]; the shared pre-activation is
    z = Σ_s x_s · encoder[s] + encoder_bias; feature i is on at snapshot s by `gate`:
    per_snapshot: z_i · ‖decoder[s, i]‖ > threshold_i;
    shared: z_i · sqrt(mean_s ‖decoder[s, i]‖²) > threshold_i, for all s at once.
    The reconstruction is x̂_s = Σ_i f_i decoder[s, i] + decoder_bias[s].

    encoder [snapshot, model, feature]; decoder [snapshot, feature, model]; encoder_bias [feature];
    decoder_bias [snapshot, model]; threshold [feature]; scale [snapshot]; center [snapshot, model];
    steps [snapshot]: training step of each snapshot.
    """

    encoder: np.ndarray
    decoder: np.ndarray
    encoder_bias: np.ndarray
    decoder_bias: np.ndarray
    threshold: np.ndarray
    scale: np.ndarray
    center: np.ndarray
    steps: tuple[int, ...]
    gate: str
    arm: str
    layer: int

    @property
    def n_features(self) -> int:
        """F."""
        return int(self.decoder.shape[1])

    def decoder_norms(self) -> np.ndarray:
        """Return ‖decoder[s, i]‖ in snapshot-normalised units, [snapshot, feature]."""
        return np.linalg.norm(self.decoder, axis=2)


@dataclass(frozen=True)
class SnapshotDecoder:
    """What turns a code into the raw activations of one snapshot: a = (f · decoder + decoder_bias) / scale + center.

    decoder [feature, model]; decoder_bias, center [model].
    """

    decoder: np.ndarray
    decoder_bias: np.ndarray
    scale: float
    center: np.ndarray


@dataclass(frozen=True)
class SnapshotEncoder:
    """One snapshot's term of the shared code, (a − center) · scale · encoder; encoder [model, feature], center [model]."""

    encoder: np.ndarray
    scale: float
    center: np.ndarray


@dataclass(frozen=True)
class DictionaryParts:
    """A dictionary on disk whose weights are read when they are asked for; the fields are those of `Dictionary`."""

    path: Path
    steps: tuple[int, ...]
    gate: str
    layer: int
    threshold: np.ndarray

    def encoder(self, index: int) -> SnapshotEncoder:
        """Read the encoder of one snapshot."""
        here = slice(index, index + 1)
        with safe_open(self.path, framework="numpy") as file:
            encoder, scale, center = (file.get_slice(name)[here][0] for name in ("encoder", "scale", "center"))
        return SnapshotEncoder(encoder, float(scale), center)

    def encoder_bias(self) -> np.ndarray:
        """Read the bias of the shared code, [feature]."""
        with safe_open(self.path, framework="numpy") as file:
            return file.get_tensor("encoder_bias")

    def snapshot(self, index: int) -> SnapshotDecoder:
        """Read the decoder of one snapshot."""
        here = slice(index, index + 1)
        with safe_open(self.path, framework="numpy") as file:
            decoder, bias, scale, center = (
                file.get_slice(name)[here][0] for name in ("decoder", "decoder_bias", "scale", "center")
            )
        return SnapshotDecoder(decoder, bias, float(scale), center)


@dataclass(frozen=True)
class Extension:
    """An added snapshot's share of a frozen dictionary.

    decoder [feature, model]; decoder_bias [model]; scale (); center [model]; encoder [model, feature] is the
    snapshot's own encoder term (zeros at level `frozen`): its code is z + x · encoder + encoder_bias, gated by
    z · ‖decoder[i]‖ > threshold_i (per snapshot) with threshold re-tracked to the base's L0.
    """

    decoder: np.ndarray
    decoder_bias: np.ndarray
    scale: float
    center: np.ndarray
    encoder: np.ndarray
    encoder_bias: np.ndarray
    threshold: np.ndarray
    step: int
    level: str
    layer: int


@dataclass(frozen=True)
class SnapshotWeights:
    """The decoder side of one snapshot, base or added, without the rest of its dictionary.

    decoder [feature, model]; threshold [feature] on z · norm; scale () and center [model] take raw activations a to
    x = (a − center) · scale; added: shown through an extension.
    """

    decoder: np.ndarray
    threshold: np.ndarray
    scale: float
    center: np.ndarray
    step: int
    gate: str
    layer: int
    added: bool

    def norms(self) -> np.ndarray:
        """Return ‖decoder[i]‖, [feature] float32."""
        return np.linalg.norm(self.decoder, axis=1)


@dataclass(frozen=True)
class Gates:
    """When the features of a dictionary are on: decoder norms [snapshot, feature], threshold [feature], and the rule."""

    norms: np.ndarray
    threshold: np.ndarray
    steps: tuple[int, ...]
    gate: str


_TENSORS = ("encoder", "decoder", "encoder_bias", "decoder_bias", "threshold", "scale", "center")
_EXTENSION = ("decoder", "decoder_bias", "center", "encoder", "encoder_bias", "threshold")


def _save(path: str | Path, tensors: dict[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    # One metadata key: safetensors writes several keys in random order, which would change the file's hash.
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={"snapcoder": canonical_json(facts)})


def _facts(path: str | Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as file:
        return dict(json.loads((file.metadata() or {}).get("snapcoder", "{}")))


def write_dictionary(path: str | Path, dictionary: Dictionary, provenance: Mapping[str, Any]) -> None:
    """Write a dictionary atomically."""
    tensors = {name: np.ascontiguousarray(getattr(dictionary, name), dtype=np.float32) for name in _TENSORS}
    _save(
        path,
        tensors,
        {
            "steps": list(dictionary.steps),
            "gate": dictionary.gate,
            "arm": dictionary.arm,
            "layer": dictionary.layer,
            "provenance": provenance,
        },
    )


def read_dictionary(path: str | Path) -> Dictionary:
    """Read a dictionary written by `write_dictionary`."""
    facts = _facts(path)
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in _TENSORS}
    return Dictionary(
        **tensors, steps=tuple(facts["steps"]), gate=facts["gate"], arm=facts["arm"], layer=facts["layer"]
    )


def open_dictionary(path: str | Path) -> DictionaryParts:
    """Open a dictionary to read the decoder of one snapshot at a time, without weights that may be many gigabytes."""
    facts = _facts(path)
    with safe_open(path, framework="numpy") as file:
        threshold = file.get_tensor("threshold")
    return DictionaryParts(Path(path), tuple(facts["steps"]), facts["gate"], facts["layer"], threshold)


def read_snapshot(path: str | Path, step: int) -> SnapshotWeights:
    """Read the decoder side of one base snapshot; raise ValueError when the dictionary does not hold it."""
    facts = _facts(path)
    if step not in facts["steps"]:
        raise ValueError(f"{path}: holds no snapshot {step}, only {facts['steps']}; add it to snapshots.added")
    index = facts["steps"].index(step)
    with safe_open(path, framework="numpy") as file:
        return SnapshotWeights(
            decoder=file.get_slice("decoder")[index],
            threshold=file.get_tensor("threshold"),
            scale=float(file.get_tensor("scale")[index]),
            center=file.get_tensor("center")[index],
            step=step,
            gate=facts["gate"],
            layer=facts["layer"],
            added=False,
        )


def read_gates(path: str | Path) -> Gates:
    """Read when features are on, holding the decoder of one snapshot at a time."""
    facts = _facts(path)
    with safe_open(path, framework="numpy") as file:
        decoder = file.get_slice("decoder")
        norms = [np.linalg.norm(decoder[index], axis=1) for index in range(len(facts["steps"]))]
        threshold = file.get_tensor("threshold")
    return Gates(norms=np.stack(norms), threshold=threshold, steps=tuple(facts["steps"]), gate=facts["gate"])


def write_extension(path: str | Path, extension: Extension, provenance: Mapping[str, Any]) -> None:
    """Write an extension atomically."""
    tensors = {name: np.ascontiguousarray(getattr(extension, name), dtype=np.float32) for name in _EXTENSION}
    tensors["scale"] = np.array([extension.scale], dtype=np.float32)
    facts = {"step": extension.step, "level": extension.level, "layer": extension.layer, "provenance": provenance}
    _save(path, tensors, facts)


def read_extension(path: str | Path) -> Extension:
    """Read an extension written by `write_extension`."""
    facts = _facts(path)
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in _EXTENSION}
        scale = float(file.get_tensor("scale")[0])
    return Extension(**tensors, scale=scale, step=facts["step"], level=facts["level"], layer=facts["layer"])


def read_added_snapshot(path: str | Path, dictionary: str | Path) -> SnapshotWeights:
    """Read the decoder side of an added snapshot; raise ValueError when it extends another dictionary."""
    facts, base = _facts(path), _facts(dictionary)
    with safe_open(dictionary, framework="numpy") as file:
        expected = tuple(file.get_slice("decoder").get_shape()[1:])
    with safe_open(path, framework="numpy") as file:
        shape = tuple(file.get_slice("decoder").get_shape())
        if facts["layer"] != base["layer"] or shape != expected:
            raise ValueError(
                f"{path}: layer {facts['layer']} and decoder {shape}, but {dictionary} has layer {base['layer']} and "
                f"{expected}; fit it again on this dictionary"
            )
        return SnapshotWeights(
            decoder=file.get_tensor("decoder"),
            threshold=file.get_tensor("threshold"),
            scale=float(file.get_tensor("scale")[0]),
            center=file.get_tensor("center"),
            step=facts["step"],
            gate=base["gate"],
            layer=facts["layer"],
            added=True,
        )
