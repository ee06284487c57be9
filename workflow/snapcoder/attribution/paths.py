"""Straight lines that end in the clean prompt: from the patch prompt, or from codes without a counterfactual.

With reference codes r, features move from r to f and the activation from a − change to a:

    corrupted  r = code of the patch prompt   change = a − ã: the reconstruction error moves, too
    zero       r = 0                          change = Σ_i (f_i − r_i) W_dec,i / scale: the error keeps its clean value
    mean       r = mean code of the feature   likewise
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from snapcoder.attribution.prompt_codes import SnapshotDictionary
from snapcoder.attribution.task_prompts import TaskPrompts

CORRUPTED, ZERO, MEAN = "corrupted", "zero", "mean"


@dataclass(frozen=True)
class Path:
    """A line of activations a(α) = a − (1 − α) · change, α from 0 to 1.

    f − r = varying + constant: varying [position, feature] sparse, constant [feature] the same at every position, None
    for zero. change, error [position, model]: how the activation moves, and the part of it that no feature explains;
    error None: it does not move.
    """

    baseline: str
    varying: csr_array
    constant: np.ndarray | None
    change: np.ndarray
    error: np.ndarray | None


def path_from(
    baseline: str, prompts: TaskPrompts, here: SnapshotDictionary, mean_code: np.ndarray | None = None
) -> Path:
    """Return the path from a baseline; mean_code [feature], needed for mean only: mean gated code at this snapshot."""
    varying, constant = moved_code(baseline, prompts, mean_code)
    directions = here.decoder.astype(np.float64) / here.scale
    explained = varying.astype(np.float64) @ directions  # [position, model]
    if constant is not None:
        explained = explained + constant @ directions
    if baseline != CORRUPTED:
        return Path(baseline, varying, constant, explained.astype(np.float32), None)
    change = prompts.clean - prompts.patch
    return Path(baseline, varying, constant, change, change - explained)


def moved_code(
    baseline: str, prompts: TaskPrompts, mean_code: np.ndarray | None = None
) -> tuple[csr_array, np.ndarray | None]:
    """Return f − r as its varying part [position, feature] and its constant part [feature] or None."""
    if baseline == CORRUPTED:
        return prompts.delta, None
    if baseline == ZERO:
        return prompts.clean_code, None
    if baseline == MEAN and mean_code is not None:
        return prompts.clean_code, -mean_code.astype(np.float64)
    raise ValueError(f"no path from {baseline} codes; use corrupted, zero, or mean with the mean code of every feature")


def moved_features(varying: csr_array, constant: np.ndarray | None, features: np.ndarray) -> np.ndarray:
    """Return f − r of some features, dense [position, chosen feature]."""
    dense = varying[:, features].toarray().astype(np.float64)
    return dense if constant is None else dense + constant[features]
