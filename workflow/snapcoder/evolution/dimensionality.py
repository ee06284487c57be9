"""Total feature dimensionality of each snapshot, beside the nulls that could explain it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.evolution.activation_spectrum import Spectrum
from snapcoder.evolution.capacity import (
    capacity,
    participation_ratio,
    random_direction_rates,
    rank_me,
    spectral_participation,
    without_direction,
)
from snapcoder.evolution.snapshot_decoders import SnapshotDecoders

TINY = 1e-12  # rate of a dictionary without a feature


@dataclass(frozen=True)
class Rates:
    """Rates Σ D_i / d: of the decoders under bootstrap weights (row 0: the data), and of each null.

    measured: by name of the measure, [1 + draw, snapshot]; nulls: norms and spectrum, [draw, snapshot].
    """

    measured: dict[str, np.ndarray]
    nulls: dict[str, np.ndarray]

    def apart(self, null: str) -> np.ndarray:
        """Return the draws of a null, [draw, snapshot], with another draw at every snapshot.

        Draws share their random numbers over snapshots; side by side they would differ less than dictionaries do.
        """
        drawn = self.nulls[null]
        return np.stack([np.roll(drawn[:, s], -s) for s in range(drawn.shape[1])], axis=1)

    def minus(self, null: str) -> np.ndarray:
        """Return the rate less a null, [1 + draw, snapshot]: row 0 less its mean, every draw less a draw of it."""
        return _less(self.measured["rate"], self.nulls[null].mean(axis=0), self.apart(null))

    def over(self, null: str) -> np.ndarray:
        """Return ln(rate / null), [1 + draw, snapshot], likewise: it asks for the same shape at any height."""
        rate, mean, drawn = (
            np.log(np.maximum(rates, TINY))
            for rates in (self.measured["rate"], self.nulls[null].mean(axis=0), self.apart(null))
        )
        return _less(rate, mean, drawn)


def _less(rate: np.ndarray, mean: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return np.concatenate([rate[:1] - mean, rate[1:] - drawn[np.arange(len(rate) - 1) % len(drawn)]])


def dimensionality_rates(
    decoders: SnapshotDecoders,
    *,
    alive: np.ndarray,
    spectra: Sequence[Spectrum],
    weights: np.ndarray,
    null_draws: int,
    null_features: int,
    seed: int,
) -> Rates:
    """Return every rate of every snapshot, and what random directions would reach.

    alive [snapshot, feature] bool; spectra: of each snapshot's activations; weights [1 + draw, feature]: of
    `bootstrap_weights`.
    """
    measured: dict[str, list[np.ndarray]] = {}
    for decoder, on, found in zip(decoders.decoders, alive, spectra, strict=True):
        shared = np.linalg.eigh((decoder.T @ decoder).astype(np.float64))[1][:, -1]
        directions = {"mean": found.mean, "top": found.first_direction, "shared": shared}
        rates = {"rate": _rate_draws(decoder, weights), "alive": _rate_draws(decoder[on], weights[:, on])}
        for name, direction in directions.items():
            rates[f"without_{name}"] = _rate_draws(without_direction(decoder, direction), weights, removed=1)
        for name, draws in rates.items():
            measured.setdefault(name, []).append(draws)
    variances = np.stack([found.variances for found in spectra])
    norms, d = decoders.norms(), decoders.d_model
    nulls = {
        name: random_direction_rates(norms, d, draws=null_draws, seed=seed, variances=spread, at_most=null_features)
        for name, spread in (("norms", None), ("spectrum", variances))
    }
    return Rates({name: np.stack(draws, axis=1) for name, draws in measured.items()}, nulls)


def _rate_draws(decoder: np.ndarray, weights: np.ndarray, *, removed: int = 0) -> np.ndarray:
    """Return Σ D_i / (d − removed) under every row of weights, [draw], linearised in the weights.

    Copies of a feature that is drawn twice would share their dimensions; linearised, they count as features of the kind.
    """
    found = capacity(decoder)
    moved = (weights - 1).astype(np.float64) @ found.influence
    rates: np.ndarray = (np.nansum(found.dimensionality) + moved) / max(decoder.shape[1] - removed, 1)
    return np.clip(rates, 0.0, 1.0)


def dimensionality(
    decoders: SnapshotDecoders, rates: Rates, *, alive: np.ndarray, spectra: Sequence[Spectrum]
) -> pd.DataFrame:
    """Return the dimensionality table, one row per snapshot; arguments as in `dimensionality_rates`.

    A rate that rises with its null of random directions says something about norms, one that rises with directions
    drawn from the activations' covariance something about their spectrum; neither needs features.
    """
    columns: dict[str, object] = {
        "layer": decoders.layer,
        "snapshot": np.arange(len(decoders.steps)),
        "step": decoders.steps,
        "added": decoders.added,
        "total_dim_rate": rates.measured["rate"][0],
        "total_dim_rate_alive": rates.measured["alive"][0],
        **{f"dim_rate_{name}": rates.measured[name][0] for name in ("without_mean", "without_top", "without_shared")},
        "pr_act": [found.participation for found in spectra],
        "pr_act_ci_lo": [found.ci_lo for found in spectra],
        "pr_act_ci_hi": [found.ci_hi for found in spectra],
        "pr_act_with_mean": [found.participation_with_mean for found in spectra],
        "pr_act_without_top": [spectral_participation(found.variances[:-1]) for found in spectra],
        "rankme_act": [rank_me(found.variances) for found in spectra],
        "top1_var_frac": [found.top1_share for found in spectra],
        "d_model": decoders.d_model,
    }
    for null, column in (("norms", "dim_rate_null"), ("spectrum", "dim_rate_null_spectrum")):
        columns[f"dim_rate_null_{null}"] = rates.nulls[null].mean(axis=0)
        columns[f"{column}_ci_lo"], columns[f"{column}_ci_hi"] = np.percentile(rates.nulls[null], [2.5, 97.5], axis=0)
        less = rates.minus(null)
        name = f"rate_minus_{null}"
        columns[name] = less[0]
        columns[f"{name}_ci_lo"], columns[f"{name}_ci_hi"] = np.percentile(less[1:], [2.5, 97.5], axis=0)
    table = pd.DataFrame(columns)
    return pd.concat([table, pd.DataFrame(_decoder_spectra(decoders, alive))], axis=1)


def _decoder_spectra(decoders: SnapshotDecoders, alive: np.ndarray) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {
        name: [] for name in ("pr_decoder", "pr_decoder_alive", "pr_decoder_without_top", "rankme_decoder")
    }
    for decoder, on in zip(decoders.decoders, alive, strict=True):
        variances = np.maximum(np.linalg.eigvalsh((decoder.T @ decoder).astype(np.float64)), 0.0)  # ascending
        columns["pr_decoder"].append(spectral_participation(variances))
        columns["pr_decoder_alive"].append(participation_ratio(decoder[on].T @ decoder[on]))
        columns["pr_decoder_without_top"].append(spectral_participation(variances[:-1]))
        columns["rankme_decoder"].append(rank_me(variances))
    return columns
