"""The decoders of all shown snapshots in step order: base dictionary and extensions side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.storage.dictionaries import Dictionary, Extension


@dataclass(frozen=True)
class SnapshotDecoders:
    """Decoders by step, without copies of the weights.

    steps, added (shown through an extension) [snapshot]; decoders: one [feature, model] per snapshot;
    threshold [snapshot, feature] on z·norm; scale [snapshot] and center [snapshot, model] take raw activations a to
    x = (a − center)·scale.
    """

    steps: tuple[int, ...]
    added: tuple[bool, ...]
    decoders: tuple[np.ndarray, ...]
    threshold: np.ndarray
    scale: np.ndarray
    center: np.ndarray
    gate: str
    layer: int

    @property
    def n_features(self) -> int:
        """F."""
        return int(self.decoders[0].shape[0])

    @property
    def d_model(self) -> int:
        """d."""
        return int(self.decoders[0].shape[1])

    def norms(self) -> np.ndarray:
        """Return ‖decoder_s,i‖ in snapshot-normalised units, [snapshot, feature] float32."""
        return np.stack([np.linalg.norm(decoder, axis=1) for decoder in self.decoders])

    def directions(self, snapshot: int) -> np.ndarray:
        """Return the unit decoder directions of one snapshot, [feature, model] float32; NaN for a zero decoder."""
        decoder = self.decoders[snapshot]
        norm = np.linalg.norm(decoder, axis=1, keepdims=True)
        return np.divide(decoder, norm, out=np.full_like(decoder, np.nan), where=norm > 0)


def merge_decoders(dictionary: Dictionary, extensions: Sequence[Extension] = ()) -> SnapshotDecoders:
    """Put the base snapshots and the added ones into one sequence ordered by step.

    Raises ValueError when two snapshots have the same step or an extension belongs to another dictionary.
    """
    for extension in extensions:
        if extension.layer != dictionary.layer or extension.decoder.shape != dictionary.decoder.shape[1:]:
            raise ValueError(
                f"the extension at step {extension.step} has layer {extension.layer} and decoder "
                f"{extension.decoder.shape}, the dictionary layer {dictionary.layer} and "
                f"{dictionary.decoder.shape[1:]}; fit it again on this dictionary"
            )
    steps = [*dictionary.steps, *(extension.step for extension in extensions)]
    if len(set(steps)) < len(steps):
        raise ValueError(f"the snapshots {sorted(steps)} hold a step twice; remove it from snapshots.added")
    n_base = len(dictionary.steps)
    order = np.argsort(steps)
    decoders = [*dictionary.decoder, *(extension.decoder for extension in extensions)]
    threshold = [dictionary.threshold] * n_base + [extension.threshold for extension in extensions]
    scale = [*dictionary.scale, *(extension.scale for extension in extensions)]
    center = [*dictionary.center, *(extension.center for extension in extensions)]
    return SnapshotDecoders(
        steps=tuple(int(steps[i]) for i in order),
        added=tuple(bool(i >= n_base) for i in order),
        decoders=tuple(decoders[i] for i in order),
        threshold=np.stack([threshold[i] for i in order]),
        scale=np.array([scale[i] for i in order], dtype=np.float64),
        center=np.stack([center[i] for i in order]),
        gate=dictionary.gate,
        layer=dictionary.layer,
    )


def alive_matrix(trajectory: pd.DataFrame, steps: Sequence[int]) -> np.ndarray:
    """Return the column alive of a trajectory table as bool [snapshot, feature].

    Raises ValueError when the table's snapshots are not `steps`: it was made for another study.
    """
    ordered = trajectory.sort_values(["step", "feature"])
    found = tuple(int(step) for step in ordered["step"].unique())
    if found != tuple(steps):
        raise ValueError(
            f"the trajectory table holds snapshots {found}, the dictionary {tuple(steps)}; rerun trajectories"
        )
    return ordered["alive"].to_numpy().astype(bool).reshape(len(found), -1)
