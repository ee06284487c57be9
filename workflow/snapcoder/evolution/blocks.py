"""Do directions fall into two blocks of snapshots, unrelated across and alike within, or do they just drift?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from snapcoder.evolution.turning import Turns, amount_turned, true_cosines
from snapcoder.evolution.turning_points import at_constant_speed, complete, exchanged, p_value

MIN_BLOCK = 2  # snapshots in a block: one alone has no pair within


def block_means(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean cosine before, after and across every split of the snapshots, each [draw, split].

    matrices [draw, snapshot, snapshot] with NaN for undefined pairs. Split s lies between snapshots s + 1 and s + 2
    (both blocks have at least two); pairs of a snapshot with itself do not count.
    """
    n = matrices.shape[1]
    upper = np.triu(np.ones((n, n), dtype=bool), 1)
    known = ~np.isnan(matrices)
    values = np.where(known, matrices, 0.0)
    early = np.arange(n)[None] < np.arange(MIN_BLOCK, n - MIN_BLOCK + 1)[:, None]  # [split, snapshot]
    masks = (
        early[:, :, None] & early[:, None, :] & upper,
        ~early[:, :, None] & ~early[:, None, :] & upper,
        early[:, :, None] & ~early[:, None, :],
    )
    means = []
    for mask in masks:
        count = np.einsum("kab,dab->dk", mask.astype(np.float64), known.astype(np.float64))
        total = np.einsum("kab,dab->dk", mask.astype(np.float64), values)
        means.append(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
    return means[0], means[1], means[2]


def best_split(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest contrast (mean of the two within-block means minus the mean across) and its split, [draw].

    The blocks count alike whatever their sizes. Undefined splits are passed over; NaN when there is none.
    """
    before, after, across = block_means(matrices)
    contrast = (before + after) / 2 - across
    usable = np.where(np.isnan(contrast), -np.inf, contrast)
    split = usable.argmax(axis=1)
    best = usable[np.arange(len(usable)), split]
    return np.where(np.isfinite(best), best, np.nan), split


def drifted(amounts: np.ndarray) -> np.ndarray:
    """Return the cosine matrices of directions that wander by `amounts` [draw, interval], [draw, snapshot, snapshot].

    amounts: −ln cos of each interval, which adds up along the path of a random walk on the sphere.
    """
    path = np.concatenate([np.zeros((len(amounts), 1)), np.cumsum(np.maximum(amounts, 0.0), axis=1)], axis=1)
    return np.exp(-np.abs(path[:, :, None] - path[:, None, :]))


def two_blocks(
    turns: Mapping[str, Turns],
    steps: Sequence[int],
    clocks: Mapping[str, np.ndarray],
    weights: np.ndarray,
    *,
    chance: float,
    permutations: int,
    seed: int,
) -> pd.DataFrame:
    """Return rows `blocks` of the table turning_points, one per kind of turn and clock; arguments as there.

    The tests ask whether the increments −ln cos per unit clock make a sharper pair of blocks than a random walk would:
    one of constant speed, and one that has the same speeds in any other order. A smooth drift makes blocks, too.
    """
    rows: list[dict[str, object]] = []
    for name, turn in turns.items():
        cosines = true_cosines(turn, weights, summary="mean", chance=chance)
        amounts, known = complete(amount_turned(cosines, law="wandering", chance=chance) / 2 / np.degrees(1.0) ** 2)
        observed = _observed(turn.matrices, np.asarray(steps)) if len(steps) >= 2 * MIN_BLOCK else {}
        for clock, times in clocks.items():
            key = {"turn": name, "clock": clock, "law": "wandering", "statistic": "blocks", "unit": "cosine"}
            test = {}
            if len(known) >= 2 * MIN_BLOCK - 1 and observed:
                widths = np.diff(times)[known]
                test = _tested(amounts / widths, widths, permutations=permutations, seed=seed)
            rows.append({**key, "n_intervals": len(known), **observed, **test})
    return pd.DataFrame(rows)


def _observed(matrices: np.ndarray, steps: np.ndarray) -> dict[str, object]:
    contrast, split = best_split(matrices)
    if np.isnan(contrast[0]):
        return {}
    here = split[0]
    before, after, across = (means[:, here] for means in block_means(matrices))
    lo, hi = np.nanpercentile(contrast[1:], [2.5, 97.5])
    first, last = (int(np.percentile(split[1:], q, method="inverted_cdf")) for q in (2.5, 97.5))
    row: dict[str, object] = {"value": contrast[0], "value_ci_lo": lo, "value_ci_hi": hi}
    for name, means in (("before", before), ("after", after), ("across", across)):
        ends = np.nanpercentile(means[1:], [2.5, 97.5])
        row |= {f"cos_{name}": means[0], f"cos_{name}_ci_lo": ends[0], f"cos_{name}_ci_hi": ends[1]}
    return {
        **row,
        "step_a": int(steps[here + MIN_BLOCK - 1]),
        "step_b": int(steps[here + MIN_BLOCK]),
        "ci_lo": int(steps[first + MIN_BLOCK - 1]),
        "ci_hi": int(steps[last + MIN_BLOCK]),
    }


def _tested(speeds: np.ndarray, widths: np.ndarray, *, permutations: int, seed: int) -> dict[str, object]:
    def contrast(drawn: np.ndarray) -> np.ndarray:
        return best_split(drifted(drawn * widths))[0]

    value = float(contrast(speeds[:1])[0])
    constant = contrast(at_constant_speed(speeds, widths))
    order = contrast(exchanged(speeds[0], permutations=permutations, seed=seed))
    return {
        "constant_p95": float(np.percentile(constant, 95)),
        "order_p95": float(np.percentile(order, 95)),
        "p_constant": p_value(constant, value),
        "p_order": p_value(order, value),
    }
