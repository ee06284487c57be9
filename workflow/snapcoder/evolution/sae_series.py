"""Hold the shared dictionary against autoencoders that saw one snapshot each: is presence there, is the turn there?

A shared code could make a feature look present at a snapshot that does not have it, and a dictionary trained on all
snapshots could make directions turn together. An autoencoder of one snapshot can do neither (cf. SAE-Track 2412.17626).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from snapcoder.evolution.matching import CHUNK_FEATURES
from snapcoder.evolution.snapshot_decoders import SnapshotDecoders

MATCHED = 0.7


@dataclass(frozen=True)
class Nearest:
    """For each feature of the dictionary the nearest direction of another set: its cosine and its row, [feature]."""

    cosine: np.ndarray
    row: np.ndarray


def nearest_directions(directions: np.ndarray, candidates: np.ndarray) -> Nearest:
    """Return the nearest of the unit rows `candidates` [other, model] to each unit row of `directions` [feature, model].

    A missing direction (NaN) finds none: cosine NaN, row −1.
    """
    cosine, row = np.full(len(directions), np.nan), np.full(len(directions), -1)
    known = np.flatnonzero(~np.isnan(directions).any(axis=1))
    for start in range(0, len(known), CHUNK_FEATURES):
        part = known[start : start + CHUNK_FEATURES]
        every = directions[part] @ candidates.T
        row[part] = every.argmax(axis=1)
        cosine[part] = every[np.arange(len(part)), row[part]]
    return Nearest(cosine, row)


def sae_series_match(
    decoders: SnapshotDecoders, saes: Sequence[np.ndarray], *, present: np.ndarray, alive: np.ndarray
) -> pd.DataFrame:
    """Return the table sae_series_match: one row per feature × base snapshot.

    saes: decoder [feature, model] of each snapshot's own autoencoder, in the order of `decoders`; present (by norm),
    alive [snapshot, feature]. sae_cos_final: cosine between the autoencoders' nearest directions here and at the end.
    """
    units = [_unit(sae) for sae in saes]
    last = nearest_directions(decoders.directions(len(saes) - 1), units[-1])
    parts = []
    for s, step in enumerate(decoders.steps):
        found = nearest_directions(decoders.directions(s), units[s])
        there = (found.row >= 0) & (last.row >= 0)
        turned = np.full(decoders.n_features, np.nan)
        turned[there] = np.einsum("fd,fd->f", units[s][found.row[there]], units[-1][last.row[there]])
        own = np.einsum("fd,fd->f", decoders.directions(s), decoders.directions(len(saes) - 1))
        parts.append(
            pd.DataFrame(
                {
                    "layer": decoders.layer,
                    "feature": np.arange(decoders.n_features),
                    "step": step,
                    "present": present[s],
                    "alive": alive[s],
                    "sae_cos": found.cosine,
                    "cos_final": own,
                    "sae_cos_final": turned,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def sae_series_check(
    match: pd.DataFrame, decoders: SnapshotDecoders, saes: Sequence[np.ndarray], *, seed: int
) -> pd.DataFrame:
    """Return the table sae_series_check: one row per base snapshot.

    Agreement is Cohen's κ between "present by norm and alive" and "an autoencoder of this snapshot alone has a direction
    within cosine 0.7"; auroc: how well the cosine tells present from absent features. cos_null_p95: the 95th percentile
    of the best cosine after turning the autoencoder at random.
    """
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((decoders.d_model, decoders.d_model)))
    rows = []
    for s, step in enumerate(decoders.steps):
        here = match[match["step"] == step].sort_values("feature")
        known = here[here["sae_cos"].notna()]
        there = (known["present"] & known["alive"]).to_numpy()
        cosine = known["sae_cos"].to_numpy(dtype=float)
        null = nearest_directions(decoders.directions(s), _unit(saes[s]) @ turn.astype(np.float32)).cosine
        both = known[there & known["cos_final"].notna().to_numpy() & known["sae_cos_final"].notna().to_numpy()]
        rows.append(
            {
                "layer": decoders.layer,
                "step": step,
                "n_present": int(there.sum()),
                "n_absent": int((~there).sum()),
                "sae_cos_median": float(np.median(cosine[there])) if there.any() else np.nan,
                "cos_null_p95": float(np.nanpercentile(null, 95)) if (~np.isnan(null)).any() else np.nan,
                "matched_present": float((cosine[there] >= MATCHED).mean()) if there.any() else np.nan,
                "matched_absent": float((cosine[~there] >= MATCHED).mean()) if (~there).any() else np.nan,
                "auroc": _auroc(cosine, there),
                "kappa": _kappa(cosine >= MATCHED, there),
                "turn_spearman": _spearman(both["cos_final"].to_numpy(), both["sae_cos_final"].to_numpy()),
                "cos_final_median": _median(both["cos_final"]),
                "sae_cos_final_median": _median(both["sae_cos_final"]),
            }
        )
    return pd.DataFrame(rows)


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def _median(values: pd.Series) -> float:
    return float(values.median()) if len(values) else float("nan")


def _auroc(score: np.ndarray, positive: np.ndarray) -> float:
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    rank_sum = rankdata(score)[positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Return Cohen's κ of two judgements; NaN when both always say the same."""
    if not len(a):
        return float("nan")
    expected = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return float(((a == b).mean() - expected) / (1 - expected)) if expected < 1 else float("nan")


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
