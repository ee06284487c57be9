"""What the rules of timing say when the snapshots are put in any order: how much of a history is order at all.

A dictionary does not know the order of its snapshots, so that shuffling them changes nothing but the reading. Features
whose norms only scatter switch on and off as often in the true order as in any other.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.evolution.curves import FeatureCurves
from snapcoder.evolution.timing import classify, onset, presence_by_norm
from snapcoder.study.analysis import EvolutionSettings


@dataclass(frozen=True)
class Quantity:
    """One number read off the histories of all live features, its unit, and what the true order should do to it."""

    name: str
    unit: str
    smaller_is_order: bool


QUANTITIES = (
    Quantity("switches", "changes/feature", smaller_is_order=True),
    Quantity("share_unbroken", "share", smaller_is_order=False),
    Quantity("share_emergent", "share", smaller_is_order=False),
    Quantity("share_transient", "share", smaller_is_order=True),
    Quantity("share_initialization", "share", smaller_is_order=False),
    Quantity("onset_peak_share", "share", smaller_is_order=False),
)


def shuffled_order(
    curves: FeatureCurves, *, settings: EvolutionSettings, permutations: int, seed: int, layer: int
) -> pd.DataFrame:
    """Return the table shuffled_order: one row per quantity, observed and over shuffled snapshots.

    p: share of shuffles that look at least as ordered, (1 + #) / (1 + n). The same shuffle serves all features, as one
    wrong order of the snapshots would.
    """
    live = curves.alive.any(axis=0)
    norms, rates, alive = (values[:, live] for values in (curves.norm, curves.rate, curves.alive))
    observed = _quantities(norms, rates, alive, settings)
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(len(norms)) for _ in range(permutations)]
    drawn = np.array(
        [_quantities(norms[order], rates[order], alive[order], settings) for order in orders]
    )  # [permutation, quantity]
    rows = []
    for index, quantity in enumerate(QUANTITIES):
        value, null = observed[index], drawn[:, index]
        null = null[~np.isnan(null)]
        beyond = null <= value if quantity.smaller_is_order else null >= value
        known = len(null) > 0 and np.isfinite(value)
        lo, hi = np.percentile(null, [2.5, 97.5]) if len(null) else (np.nan, np.nan)
        rows.append(
            {
                "layer": layer,
                "quantity": quantity.name,
                "unit": quantity.unit,
                "value": value,
                "shuffled_mean": float(null.mean()) if len(null) else np.nan,
                "shuffled_lo": float(lo),
                "shuffled_hi": float(hi),
                "p": (1 + int(beyond.sum())) / (1 + len(null)) if known else np.nan,
                "n_features": int(live.sum()),
                "n_shuffles": permutations,
            }
        )
    return pd.DataFrame(rows)


def _quantities(
    norms: np.ndarray, rates: np.ndarray, alive: np.ndarray, settings: EvolutionSettings
) -> tuple[float, ...]:
    """Return the quantities of histories [snapshot, feature] in the order of `QUANTITIES`; NaN without a feature."""
    if not norms.shape[1]:
        return (float("nan"),) * len(QUANTITIES)
    present = presence_by_norm(norms, alpha=settings.alpha)
    switches = (present[1:] != present[:-1]).sum(axis=0)
    kinds = classify(norms, rates, alive, present, settings)
    first = onset(present, np.arange(len(present)), consecutive=settings.consecutive)
    dated = first.hi[first.censoring == "interval"].astype(int)
    peak = np.bincount(dated).max() / len(dated) if len(dated) else float("nan")
    shares = (float((kinds == name).mean()) for name in ("emergent", "transient", "initialization"))
    return (float(switches.mean()), float((switches <= 1).mean()), *shares, float(peak))
