"""Findings about a sweep: one dictionary for all snapshots against one of its own for each."""

from itertools import pairwise

import numpy as np
import pandas as pd

from snapcoder.figures.sweep_curves import ev_at_l0, sae_at_equal_l0
from snapcoder.report.finding import Finding, Statistic, Verdict, number, plural, step, undecidable

LOSS = 0.02  # explained variance that sharing one dictionary may cost at any snapshot


def sweep_findings(metrics: pd.DataFrame) -> list[Finding]:
    """Return what a sweep finds about size and about sharing one dictionary; about sharing only with
    autoencoders of single snapshots."""
    if metrics.empty:
        return []
    found = [_size(metrics)]
    return [*found, _sharing(metrics)] if (metrics["kind"] == "sae").any() else found


def _size(metrics: pd.DataFrame) -> Finding:
    """Compare sizes at equal L0, arm and seed: each larger dictionary against the next smaller one."""
    claim, name = "A larger dictionary explains more at equal sparsity", "sweep_metrics"
    pooled = metrics[(metrics["kind"] == "crosscoder") & (metrics["snapshot"] == -1)]
    gains: list[tuple[int, int, float]] = []
    for _, runs in pooled.groupby(["arm", "seed"]):
        for smaller, larger in pairwise(sorted(runs["n_features"].unique())):
            curve = runs[runs["n_features"] == smaller]
            for row in runs[runs["n_features"] == larger].itertuples():
                other = ev_at_l0(float(row.l0), curve)
                if np.isfinite(other):
                    gains.append((int(smaller), int(larger), float(row.ev) - other))
    if not gains:
        return undecidable("dictionary_size", "dictionary", claim, "No two sizes reach the same L0.", name)
    gain = np.array([value for _, _, value in gains])
    texts = ", ".join(
        f"{number(float(np.mean([value for a, b, value in gains if (a, b) == pair])), 3)} from {pair[0]:,} to {pair[1]:,}"
        for pair in sorted({(a, b) for a, b, _ in gains})
    )
    verdict: Verdict = "found" if (gain > 0).all() else "not_found" if gain.mean() <= 0 else "undecidable"
    return Finding(
        "dictionary_size",
        "dictionary",
        claim,
        verdict,
        f"Pooled explained variance gained at equal L0: {texts}; more at {int((gain > 0).sum())} of "
        f"{plural(len(gain), 'comparison')} (arm, sparsity, seed).",
        (Statistic("mean gain in explained variance", float(gain.mean()), name, float(gain.min()), float(gain.max())),),
        caveat="Brackets of the gain are its range over comparisons, no interval of confidence. Every size is trained equally "
        "long, so a large dictionary may be further from converged.",
    )


def _sharing(metrics: pd.DataFrame) -> Finding:
    claim, name = "One dictionary for all snapshots explains as much as one of its own for each", "sweep_metrics"
    points = metrics[["arm", "sparsity"]].drop_duplicates().sort_values(["arm", "sparsity"])
    pairs = pd.concat(
        sae_at_equal_l0(metrics, arm=arm, sparsity=sparsity)
        for arm, sparsity in zip(points["arm"], points["sparsity"], strict=True)
    )
    if pairs.empty:
        why = "No crosscoder has an L0 within the range of the autoencoders of the same arm and size."
        return undecidable("sharing", "dictionary", claim, why, name)
    gaps = (pairs["ev_crosscoder"] - pairs["ev"]).groupby(pairs["step"]).mean()
    mean = float((pairs["ev_crosscoder"] - pairs["ev"]).mean())
    low, high = int(gaps.to_numpy().argmin()), int(gaps.to_numpy().argmax())
    (worst, best), (worst_at, best_at) = gaps.iloc[[low, high]], gaps.index[[low, high]]
    sentence = (
        f"At equal L0, arm and size, explained variance of the crosscoder minus that of the snapshot's own sparse "
        f"autoencoder is {number(mean, 3)} on average over {plural(len(pairs), 'pair')}; by snapshot, from "
        f"{number(worst, 3)} ({step(float(worst_at))}) to {number(best, 3)} ({step(float(best_at))})."
    )
    verdict: Verdict = "found" if (gaps >= -LOSS).all() else "not_found"
    return Finding(
        "sharing",
        "dictionary",
        claim,
        verdict,
        sentence,
        (
            Statistic("mean gap in explained variance", mean, name),
            Statistic("gap, worst snapshot", float(worst), name),
            Statistic("gap, best snapshot", float(best), name),
        ),
        caveat=f"Counted as found when no snapshot lacks more than {LOSS} on average. Only the snapshots with autoencoders "
        "of their own are compared; both were trained equally long, and the autoencoders' scores are interpolated to "
        "the crosscoder's L0.",
    )
