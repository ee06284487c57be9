"""Whether predictions and loss reach the n-gram models before features form.

Each metric gets the interval between snapshots in which it settles, in every bootstrap draw over documents; each group of
features the interval of its median, first quartile or densest onset, in every draw over features. The draws are
independent, so pairing them by number draws from their joint distribution. The difference is an interval too: its
confidence bounds are taken from its lower and upper ends, so that the spacing of snapshots is inside them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from snapcoder.evolution.censored_times import Times, crossing, densest_of_counts, quantile_of_counts, settling
from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.multiplicity import holm
from snapcoder.evolution.order_rows import FEW, LEVEL, UNDEFINED, FeatureTimes, Rows, corrected
from snapcoder.study.order import OrderSettings

SETTLING = ("kl_uni_context", "kl_bi_context", "kl_uni_marginal", "kl_bi_marginal")
CROSSING = ("gap_h1", "gap_h2")
_PAIRS = (("kl_uni_context", "kl_bi_context"), ("kl_uni_marginal", "kl_bi_marginal"), ("gap_h1", "gap_h2"))
_NULL = "documents and features resampled; p: share of draws whose interval does not lie after 0"
_DOCUMENTS = "documents resampled; p: share of draws whose interval does not lie after 0"
MOMENTS = ("median", "first_quartile", "densest")


def ngram_rows(
    metrics: pd.DataFrame, draws: pd.DataFrame, groups: Sequence[FeatureTimes], *, settings: OrderSettings
) -> Rows:
    """Return the rows of `ngram_before_features` and `unigram_before_bigram`.

    metrics: the phase_metrics table; draws: behaviour draws of all snapshots (step, metric, draw, value).
    """
    strictest, *looser = sorted(settings.tolerance) or [0.0]
    first = settled_times(metrics, draws, strictest)
    n_tokens = {str(name): float(n) for name, n in metrics.groupby("metric")["n"].min().items()}
    rows = corrected([_unigram_first(first, pair, n_tokens) for pair in _PAIRS], holm, "Holm")
    rows = [{**row, "tolerance": strictest, "verdict": _verdict(row)} for row in rows]
    for tolerance in (strictest, *looser):
        settled = settled_times(metrics, draws, tolerance)
        for times in groups:
            for moment in MOMENTS if tolerance == strictest else MOMENTS[:1]:
                family = [_before(settled, name, times, moment, settings) for name in (*SETTLING, *CROSSING)]
                family = [{**row, "verdict": _verdict(row)} for row in corrected(family, holm, "Holm")]
                rows += [{**row, "tolerance": tolerance} for row in (*family, _all_metrics(family))]
    return rows


def settled_times(metrics: pd.DataFrame, draws: pd.DataFrame, tolerance: float) -> dict[str, Times]:
    """Return per metric when it settles: first the estimate, then every draw, [1 + draw]; undefined metrics are left out."""
    steps = np.sort(metrics["step"].unique())
    settled = {}
    for name in (*SETTLING, *CROSSING):
        estimate = metrics[metrics["metric"] == name].set_index("step")["value"].reindex(steps).to_numpy(np.float64)
        drawn = (
            draws[draws["metric"] == name].pivot(index="draw", columns="step", values="value").reindex(columns=steps)
        )
        curves = np.concatenate([estimate[None], drawn.to_numpy(np.float64)])
        if len(steps) > 1 and not np.isnan(estimate).any():
            clock = log_steps(steps)
            settled[name] = (
                settling(curves, clock, tolerance=tolerance) if name in SETTLING else crossing(curves, clock)
            )
    return settled


def _unigram_first(settled: dict[str, Times], pair: tuple[str, str], n_tokens: dict[str, float]) -> dict:
    row = {
        "question": "unigram_before_bigram", "x": pair[0], "y": pair[1], "group": "none", "onset_by": "none",
        "statistic_name": "difference_of_times", "n": int(np.nan_to_num(n_tokens.get(pair[0], 0))), "null": _DOCUMENTS,
    }  # fmt: skip
    if not set(pair) <= settled.keys():
        return {**row, **UNDEFINED, "note": "a metric is not defined at every snapshot"}
    note = f"unigram settles {_between(settled[pair[0]])}, bigram {_between(settled[pair[1]])}; n: tokens"
    return {**row, **_compared(settled[pair[1]].minus(settled[pair[0]])), "note": note}


def _before(settled: dict[str, Times], name: str, times: FeatureTimes, moment: str, settings: OrderSettings) -> dict:
    row = {
        "question": "ngram_before_features", "x": name, "y": f"onset_{moment}", "group": times.group,
        "onset_by": times.by, "statistic_name": "difference_of_times", "n": len(times), "null": _NULL,
    }  # fmt: skip
    if name not in settled:
        return {**row, **UNDEFINED, "note": "the metric is not defined at every snapshot"}
    if not len(times):
        return {**row, **UNDEFINED, "note": "no feature in this group"}
    onsets = _moment(times, moment, draws=len(settled[name].lo) - 1, seed=settings.seed)
    note = f"n-gram metric settles {_between(settled[name])}, {moment.replace('_', ' ')} onset {_between(onsets)}"
    return {**row, **_compared(onsets.minus(settled[name])), "note": note}


def _moment(times: FeatureTimes, moment: str, *, draws: int, seed: int) -> Times:
    """Return the summary of the onsets: first of the features as they are, then of every bootstrap draw, [1 + draw]."""
    distinct, counts, _ = times.counts()
    drawn = np.random.default_rng(seed).multinomial(len(times), counts / len(times), size=draws)
    counts = np.concatenate([counts[None], drawn])
    if moment == "densest":
        return densest_of_counts(distinct, counts)
    return quantile_of_counts(distinct, counts, {"median": 0.5, "first_quartile": 0.25}[moment])


def _compared(difference: Times) -> dict[str, float]:
    """Summarise a difference [1 + draw], estimate first: midpoint, and an interval that holds the snapshots' spacing."""
    lo, hi = difference.lo[1:], difference.hi[1:]
    known = ~np.isnan(lo)
    if not known.any() or np.isnan(difference.lo[0]):
        return dict(UNDEFINED)
    value = float(difference.middle()[0])
    low = _finite(np.quantile(lo[known], 0.025, method="lower"))
    high = _finite(np.quantile(hi[known], 0.975, method="higher"))
    p = (1 + int((~(lo >= 0)).sum())) / (1 + len(lo))
    return {"statistic": value, "effect": value, "ci_lo": low, "ci_hi": high, "p": p}


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else np.nan


def _verdict(row: dict) -> str:
    few = row["question"] == "ngram_before_features" and row["n"] < FEW
    if few or np.isnan(row["p_adjusted"]):
        return "undecidable"
    if row["ci_lo"] >= 0 and row["p_adjusted"] < LEVEL:
        return "supported"
    return "not_supported" if row["ci_hi"] <= 0 else "undecidable"


def _all_metrics(family: Rows) -> dict:
    """Join the metrics: the claim holds when it holds for each of them, so the largest p is the p of all together."""
    verdicts = {row["verdict"] for row in family}
    unknown = [row["x"] for row in family if np.isnan(row["p"])]
    p = np.nan if unknown else max(row["p"] for row in family)
    last = min(family, key=lambda row: (np.inf if np.isnan(row["effect"]) else row["effect"], row["x"]))
    joined = (
        "supported" if verdicts == {"supported"} else "not_supported" if "not_supported" in verdicts else "undecidable"
    )
    return {
        **last, "x": "all_metrics", "p": p, "p_adjusted": p, "verdict": joined,
        "correction": "none: intersection–union of the metrics",
        "note": f"values of the metric that settles last, {last['x']}: {last['note']}",
    }  # fmt: skip


def _between(times: Times) -> str:
    lo, hi = float(times.lo[0]), float(times.hi[0])
    if np.isnan(lo):
        return "at no defined time"
    if np.isinf(lo):
        return f"by step {_step(hi)}"
    return f"after step {_step(lo)}" if np.isinf(hi) else f"in steps ({_step(lo)}, {_step(hi)}]"


def _step(place: float) -> str:
    step = 10**place
    return "0" if step < 0.75 else f"{step:,.0f}"
