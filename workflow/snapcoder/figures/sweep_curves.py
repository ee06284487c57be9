"""What the figure of a sweep draws: spreads over seeds, Pareto fronts, and scores compared at equal L0."""

import numpy as np
import pandas as pd

POINT = ["kind", "arm", "n_features", "sparsity"]
"""What identifies a dictionary of the sweep up to its seed."""

NEAR = 1.05  # ratio of L0 up to which the outermost dictionary of a curve stands for its end


def pareto_front(l0: np.ndarray, ev: np.ndarray) -> np.ndarray:
    """Return which points (l0, ev) no other point dominates, [point] bool.

    A point dominates another when its L0 is no higher and its explained variance no lower, and one of the two differs.
    """
    front = np.zeros(len(l0), dtype=bool)
    best_before, order = -np.inf, np.lexsort((-ev, l0))  # by L0; at equal L0 the best explained variance first
    at = 0
    while at < len(order):
        alike = order[at:][l0[order[at:]] == l0[order[at]]]
        best = ev[alike[0]]
        if best > best_before:
            front[alike[ev[alike] == best]] = True
            best_before = best
        at += len(alike)
    return front


def seed_spread(scores: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return mean, lowest and highest `ev` and `l0` over seeds, one row per combination of the columns `by`."""
    grouped = scores.groupby(by, sort=True, as_index=False)
    return grouped.agg(
        ev=("ev", "mean"),
        ev_lo=("ev", "min"),
        ev_hi=("ev", "max"),
        l0=("l0", "mean"),
        l0_lo=("l0", "min"),
        l0_hi=("l0", "max"),
        n_seeds=("seed", "nunique"),
    )


def with_front(points: pd.DataFrame) -> pd.DataFrame:
    """Add `on_front`: no other point of the same kind, arm and size dominates this one."""
    points = points.assign(on_front=False)
    for _, curve in points.groupby(["kind", "arm", "n_features"]):
        points.loc[curve.index, "on_front"] = pareto_front(curve["l0"].to_numpy(), curve["ev"].to_numpy())
    return points


def pooled_points(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the crosscoders' scores pooled over all snapshots, over seeds, with their fronts."""
    pooled = metrics[(metrics["kind"] == "crosscoder") & (metrics["snapshot"] == -1)]
    return with_front(seed_spread(pooled, POINT))


def shared_points(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return crosscoders and autoencoders averaged over the same snapshots: those with autoencoders of their own."""
    steps = metrics.loc[metrics["kind"] == "sae", "step"].unique()
    shared = metrics[(metrics["snapshot"] >= 0) & metrics["step"].isin(steps)]
    means = shared.groupby([*POINT, "seed"], sort=True, as_index=False)[["ev", "l0"]].mean()
    return with_front(seed_spread(means, POINT))


def middle_sparsity(metrics: pd.DataFrame, arm: str) -> float:
    """Return the middle one (the lower of two) of an arm's sparsity values."""
    values = np.sort(metrics.loc[metrics["arm"] == arm, "sparsity"].unique())
    return float(values[(len(values) - 1) // 2])


def ev_at_l0(l0: float, curve: pd.DataFrame) -> float:
    """Return a curve's explained variance at `l0`, linear in log L0 between its dictionaries (columns l0, ev).

    Not a number outside their range, which ends `NEAR` beyond the outermost dictionary.
    """
    known = curve[curve["l0"] > 0].sort_values("l0")
    if known.empty or not known["l0"].iloc[0] / NEAR <= l0 <= known["l0"].iloc[-1] * NEAR:
        return float("nan")
    return float(np.interp(np.log(l0), np.log(known["l0"]), known["ev"]))


def sae_at_equal_l0(metrics: pd.DataFrame, *, arm: str, sparsity: float) -> pd.DataFrame:
    """Return per size, snapshot and seed what autoencoders explain at the L0 of the crosscoder with `sparsity`.

    Columns: n_features, step, seed, l0 (the crosscoder's at that snapshot), ev (its autoencoders', same arm, size and
    seed), ev_crosscoder; rows outside the range of the autoencoders' L0 are left out.
    """
    here = metrics[(metrics["arm"] == arm) & (metrics["snapshot"] >= 0)]
    keys = ["n_features", "step", "seed"]
    curves = dict(list(here[here["kind"] == "sae"].groupby(keys)))
    crosscoders = here[(here["kind"] == "crosscoder") & (here["sparsity"] == sparsity)]
    rows = []
    for size, step, seed, l0, ev in zip(*(crosscoders[name] for name in (*keys, "l0", "ev")), strict=True):
        curve = curves.get((size, step, seed))
        if curve is not None:
            rows.append((size, step, seed, l0, ev_at_l0(l0, curve), ev))
    return pd.DataFrame(rows, columns=[*keys, "l0", "ev", "ev_crosscoder"]).dropna()
