"""Which features, and which onsets, another seed of the dictionary finds again (Paulo & Belrose 2501.16615)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.stats import rankdata, wasserstein_distance

from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.matching import Matches, code_correlations, match_rows, random_match_cosine, unit_rows
from snapcoder.storage.dictionaries import Dictionary

SHARED = 0.7
"""Cosine from which a matched pair counts as one feature, if encoders agree on the pair (Paulo & Belrose)."""


@dataclass(frozen=True)
class SeededRun:
    """One trained dictionary with its sparse code on the common rows and its feature_timing table."""

    dictionary: Dictionary
    z: csr_array
    timing: pd.DataFrame

    @property
    def live(self) -> np.ndarray:
        """Features that are alive at some snapshot."""
        return self.timing.loc[self.timing["class"] != "dead", "feature"].to_numpy()


def match_runs(a: SeededRun, b: SeededRun) -> Matches:
    """Match the live features of two runs on their decoders, and hold encoders and activations against the pairs."""
    live_a, live_b = a.live, b.live
    decoder = unit_rows(a.dictionary.decoder, live_a), unit_rows(b.dictionary.decoder, live_b)
    encoder = tuple(
        unit_rows(run.dictionary.encoder.transpose(0, 2, 1), live) for run, live in ((a, live_a), (b, live_b))
    )
    rows, columns = match_rows(*decoder)
    by_encoder = np.full(len(live_a), -1)
    encoder_rows, encoder_columns = match_rows(*encoder)
    by_encoder[encoder_rows] = encoder_columns
    return Matches(
        a=live_a[rows],
        b=live_b[columns],
        decoder_cos=np.einsum("pd,pd->p", decoder[0][rows], decoder[1][columns]),
        encoder_cos=np.einsum("pd,pd->p", encoder[0][rows], encoder[1][columns]),
        same_by_encoder=by_encoder[rows] == columns,
        activation_corr=code_correlations(a.z, b.z, (live_a[rows], live_b[columns])),
    )


def shared(matches: Matches) -> np.ndarray:
    """Return which pairs are one feature: paired by decoders and by encoders, both cosines at least `SHARED`, [pair]."""
    return matches.same_by_encoder & (np.minimum(matches.decoder_cos, matches.encoder_cos) >= SHARED)


def seed_stability(
    base: SeededRun, others: Mapping[int, SeededRun], *, bootstrap: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables seed_stability (base against each other seed) and feature_stability (features of the base).

    others: runs by the seed of their dictionary; all read the same rows.
    """
    steps = np.array(base.dictionary.steps)
    pairs, per_feature = [], []
    for number, other in sorted(others.items()):
        if other.dictionary.steps != base.dictionary.steps or other.z.shape[0] != base.z.shape[0]:
            raise ValueError(f"the dictionary of seed {number} is over other snapshots or rows; rerun the control")
        matches = match_runs(base, other)
        onsets = _onset_index(base.timing, steps)[matches.a], _onset_index(other.timing, steps)[matches.b]
        same = shared(matches)
        null = random_match_cosine(
            unit_rows(base.dictionary.decoder, base.live),
            unit_rows(other.dictionary.decoder, other.live),
            n_snapshots=len(steps),
            seed=seed,
        )
        pairs.append(
            {
                "other_seed": number,
                "cos_null_p95": null,
                **_pair_row(base, other, matches, onsets, steps, bootstrap, seed),
            }
        )
        per_feature.append(
            pd.DataFrame(
                {
                    "feature": matches.a,
                    "cos": matches.decoder_cos,
                    "corr": matches.activation_corr,
                    "shared": same,
                    "near": np.abs(onsets[0] - onsets[1]) <= 1,
                }
            )
        )
    return pd.DataFrame(pairs).assign(layer=base.dictionary.layer), _features(base, per_feature)


def _onset_index(timing: pd.DataFrame, steps: np.ndarray) -> np.ndarray:
    """Return the snapshot of each feature's onset by norm, [feature]; the number of snapshots for one that has none."""
    ordered = timing.sort_values("feature")["onset_hi"].astype("Float64").to_numpy(dtype=float, na_value=np.inf)
    return np.searchsorted(steps, ordered)


def _pair_row(
    base: SeededRun,
    other: SeededRun,
    matches: Matches,
    onsets: tuple[np.ndarray, np.ndarray],
    steps: np.ndarray,
    bootstrap: int,
    seed: int,
) -> dict[str, object]:
    same = shared(matches)
    n = max(len(base.live), 1)
    place = np.append(log_steps(steps), np.nan)
    a, b = place[onsets[0]], place[onsets[1]]
    known = same & ~np.isnan(a) & ~np.isnan(b)
    lo, hi = _interval(same.astype(float), n, bootstrap, seed)
    every_a, every_b = (place[_onset_index(run.timing, steps)][run.live] for run in (base, other))
    return {
        "n_live": len(base.live),
        "n_live_other": len(other.live),
        **{f"shared_{level:02.0f}": (matches.decoder_cos >= level / 10).sum() / n for level in (5, 7, 9)},
        "shared_both": same.sum() / n,
        "shared_both_ci_lo": lo,
        "shared_both_ci_hi": hi,
        "match_cos_median": np.median(matches.decoder_cos) if len(same) else np.nan,
        "activation_corr_median": np.nanmedian(matches.activation_corr) if len(same) else np.nan,
        "n_onsets": int(known.sum()),
        "onset_spearman": _correlation(rankdata(a[known]), rankdata(b[known])),
        "onset_concordance": _concordance(a[known], b[known]),
        "onset_near_share": float((np.abs(onsets[0] - onsets[1]) <= 1)[same].mean()) if same.any() else np.nan,
        "onset_distance": _distance(every_a, every_b),
        "emergent_share": _class_share(base.timing, "emergent"),
        "emergent_share_other": _class_share(other.timing, "emergent"),
    }


def _interval(values: np.ndarray, n: int, bootstrap: int, seed: int) -> tuple[float, float]:
    """Return the 95% interval of Σ values / n over features drawn anew."""
    filled = np.concatenate([values, np.zeros(max(n - len(values), 0))])
    draws = np.random.default_rng(seed).integers(0, len(filled), (bootstrap, len(filled))) if len(filled) else None
    if draws is None:
        return np.nan, np.nan
    lo, hi = np.percentile(filled[draws].mean(axis=1), [2.5, 97.5])
    return float(lo), float(hi)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _concordance(a: np.ndarray, b: np.ndarray) -> float:
    """Return Lin's concordance correlation coefficient: 1 only when a equals b."""
    if len(a) < 3:
        return float("nan")
    scale = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    return float(2 * np.cov(a, b, bias=True)[0, 1] / scale) if scale > 0 else float("nan")


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the earth mover's distance of two sets of onsets in decades; NaN when either is empty."""
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    return float(wasserstein_distance(a, b)) if len(a) and len(b) else float("nan")


def _class_share(timing: pd.DataFrame, name: str) -> float:
    live = timing[timing["class"] != "dead"]
    return float((live["class"] == name).mean()) if len(live) else float("nan")


def _features(base: SeededRun, matched: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the feature_stability table: what becomes of each feature of the base in the other seeds."""
    features = base.timing["feature"].sort_values().to_numpy()
    n = len(matched)
    joined = pd.concat(matched, ignore_index=True) if matched else pd.DataFrame(columns=["feature"])
    grouped = joined.groupby("feature")
    kept = joined[joined["shared"].astype(bool)] if n else joined
    return pd.DataFrame(
        {
            "layer": base.dictionary.layer,
            "feature": features,
            "n_seeds": n,
            "seed_match_cos": grouped["cos"].mean().reindex(features).to_numpy() if n else np.nan,
            "seed_match_corr": grouped["corr"].mean().reindex(features).to_numpy() if n else np.nan,
            "seed_shared_share": _count(kept, features) / n if n else np.nan,
            "onset_near_share": kept.groupby("feature")["near"].mean().reindex(features).to_numpy() if n else np.nan,
        }
    )


def _count(kept: pd.DataFrame, features: np.ndarray) -> np.ndarray:
    return kept.groupby("feature").size().reindex(features, fill_value=0).to_numpy(dtype=float)
