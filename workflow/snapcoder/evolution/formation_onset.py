"""When features form in the activations: the onset rule of the norm, applied to formation."""

import numpy as np
import pandas as pd

from snapcoder.evolution.timing import onset
from snapcoder.study.analysis import EvolutionSettings

Q_LEVEL = 0.05
COLUMNS = ["feature", "formation_max", "peak_step", "onset_lo", "onset_hi", "onset_censoring", "above_selection"]


def relative_formation(parts: pd.DataFrame) -> pd.DataFrame:
    """Return all snapshots' formation with `formation_rel`, the share of each feature's largest; NaN when none is positive."""
    largest = parts.groupby("feature")["formation"].transform("max")
    return parts.assign(formation_rel=(parts["formation"] / largest).where(largest > 0))


def formation_onsets(parts: pd.DataFrame, *, settings: EvolutionSettings) -> pd.DataFrame:
    """Return the table formation_onset, without layer: one row per feature of `parts`, the formation of all snapshots.

    Formed at a snapshot: formation at least α of the feature's own maximum, and more than under random exchanges of
    rows and controls (q < 0.05). Onset: the first of m such snapshots in a row.
    """
    if parts.empty:
        return pd.DataFrame(columns=COLUMNS)
    steps, features = np.sort(parts["step"].unique()), np.sort(parts["feature"].unique())
    ordered = parts.sort_values(["step", "feature"])
    formed, q, floor = (
        ordered[name].to_numpy(np.float64, na_value=np.nan).reshape(len(steps), -1)  # [snapshot, feature]
        for name in ("formation", "q", "selection_p95")
    )
    value = np.where(np.isnan(formed), -np.inf, formed)
    peak, largest = value.argmax(axis=0), value.max(axis=0)
    present = (value >= settings.alpha * largest) & (largest > 0) & (q < Q_LEVEL)
    start = onset(present, steps, consecutive=settings.consecutive)
    known = np.isfinite(largest)
    column = np.arange(len(features))
    return pd.DataFrame(
        {
            "feature": features,
            "formation_max": np.where(known, largest, np.nan),
            "peak_step": _nullable(np.where(known, steps[peak], np.nan)),
            "onset_lo": _nullable(start.lo),
            "onset_hi": _nullable(start.hi),
            "onset_censoring": start.censoring,
            "above_selection": known & (value[peak, column] > floor[peak, column]),
        }
    )


def _nullable(values: np.ndarray) -> pd.arrays.IntegerArray:
    missing = np.isnan(values)
    return pd.arrays.IntegerArray(np.where(missing, 0, values).astype(np.int64), missing)
