"""Everything measured per snapshot, in one long table: predictions, features, reconstruction, activations, optimiser."""

from itertools import pairwise

import numpy as np
import pandas as pd

from snapcoder.evolution.log_steps import log_steps
from snapcoder.phases.feature_curves import FEATURE_UNITS, feature_curves, feature_draws, feature_table
from snapcoder.phases.ngram_text import UNITS as SAMPLED_TEXT

_SPLITS = {
    "ngram": "heldout",
    "features": "cached",
    "activations": "cached",
    "reconstruction": "heldout",
    "optimiser": "train",
}
"""Which text a metric rests on, by its group; losses on sampled text have a split of their own."""
COLUMNS = ["step", "metric", "group", "value", "ci_lo", "ci_hi", "n", "unit"]


def _rows(
    step: object,
    metric: str,
    group: str,
    value: object,
    unit: str,
    *,
    interval: tuple[object, object] = (np.nan, np.nan),
    n: object = pd.NA,
) -> pd.DataFrame:
    """One metric over some steps; snapshots at which it is undefined are left out."""
    frame = pd.DataFrame({"step": step, "value": value, "ci_lo": interval[0], "ci_hi": interval[1], "n": n})
    frame = frame.assign(metric=metric, group=group, unit=unit)
    frame["n"] = frame["n"].astype("Int64")
    for name in ("value", "ci_lo", "ci_hi"):
        frame[name] = frame[name].astype(np.float64)
    return frame.loc[frame["value"].notna(), COLUMNS]


def ngram_metrics(behaviour: pd.DataFrame, entropies: pd.DataFrame) -> pd.DataFrame:
    """Return the behaviour table's metrics, and h1, h2, h3 (the same at every snapshot) to hold them against.

    gap_hN comes from the behaviour table: there both losses are taken on the same predictions.
    """
    parts = [behaviour.assign(group="ngram", n=behaviour["n"].astype("Int64"))[COLUMNS]]
    steps = np.sort(behaviour["step"].unique())
    main = entropies[entropies["smoothing"] == "kneser_ney"]
    for row in main.sort_values("order").to_dict("records"):
        interval = (row["ci_lo"], row["ci_hi"])
        name = f"h{row['order']}"
        parts.append(
            _rows(steps, name, "ngram", row["cross_entropy"], "nats/token", interval=interval, n=row["n_tokens"])
        )
    return pd.concat(parts, ignore_index=True)


def feature_metrics(trajectory: pd.DataFrame, *, bootstrap: int, seed: int) -> pd.DataFrame:
    """Return the curves of `feature_curves`, with intervals from a bootstrap over features."""
    table = feature_table(trajectory)
    n_features = table.alive.shape[1]
    estimate = feature_curves(table, np.ones((1, n_features)))
    draws = feature_curves(table, feature_draws(n_features, draws=bootstrap, seed=seed))
    parts = []
    for name, unit in FEATURE_UNITS.items():
        defined = ~np.isnan(estimate[name][0])
        lo, hi = np.full((2, len(table.steps)), np.nan)
        lo[defined], hi[defined] = np.nanpercentile(draws[name][:, defined], [2.5, 97.5], axis=0)
        parts.append(_rows(table.steps, name, "features", estimate[name][0], unit, interval=(lo, hi), n=n_features))
    return pd.concat(parts, ignore_index=True)


def rotation_metrics(summary: pd.DataFrame) -> pd.DataFrame:
    """Return how far directions turn between adjacent snapshots, by the later one, and how near they are to the final.

    mean_rotation: angle of the mean cosine. rotation_per_decade: angle of the median cosine per log10 step, and
    rotation_per_decade_procrustes the same beyond the turn of the whole basis. cos_to_final: median cosine.
    """
    steps = np.sort(summary["step_a"].unique())
    pairs = summary.set_index(["step_a", "step_b"]).sort_index()
    final = pairs.loc[[(step, steps[-1]) for step in steps]]
    parts = [
        _rows(
            steps, "cos_to_final", "features", final["cos_median"].to_numpy(), "–",
            interval=(final["cos_ci_lo"].to_numpy(), final["cos_ci_hi"].to_numpy()), n=final["n"].to_numpy(),
        ),
        _rows(steps, "cka_to_final", "activations", final["cka"].to_numpy(), "–"),
    ]  # fmt: skip
    if len(steps) > 1:
        adjacent = pairs.loc[list(pairwise(steps))]
        angle = {name: _degrees(adjacent[name].to_numpy()) for name in _COSINES}
        decades, n = np.diff(log_steps(steps)), adjacent["n"].to_numpy()
        interval = (angle["cos_ci_hi"] / decades, angle["cos_ci_lo"] / decades)  # a larger cosine is a smaller angle
        per_decade = angle["cos_median"] / decades
        mapped = angle["procrustes_cos_median"] / decades
        parts += [
            _rows(steps[1:], "mean_rotation", "features", angle["cos_mean"], "degrees", n=n),
            _rows(steps[1:], "rotation_per_decade", "features", per_decade, "degrees/decade", interval=interval, n=n),
            _rows(steps[1:], "rotation_per_decade_procrustes", "features", mapped, "degrees/decade", n=n),
            _rows(steps[1:], "cka_adjacent", "activations", adjacent["cka"].to_numpy(), "–"),
        ]
    return pd.concat(parts, ignore_index=True)


_COSINES = ("cos_mean", "cos_median", "cos_ci_lo", "cos_ci_hi", "procrustes_cos_median")


def _degrees(cosine: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip(cosine.astype(np.float64), -1.0, 1.0)))


def dimensionality_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rates of dimensionality with their null, and the spectra of decoder and activations."""
    step = table["step"].to_numpy()

    def of(name: str, group: str, unit: str, lo: str = "", hi: str = "") -> pd.DataFrame:
        interval = (table[lo].to_numpy(), table[hi].to_numpy()) if lo else (np.nan, np.nan)
        return _rows(step, name, group, table[name].to_numpy(), unit, interval=interval)

    return pd.concat(
        [
            of("total_dim_rate", "features", "–"),
            of("total_dim_rate_alive", "features", "–"),
            of("dim_rate_null_norms", "features", "–", "dim_rate_null_ci_lo", "dim_rate_null_ci_hi"),
            of(
                "dim_rate_null_spectrum",
                "features",
                "–",
                "dim_rate_null_spectrum_ci_lo",
                "dim_rate_null_spectrum_ci_hi",
            ),
            of("pr_decoder", "features", "dimensions"),
            of("pr_act", "activations", "dimensions", "pr_act_ci_lo", "pr_act_ci_hi"),
            of("rankme_act", "activations", "dimensions"),
            of("top1_var_frac", "activations", "share"),
            of("act_mean_norm", "activations", "activation"),
            of("act_max_abs", "activations", "activation"),
        ],
        ignore_index=True,
    )


def reconstruction_metrics(base: pd.DataFrame, extensions: pd.DataFrame | None) -> pd.DataFrame:
    """Return ev, ev_legacy, l0 and nrmse of base snapshots and, at the level used, of added ones."""
    units = {"ev": "–", "ev_legacy": "–", "l0": "features/token", "nrmse": "–"}
    names = ["step", *units]
    shown = base.loc[base["snapshot"] >= 0, [*names, "n_rows"]]
    if extensions is not None:
        shown = pd.concat([shown, extensions.loc[extensions["used"], names]], ignore_index=True)
    shown = shown.astype({"step": np.int64, "n_rows": "Int64"}).sort_values("step")
    parts = [
        _rows(shown["step"].to_numpy(), name, "reconstruction", shown[name].to_numpy(), unit, n=shown["n_rows"].array)
        for name, unit in units.items()
    ]
    return pd.concat(parts, ignore_index=True)


def optimiser_metrics(log: pd.DataFrame, steps: np.ndarray) -> pd.DataFrame:
    """Return what the optimiser did up to each snapshot, from the training log.

    lr: at the last update before the snapshot; cum_lr: Σ lr over updates; grad_norm, param_step_norm: means over the
    updates since the snapshot before. Steps beyond the log are left out.
    """
    log = log.sort_values("step")
    at = log["step"].to_numpy()
    steps = np.sort(steps)
    steps = steps[steps <= at[-1]]
    last = np.searchsorted(at, steps, side="right")  # log rows up to each snapshot
    first = np.concatenate([[0], last[:-1]])
    taken = np.diff(at, prepend=0)  # updates that a log row stands for
    lr = log["lr"].to_numpy()
    cumulative = np.concatenate([[0.0], np.cumsum(lr * taken)])
    parts = [
        _rows(steps[last > 0], "lr", "optimiser", lr[last[last > 0] - 1], "–"),
        _rows(steps, "cum_lr", "optimiser", cumulative[last], "–"),
    ]
    for name in ("grad_norm", "param_step_norm"):
        total = np.concatenate([[0.0], np.cumsum(log[name].to_numpy() * taken)])
        updates = np.concatenate([[0], np.cumsum(taken)])
        n = updates[last] - updates[first]
        mean = np.divide(total[last] - total[first], n, out=np.full(len(steps), np.nan), where=n > 0)
        parts.append(_rows(steps, name, "optimiser", mean, "–", n=n))
    return pd.concat(parts, ignore_index=True)


def phase_metrics(parts: list[pd.DataFrame], *, layer: int, snapshots: pd.DataFrame) -> pd.DataFrame:
    """Join the parts into the phase_metrics table, with the tokens seen from the snapshots table."""
    table = pd.concat(parts, ignore_index=True)
    tokens = snapshots[["step", "tokens"]].astype({"tokens": "Int64"})
    table = table.merge(tokens, on="step", how="inner", validate="many_to_one")
    sampled = table["metric"].isin(SAMPLED_TEXT)
    return table.assign(layer=layer, split=table["group"].map(_SPLITS).mask(sampled, "sampled"))
