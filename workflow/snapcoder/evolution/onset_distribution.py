"""When features appear, taken together: the censored distribution of onsets, its rates, and its tests against nulls."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.evolution.censored import CensoredOnsets, bin_widths, resolved, turnbull
from snapcoder.evolution.multiplicity import holm
from snapcoder.evolution.onset_tests import NULLS, crowding, excess, null_shares
from snapcoder.study.timing import TimingSettings

GROUPS = ("live", "initialization", "emergent")


@dataclass(frozen=True)
class OnsetEvidence:
    """Onsets by one rule; lo, hi, classes are [feature], lo NaN when left-censored and hi when right-censored."""

    lo: np.ndarray
    hi: np.ndarray
    classes: np.ndarray

    def group(self, name: str) -> np.ndarray:
        """Return which features belong to a group: a class, or `live` for all that are not dead."""
        return self.classes != "dead" if name == "live" else self.classes == name


def onset_distribution(
    evidence: Mapping[str, OnsetEvidence], steps: np.ndarray, *, settings: TimingSettings, layer: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables onset_distribution and onset_tests, by kind of evidence and group of features.

    steps [snapshot]: ascending. Draws do not depend on the order of features.
    """
    bins: list[pd.DataFrame] = []
    tests: list[pd.DataFrame] = []
    for number, (onset_by, onsets) in enumerate(evidence.items()):
        for place, group in enumerate(GROUPS):
            generator = np.random.default_rng([settings.seed, number, place])
            chosen = onsets.group(group)
            censored = CensoredOnsets.of(onsets.lo[chosen], onsets.hi[chosen], steps)
            for tables, table in (
                (bins, _bins(censored, draws=settings.bootstrap, generator=generator)),
                (tests, _tests(censored, draws=settings.null_draws, generator=generator)),
            ):
                tables.append(table.assign(layer=layer, onset_by=onset_by, group=group))
    return pd.concat(bins, ignore_index=True), pd.concat(tests, ignore_index=True)


def _bins(onsets: CensoredOnsets, *, draws: int, generator: np.random.Generator) -> pd.DataFrame:
    """Return one row per bin: its mass with a bootstrap interval over features, rates, and what nulls expect."""
    steps, n = onsets.steps, onsets.n
    decades, linear = bin_widths(steps)
    mass = turnbull(onsets.covers, onsets.count[None].astype(np.float64), steps)[0]
    lo, hi, support = _bootstrap(onsets, draws=draws, generator=generator)
    remaining = np.cumsum(mass[::-1])[::-1]  # mass of this bin and all later ones
    with np.errstate(divide="ignore", invalid="ignore"):
        hazard = -np.log1p(-np.where(remaining > 0, np.minimum(mass / remaining, 1.0), np.nan))
    hazard[~np.isfinite(hazard)] = np.nan
    return pd.DataFrame(
        {
            "bin": np.arange(len(mass)),
            "step_lo": pd.array([None, *steps], dtype="Int64"),
            "step_hi": pd.array([*steps, None], dtype="Int64"),
            "decades": decades,
            "n": n,
            "mass": mass,
            "mass_ci_lo": lo,
            "mass_ci_hi": hi,
            "resolved": resolved(onsets.covers),
            "rate_per_decade": n * mass / decades,
            "rate_per_1000_steps": 1000 * n * mass / linear,
            "hazard_per_decade": hazard / decades,
            "hazard_per_1000_steps": 1000 * hazard / linear,
            "peak_support": support,
            **{f"expected_{null}": _expected(onsets, null) for null in NULLS},
        }
    )


def _expected(onsets: CensoredOnsets, null: str) -> np.ndarray:
    tested = onsets.dated() if null.endswith("uniform") else onsets.at_risk()
    return tested.n * null_shares(onsets, null)


def _bootstrap(
    onsets: CensoredOnsets, *, draws: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the 95% interval of every bin's mass, and the share of draws in which it is the peak, [bin] each.

    A bin without onsets has none in any draw either: the upper end is never below the exact binomial bound for 0 of n.
    Peak: the strongest excess over a constant rate per decade.
    """
    n, n_bins = onsets.n, onsets.covers.shape[1]
    if not n:
        return tuple(np.full((3, n_bins), np.nan))  # type: ignore[return-value]
    counts = generator.multinomial(n, onsets.count / n, size=draws).astype(np.float64)
    mass = turnbull(onsets.covers, counts, onsets.steps, tolerance=1e-4)  # [draw, bin]
    lo, hi = np.percentile(mass, [2.5, 97.5], axis=0)
    return lo, np.maximum(hi, 1 - 0.025 ** (1 / n)), _peak_support(mass, onsets.steps)


def _peak_support(mass: np.ndarray, steps: np.ndarray) -> np.ndarray:
    decades = np.nan_to_num(bin_widths(steps)[0])
    support = np.full(mass.shape[1], np.nan)
    if len(steps) < 2:
        return support
    dated = mass[:, 1:-1]
    total = dated.sum(axis=1, keepdims=True)
    share = np.divide(dated, total, out=np.zeros_like(dated), where=total > 0)
    strength = excess(share, decades[1:-1] / decades.sum())
    winner = strength.argmax(axis=1)[(total[:, 0] > 0) & (strength.max(axis=1) > 0)]
    support[1:-1] = np.bincount(winner, minlength=dated.shape[1]) / len(mass)
    return support


def _tests(onsets: CensoredOnsets, *, draws: int, generator: np.random.Generator) -> pd.DataFrame:
    """Return one row per null."""
    steps = onsets.steps
    results = [crowding(onsets, null, draws=draws, generator=generator) for null in NULLS]
    known = [result.peak >= 0 for result in results]
    return pd.DataFrame(
        {
            "null": NULLS,
            "n": [result.n for result in results],
            "peak_lo": pd.array(
                [int(steps[r.peak - 1]) if ok else None for r, ok in zip(results, known, strict=True)], dtype="Int64"
            ),
            "peak_hi": pd.array(
                [int(steps[r.peak]) if ok else None for r, ok in zip(results, known, strict=True)], dtype="Int64"
            ),
            "observed": [result.observed for result in results],
            "expected": [result.expected for result in results],
            "statistic": [result.statistic for result in results],
            "p": [result.p for result in results],
            "p_holm": holm(np.array([result.p for result in results])),
            "draws": draws,
        }
    )
