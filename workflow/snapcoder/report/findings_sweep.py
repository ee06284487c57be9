"""Findings about a sweep: one dictionary for all snapshots against one of its own for each."""

import pandas as pd

from snapcoder.figures.sweep_curves import sae_at_equal_l0
from snapcoder.report.finding import Finding, Statistic, Verdict, number, plural, step, undecidable

LOSS = 0.02  # explained variance that sharing one dictionary may cost at any snapshot


def sweep_findings(metrics: pd.DataFrame) -> list[Finding]:
    """Return what a sweep finds about sharing one dictionary; nothing for a study without autoencoders."""
    if metrics.empty or not (metrics["kind"] == "sae").any():
        return []
    return [_sharing(metrics)]


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
