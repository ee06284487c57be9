"""Whether features form in the activations when the norm, or the combined evidence, says that they start."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.multiplicity import holm
from snapcoder.evolution.order_rows import FEW, LEVEL, UNDEFINED, FeatureTimes, Rows, corrected, verdict_of_effect
from snapcoder.evolution.ordered_groups import shuffled_counts
from snapcoder.evolution.rank_correlation import correlations
from snapcoder.study.order import OrderSettings

CLOSE = 1  # snapshots
MOST = 0.5


def formation_rows(
    formation: pd.DataFrame, steps: np.ndarray, groups: Sequence[FeatureTimes], *, settings: OrderSettings
) -> Rows:
    """Return the rows of `formation_agrees`: rank correlation of both onsets, and how often they nearly coincide.

    formation: the table formation_onset; steps [snapshot]. Features that never form count as not coinciding, and are
    left out of the correlation.
    """
    rows: Rows = []
    own = formation.set_index("feature")
    for times in groups:
        both = own.reindex(times.feature)
        formed = log_steps(both["onset_hi"].to_numpy(dtype=np.float64, na_value=np.nan))
        scored = (both["onset_censoring"].notna() & both["formation_max"].notna()).to_numpy()
        rows += corrected(
            [
                _ranks(formed, times, settings),
                _coinciding(formed[scored], times.times.hi[scored], steps, times, settings),
            ],
            holm,
            "Holm",
        )
    return [{**row, "verdict": _verdict(row, settings)} for row in rows]


def _start(name: str, null: str, n: int, times: FeatureTimes) -> dict:
    return {
        "question": "formation_agrees", "x": "onset_by_formation", "y": "onset", "group": times.group,
        "onset_by": times.by, "statistic_name": name, "null": null, "n": n,
    }  # fmt: skip


def _ranks(formed: np.ndarray, times: FeatureTimes, settings: OrderSettings) -> dict:
    keep = ~np.isnan(formed)
    x, y = formed[keep], times.position()[keep]
    result, _ = correlations(
        x, y, np.empty((len(x), 0)), bootstrap=settings.bootstrap, permutations=settings.permutations,
        seed=settings.seed,
    )  # fmt: skip
    row = _start("spearman", "features permuted", result.n, times)
    earlier = f"; formation first in {float((x < y).mean()):.0%}" if len(x) else ""
    values = {"statistic": result.value, "effect": result.value, "ci_lo": result.ci_lo, "ci_hi": result.ci_hi}
    return {
        **row,
        **values,
        "p": result.p,
        "note": f"{int((~keep).sum())} features never form by this measure{earlier}",
    }


def _coinciding(
    formed: np.ndarray, begun: np.ndarray, steps: np.ndarray, times: FeatureTimes, settings: OrderSettings
) -> dict:
    """Compare in snapshots; a feature that never forms does not coincide."""
    row = _start("share_within_one_snapshot", "features permuted", len(formed), times)
    if not len(formed):
        return {**row, **UNDEFINED, "note": "no feature scored by both"}
    clock = log_steps(np.sort(steps))
    never = len(clock)
    a = np.where(np.isnan(formed), never, np.searchsorted(clock, np.nan_to_num(formed)))
    b = np.searchsorted(clock, begun)
    counts = np.zeros((never + 1, len(clock)), dtype=np.int64)
    np.add.at(counts, (a, b), 1)
    close = np.abs(np.arange(never + 1)[:, None] - np.arange(len(clock))) <= CLOSE
    close[never] = False
    generator = np.random.default_rng(settings.seed)
    share = float((counts * close).sum() / len(a))
    null = (shuffled_counts(counts, settings.permutations, generator) * close).sum(axis=(1, 2)) / len(a)
    low, high = stats.binomtest(round(share * len(a)), len(a)).proportion_ci(method="wilson")
    p = (1 + int((null >= share - 1e-12).sum())) / (1 + settings.permutations)
    note = f"by chance {float(null.mean()):.0%}"
    return {**row, "statistic": share, "effect": share, "ci_lo": float(low), "ci_hi": float(high), "p": p, "note": note}


def _verdict(row: dict, settings: OrderSettings) -> str:
    if row["statistic_name"] == "spearman":
        return verdict_of_effect(
            row["effect"], row["ci_hi"], row["p_adjusted"], smallest=settings.smallest_effect, enough=row["n"] >= FEW
        )
    if row["n"] < FEW or np.isnan(row["p_adjusted"]):
        return "undecidable"
    if row["ci_lo"] > MOST and row["p_adjusted"] < LEVEL:
        return "supported"
    return "not_supported" if row["ci_hi"] < MOST else "undecidable"
