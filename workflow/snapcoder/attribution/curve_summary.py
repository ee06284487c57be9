"""What ablation curves say in a number each: how few units suffice, by area and beside controls, and whether they add up.

The share of the effect reached with k units is s(k) = (m(k) − m(0)) / (m(all) − m(0)), in both modes: from 0 to 1
whatever the units leave to an error term. For restore it is the faithfulness of MIB (2504.13151), with every unit
ablated as the empty circuit; CPR = ∫ s d(k/n) and CMD = ∫ |1 − s| d(k/n) by trapezoids over the sizes run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.attribution.ablation import Curve
from snapcoder.evolution.multiplicity import holm
from snapcoder.tasks.intervals import CLEAR, mean_interval


@dataclass(frozen=True)
class TaskEnds:
    """clean, patch [example]: the metric with either prompt's own activations; weights: see `bootstrap_weights`."""

    clean: np.ndarray
    patch: np.ndarray
    weights: np.ndarray

    def is_sure(self, difference: np.ndarray) -> bool:
        """Whether the mean of a difference [example] is at least `CLEAR` of its standard errors from 0."""
        mean = difference.mean()
        return bool(mean != 0 and abs(mean) >= CLEAR * (difference @ self.weights).std(ddof=1))

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """Return the 95% interval of the mean of values [example]."""
        low, high = mean_interval(values, self.weights)
        return float(low), float(high)


def curve_rows(curves: Sequence[Curve], ends: TaskEnds, tests: pd.DataFrame) -> pd.DataFrame:
    """Return ABLATION_CURVES rows without their place; tests: see `matched_tests`.

    faithfulness = (m − m_patch) / (m_clean − m_patch), missing where the denominator is below 3 of its standard
    errors: there is then nothing to be faithful to.
    """
    values = np.concatenate([curve.metric for curve in curves])  # [curve · k, example]
    low, high = mean_interval(values, ends.weights)
    mean, span = values.mean(axis=1), ends.clean - ends.patch
    rows = pd.DataFrame(
        {
            **{
                name: np.repeat([getattr(curve, name) for curve in curves], [len(curve.ks) for curve in curves])
                for name in ("mode", "ranking", "ablation", "unit", "draw")
            },
            "k": np.concatenate([curve.ks for curve in curves]),
            "metric": mean,
            "metric_ci_lo": low,
            "metric_ci_hi": high,
            "accuracy": (values > 0).mean(axis=1),
            "faithfulness": (mean - ends.patch.mean()) / span.mean() if ends.is_sure(span) else np.nan,
            "n_examples": len(ends.clean),
        }
    )
    columns = ["percentile_vs_matched", "p_matched", "p_matched_holm"]
    tested = (rows["ranking"] == "attr_here") & (rows["ablation"] == "resample") & (rows["unit"] == "feature")
    found = rows[["mode", "k"]].merge(tests, on=["mode", "k"], how="left", validate="many_to_one")
    return rows.assign(**{name: found[name].where(tested) for name in columns})


def matched_tests(curves: Sequence[Curve]) -> pd.DataFrame:
    """Return, for each mode and size that matched draws were run at, how the top features of attr_here compare.

    percentile_vs_matched: share of draws with a weaker effect; p_matched = (1 + draws with at least the effect) /
    (1 + draws); p_matched_holm: corrected over the sizes of a mode.
    """
    rows = []
    for top in curves:
        if (top.ranking, top.ablation, top.unit) != ("attr_here", "resample", "feature"):
            continue
        sign = -1.0 if top.mode == "disrupt" else 1.0  # a strong set lowers the metric, or brings it back
        for j, k in enumerate(top.ks):
            drawn = np.array(
                [c.metric[c.ks.index(k)].mean() for c in curves if c.ranking == "matched" and c.mode == top.mode and k in c.ks]
            )  # fmt: skip
            if len(drawn):
                stronger = sign * drawn >= sign * top.metric[j].mean()
                p = (1 + stronger.sum()) / (1 + len(drawn))
                rows.append((top.mode, k, float((~stronger).mean()), p))
    found = pd.DataFrame(rows, columns=["mode", "k", "percentile_vs_matched", "p_matched"])
    found["p_matched_holm"] = found.groupby("mode")["p_matched"].transform(lambda p: holm(p.to_numpy(dtype=float)))
    return found


def effect_share(metric: np.ndarray) -> np.ndarray:
    """Return s(k) = (m(k) − m(0)) / (m(all) − m(0)) of metric [k, …]; NaN where the way is nothing."""
    way = metric[-1] - metric[0]
    return (metric - metric[0]) / np.where(way == 0, np.nan, way)


def half_size(ks: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the smallest k at which share [k, …] reaches ½, linear in k between the sizes run; NaN when it never does.

    ks [k] ascending from 0, where the share is 0.
    """
    reached = share >= 0.5
    after = np.maximum(reached.argmax(axis=0), 1)
    low, high = (np.take_along_axis(share, index[None], axis=0)[0] for index in (after - 1, after))
    with np.errstate(invalid="ignore", divide="ignore"):
        between = ks[after - 1] + (0.5 - low) / (high - low) * (ks[after] - ks[after - 1])
    return np.where(reached.any(axis=0), between, np.nan)


def areas(ks: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return CPR and CMD of share [k, …] over k as a share of all units."""
    of_all = ks / ks[-1]
    return np.trapezoid(share, of_all, axis=0), np.trapezoid(np.abs(1 - share), of_all, axis=0)


def summary_rows(curves: Sequence[Curve], ends: TaskEnds, tests: pd.DataFrame) -> pd.DataFrame:
    """Return ABLATION_SUMMARY rows without their place, of every curve that runs from none to all units.

    k50, CPR and CMD are missing where the units together move the metric by less than 3 standard errors, or the wrong
    way; their intervals are quantiles over bootstrap draws.
    """
    rows = []
    for curve in curves:
        if curve.ks[-1] != curve.n_units or curve.ks[0] != 0:
            continue
        moved = (curve.metric[-1] - curve.metric[0]) * (-1 if curve.mode == "disrupt" else 1)  # of the clean metric
        row = {name: getattr(curve, name) for name in ("mode", "ranking", "ablation", "unit", "n_units")}
        span = ends.clean - ends.patch
        row |= {"effect": moved.mean(), "effect_share": moved.mean() / span.mean() if ends.is_sure(span) else np.nan}
        row |= _numbers(curve, ends, is_defined=bool(moved.mean() > 0 and ends.is_sure(moved)))
        tested = (curve.ranking, curve.ablation, curve.unit) == ("attr_here", "resample", "feature")
        row |= _strongest(tests[tests["mode"] == curve.mode] if tested else tests[:0])
        rows.append({**row, "n_examples": len(moved)})
    return pd.DataFrame(rows)


def _numbers(curve: Curve, ends: TaskEnds, *, is_defined: bool) -> dict[str, float]:
    names = ("k50", "cpr", "cmd")
    if not is_defined:
        return {f"{name}{end}": np.nan for name in names for end in ("", "_ci_lo", "_ci_hi")}
    ks = np.array(curve.ks)
    found = {}
    for metric in (curve.metric.mean(axis=1), curve.metric @ ends.weights):  # [k], [k, draw]
        share = effect_share(metric)
        for name, value in zip(names, (half_size(ks, share), *areas(ks, share)), strict=True):
            if value.ndim == 0:
                found[name] = float(value)
            else:
                found[f"{name}_ci_lo"], found[f"{name}_ci_hi"] = np.nanquantile(value, [0.025, 0.975]).tolist()
    return found


def _strongest(tests: pd.DataFrame) -> dict[str, float]:
    """Return the size with the smallest corrected p, the smallest size of several."""
    columns = {"k": "matched_k", "percentile_vs_matched": "percentile_vs_matched", "p_matched_holm": "p_matched_holm"}
    if not len(tests):
        return dict.fromkeys(columns.values(), np.nan)
    best = tests.sort_values(["p_matched_holm", "percentile_vs_matched", "k"], ascending=[True, False, True]).iloc[0]
    return {name: float(best[column]) for column, name in columns.items()}


def nonadditivity(joint: np.ndarray, single: np.ndarray, ends: TaskEnds) -> dict[str, float]:
    """Return joint effect − Σ of single effects of the same features, with its 95% interval.

    joint [example], single [feature, example]: the metric with all of them, and with each alone, ablated. Below 0:
    together they do less than the sum of what each does alone (they stand in for one another).
    """
    difference = (ends.clean - joint) - (ends.clean - single).sum(axis=0)
    low, high = ends.interval(difference)
    return {
        "nonadditivity_k": len(single),
        "single_sum": float((ends.clean - single).sum(axis=0).mean()),
        "nonadditivity": float(difference.mean()),
        "nonadditivity_ci_lo": low,
        "nonadditivity_ci_hi": high,
    }
