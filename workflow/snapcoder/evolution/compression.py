"""Does dimensionality first shrink and then grow, and would random directions draw the same curve?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from snapcoder.evolution.dimensionality import TINY, Rates


def depth(curves: np.ndarray) -> np.ndarray:
    """Return how deep the minimum of each curve [draw, snapshot] lies below both its sides, [draw].

    The smaller of (largest value before the minimum − minimum) and (last value − minimum); 0 for a minimum at an end.
    """
    place = curves.argmin(axis=1)
    before = np.where(np.arange(curves.shape[1]) <= place[:, None], curves, -np.inf).max(axis=1)
    low = curves[np.arange(len(curves)), place]
    deep: np.ndarray = np.minimum(before, curves[:, -1]) - low
    return deep


def compression_tests(rates: Rates, steps: Sequence[int]) -> pd.DataFrame:
    """Return the table dimensionality_tests but its layer, one row per measure."""
    rows = [
        {"measure": name, **_compression(draws, np.asarray(steps)), "p_null": float("nan")}
        for name, draws in rates.measured.items()
    ]
    for name in rates.nulls:
        null = rates.apart(name)
        ratio = np.log(np.maximum(null, TINY))
        for measure, draws, own in (
            (f"minus_{name}", rates.minus(name), null - null.mean(axis=0)),
            (f"over_{name}", rates.over(name), ratio - ratio.mean(axis=0)),
        ):
            row = _compression(draws, np.asarray(steps))
            rows.append({"measure": measure, **row, "p_null": _p_null(row["depth"], own)})
    return pd.DataFrame(rows)


def _compression(draws: np.ndarray, steps: np.ndarray) -> dict[str, float]:
    """Locate minimum and largest value before it in the data (row 0); their differences have the spread of all draws."""
    low = int(draws[0].argmin())
    early = int(draws[0, : low + 1].argmax())
    ends = {"early": early, "min": low, "late": draws.shape[1] - 1}
    row: dict[str, float] = {f"step_{name}": int(steps[place]) for name, place in ends.items()}
    row |= {"early": draws[0, early], "minimum": draws[0, low], "late": draws[0, -1]}
    for name, place in (("compression", early), ("expansion", draws.shape[1] - 1)):
        gained = draws[:, place] - draws[:, low]
        row[name] = gained[0]
        row[f"{name}_ci_lo"], row[f"{name}_ci_hi"] = np.percentile(gained[1:], [2.5, 97.5])
    row["depth"] = float(depth(draws[:1])[0])
    return row


def _p_null(found: float, own: np.ndarray) -> float:
    """Return the share of the null's deviations from its mean [draw, snapshot] with a minimum as deep as `found`."""
    return float((1 + (depth(own) >= found).sum()) / (1 + len(own)))
