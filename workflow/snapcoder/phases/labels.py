"""What a phase is, by rule, from medians of the metrics inside a segment.

- `statistical`: gap_h2 ≤ 0 (the loss has not passed below the bigram model's) and mi_beyond_bigram < `statistical_mi`;
- `feature`: gap_h2 > 0, mi_beyond_bigram ≥ `statistical_mi` and larger at the segment's end than at its start, and new
  features appear in the segment;
- `transition`: neither; `unlabelled`: one of these metrics is missing;
- `unsupported`: the segments are no phases, because one continuous process explains them (p_perm ≥ 0.05).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

SIGNIFICANT = 0.05


def phase_labels(
    breaks: Sequence[int],
    estimates: Mapping[str, np.ndarray],
    n_snapshots: int,
    *,
    p_perm: float,
    statistical_mi: float,
) -> list[str]:
    """Return one label per segment; a single segment needs no p-value. estimates: curves [snapshot] by metric."""
    if len(breaks) and not p_perm < SIGNIFICANT:
        return ["unsupported"] * (len(breaks) + 1)
    needed = [estimates.get(name) for name in ("gap_h2", "mi_beyond_bigram", "n_new")]
    return [_label(needed, first, stop, statistical_mi) for first, stop in pairwise([0, *breaks, n_snapshots])]


def _label(needed: list[np.ndarray | None], first: int, stop: int, statistical_mi: float) -> str:
    gap, information, n_new = (None if curve is None else curve[first:stop] for curve in needed)
    if gap is None or information is None or n_new is None or np.isnan(gap).any() or np.isnan(information).any():
        return "unlabelled"
    level = float(np.median(information))
    if np.median(gap) <= 0 and level < statistical_mi:
        return "statistical"
    rising = information[-1] > information[0]
    if np.median(gap) > 0 and level >= statistical_mi and rising and np.nansum(n_new) > 0:
        return "feature"
    return "transition"
