"""What an activation is taken apart into, and what ablating a part does: features, neurons, principal directions.

Features leave a reconstruction error, which keeps its clean value whatever is ablated. Neurons (coordinates of the
residual stream) and principal directions leave none: with all of them at their patch value the whole activation is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csc_array

from snapcoder.attribution.prompt_codes import SnapshotDictionary
from snapcoder.attribution.task_prompts import TaskPrompts


@dataclass(frozen=True)
class Units:
    """Parts of an activation: kind feature, neuron or pca; an activation is code · directions / scale and a rest.

    directions [unit, model] float32.
    """

    kind: str
    directions: np.ndarray
    scale: float = 1.0


@dataclass(frozen=True)
class Replacement:
    """How an ablation changes each unit: its code falls by `code` − `offset` at each position.

    ablation: zero, mean or resample; code [position, unit], sparse or dense; offset [unit], or None for 0.
    """

    ablation: str
    units: Units
    code: csc_array | np.ndarray
    offset: np.ndarray | None = None

    @cached_property
    def changing(self) -> np.ndarray:
        """Units that the ablation changes at any position, [unit] bool."""
        changes = np.asarray(abs(self.code).sum(axis=0)).ravel() > 0
        return changes if self.offset is None else changes | (self.offset != 0)

    def removed(self, chosen: np.ndarray) -> np.ndarray:
        """Return Σ over the chosen units of (code − offset) · direction / scale, [position, model] float32."""
        directions = self.units.directions[chosen]
        part = self.code[:, chosen] @ directions
        if self.offset is not None:
            part = part - self.offset[chosen] @ directions
        return (part / np.float32(self.units.scale)).astype(np.float32)


def feature_replacements(prompts: TaskPrompts, here: SnapshotDictionary, mean: np.ndarray) -> dict[str, Replacement]:
    """Return the three ablations of features, by name.

    An ablated feature has the value 0 (zero), its mean over the snapshot's cached rows, `mean` [feature] (mean), or
    its value on the patch prompt (resample).
    """
    units, clean = Units("feature", here.decoder, here.scale), csc_array(prompts.clean_code)
    return {
        "resample": Replacement("resample", units, csc_array(prompts.delta)),
        "mean": Replacement("mean", units, clean, mean.astype(np.float32)),
        "zero": Replacement("zero", units, clean),
    }


def direction_replacement(prompts: TaskPrompts, units: Units) -> Replacement:
    """Return the ablation that gives orthonormal directions their coordinate on the patch prompt."""
    return Replacement("resample", units, (prompts.clean - prompts.patch) @ units.directions.T)


def direction_attributions(prompts: TaskPrompts, gradient: np.ndarray, units: Units) -> np.ndarray:
    """Return Δ coordinate · mean ∂m/∂coordinate, summed over positions and averaged over examples, [unit].

    gradient [position, model]: the mean gradient on the path, as for features (`gradients.path_gradient`).
    """
    change = (prompts.clean - prompts.patch) @ units.directions.T
    slope = gradient @ units.directions.T
    products: np.ndarray = np.einsum("pu,pu->u", change, slope, dtype=np.float64)
    return products / len(prompts.examples)


def baseline_units(sample: np.ndarray) -> Mapping[str, Units]:
    """Return what features are compared with: neurons, and the principal directions of `sample` [row, model].

    The directions are the eigenvectors of the covariance, the largest variance first: a complete basis of the space.
    """
    centred = sample.astype(np.float64) - sample.mean(axis=0, dtype=np.float64)
    directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1].T
    signs = np.sign(np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1))
    principal = np.ascontiguousarray((directions * signs).astype(np.float32))
    return {
        "neuron": Units("neuron", np.eye(sample.shape[1], dtype=np.float32)),
        "pca": Units("pca", principal),
    }
