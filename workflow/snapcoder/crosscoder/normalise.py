"""Put every snapshot's activations on one scale. The scales are stored beside the weights and never folded into them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snapcoder.storage.activations import CacheHeader


@dataclass(frozen=True)
class Normaliser:
    """x = (a − center) · scale, per snapshot. center [snapshot, model]; scale [snapshot]; both float32."""

    center: Tensor
    scale: Tensor

    def normalise(self, activations: Tensor) -> Tensor:
        """Return x [token, snapshot, model] of raw activations of the same shape, in the normaliser's dtype."""
        return activations.to(self.center.dtype).sub(self.center).mul_(self.scale[:, None])

    def denormalise(self, x: Tensor) -> Tensor:
        """Return the raw activations [token, snapshot, model] of normalised ones."""
        return x / self.scale[:, None] + self.center

    def to(self, device: torch.device) -> "Normaliser":
        """Return the same normaliser on another device."""
        return Normaliser(self.center.to(device), self.scale.to(device))

    @classmethod
    def of(cls, center: np.ndarray, scale: np.ndarray | float) -> "Normaliser":
        """Build a normaliser from stored arrays: center [snapshot, model] (or [model]), scale [snapshot] (or a number)."""
        centers = torch.from_numpy(np.atleast_2d(np.asarray(center, dtype=np.float32)))
        return cls(centers, torch.from_numpy(np.atleast_1d(np.asarray(scale, dtype=np.float32))))


def fit_normaliser(headers: Sequence[CacheHeader], *, center: bool) -> Normaliser:
    """Choose each snapshot's center and scale from its cache's statistics over train rows.

    With center, the mean is subtracted and E‖x‖² = d; without, only E‖x‖ = √d as in the paper (CROSSCODER 1.1).
    Raises ValueError naming the snapshot when its activations do not vary.
    """
    centers, scales = [], []
    for header in headers:
        spread = header.mean_square if center else header.mean_norm**2
        if not spread > 0:
            raise ValueError(
                f"snapshot {header.step}: its cached activations are all equal (layer {header.layer}); "
                "leave it out of snapshots.steps or check its checkpoint"
            )
        centers.append(header.mean if center else np.zeros(header.d_model))
        scales.append(np.sqrt(header.d_model / spread))
    return Normaliser.of(np.stack(centers), np.array(scales))
