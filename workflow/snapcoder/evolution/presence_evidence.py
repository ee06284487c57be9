"""What each evidence says of each feature at each snapshot: present, absent, or no decision (docs/definitions.md).

Evidence is kept as two masks [snapshot, feature]: `present`, and `possible` (present or undecided). What is neither is absent.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from snapcoder.evolution.timing import Onset, onset

_Z95 = 1.959963984540054
STATES = ("absent", "present", "unknown")
State = Literal["absent", "present", "unknown"]


@dataclass(frozen=True)
class Evidence:
    """present, possible [snapshot, feature]: what is present is possible; known [snapshot, feature]: it was measured."""

    present: np.ndarray
    possible: np.ndarray
    known: np.ndarray

    @property
    def absent(self) -> np.ndarray:
        """Where the evidence speaks against the feature."""
        return ~self.possible

    def states(self) -> np.ndarray:
        """Return `STATES` by name, [snapshot, feature]."""
        return np.where(self.present, "present", np.where(self.possible, "unknown", "absent"))

    def onset(self, steps: np.ndarray, *, consecutive: int) -> Onset:
        """Return the interval (last snapshot absent, first lastingly present]; undecided snapshots make it wider.

        lo is that of the most generous reading, hi that of the strictest; lo is NaN when it may have been there from
        the start, hi when it is never lastingly present. Features that were never measured have neither.
        """
        strict = onset(self.present, steps, consecutive=consecutive)
        generous = onset(self.possible, steps, consecutive=consecutive)
        measured = self.known.any(axis=0)
        lo, hi = np.where(measured, generous.lo, np.nan), np.where(measured, strict.hi, np.nan)
        return Onset(lo, hi, np.where(np.isnan(hi), "right", np.where(np.isnan(lo), "left", "interval")))


def certain(present: np.ndarray) -> Evidence:
    """Return evidence that always decides."""
    return Evidence(present, present, np.ones_like(present))


def between(lo: np.ndarray, hi: np.ndarray, bound: float) -> Evidence:
    """Return evidence from an interval [snapshot, feature]: present when it lies at or above `bound`, absent below."""
    known = ~(np.isnan(lo) | np.isnan(hi))
    return Evidence(known & (lo >= bound), ~known | (hi >= bound), known)


def ratio_interval(
    value: np.ndarray, se: np.ndarray, whole: np.ndarray, whole_se: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return value / whole with its 95% interval by the delta method; NaN unless the whole is clearly positive.

    value, se [snapshot, feature]; whole, whole_se [feature].
    """
    clear = whole > _Z95 * whole_se
    ratio = np.divide(value, whole, out=np.full(value.shape, np.nan), where=np.broadcast_to(clear, value.shape))
    with np.errstate(invalid="ignore", divide="ignore"):
        half = _Z95 * np.sqrt(se**2 + (ratio * whole_se) ** 2) / whole
    # A ratio of a number to itself has no error.
    half = np.where((value == whole) & (se == whole_se), 0.0, half)
    return ratio, ratio - half, ratio + half


@dataclass(frozen=True)
class Measured:
    """The measurements of all snapshots side by side, [snapshot, feature], NaN where undefined; peak [feature]: index.

    The peak is the base snapshot with the largest norm, whose gate labels the tokens.
    """

    peak: np.ndarray
    regress_excess: np.ndarray
    q: np.ndarray
    probe_lo: np.ndarray
    probe_hi: np.ndarray
    free_eps: np.ndarray
    free_eps_se: np.ndarray
    free_rest: np.ndarray
    free_rest_se: np.ndarray

    def at_peak(self, values: np.ndarray) -> np.ndarray:
        """Return one measurement at each feature's peak, [feature]."""
        return np.asarray(values[self.peak, np.arange(len(self.peak))])


@dataclass(frozen=True)
class Independent:
    """All evidence that does not use the norm, with the ratios behind it, [snapshot, feature].

    regression: q at most `fdr` and an amplitude (the root of R²) of at least α of its largest; probe: AUROC; scaling:
    ν_ε = amplitude in the error / its value at the peak; covered: ν_r, what other features reconstruct here beyond what they
    do at the peak, as a share of the feature's own amplitude at its peak, where the tokens are as separable as at
    their best.
    unseen: nothing in the activations speaks for the feature.
    """

    regression: Evidence
    probe: Evidence
    scaling: Evidence
    covered: Evidence
    unseen: np.ndarray
    nu_eps: np.ndarray
    nu_r: np.ndarray


def independent(measured: Measured, *, alpha: float, fdr: float, auroc: float) -> Independent:
    """Return what regression, probe and latent scaling say, each by the same share α of the feature's own largest."""
    tested = ~np.isnan(measured.q)
    significant = tested & (measured.q <= fdr)
    amplitude = np.sqrt(np.maximum(np.nan_to_num(measured.regress_excess), 0.0))
    lasting = amplitude >= alpha * amplitude.max(axis=0)
    regression = Evidence(significant & lasting, ~tested | (significant & lasting), tested)
    probe = between(measured.probe_lo, measured.probe_hi, auroc)
    whole, whole_se = measured.at_peak(measured.free_eps), measured.at_peak(measured.free_eps_se)
    nu_eps, lo, hi = ratio_interval(measured.free_eps, measured.free_eps_se, whole, whole_se)
    scaling = between(lo, hi, alpha)
    best = np.nan_to_num(measured.probe_lo, nan=-np.inf).max(axis=0)
    worse = measured.probe_hi < best  # clearly less separable than at the best snapshot
    nu_r, covered = _covered(measured, whole, whole_se, alpha)
    separable = ~np.isnan(measured.probe_hi) & ~worse & probe.possible
    covered = Evidence(
        covered.present & separable & significant,
        covered.possible & (separable | np.isnan(measured.probe_hi)) & (significant | ~tested),
        covered.known & ~np.isnan(measured.probe_hi) & tested,
    )
    unseen = (tested & ~significant & ~probe.present) | (regression.absent & probe.absent & worse)
    return Independent(regression, probe, scaling, covered, unseen, nu_eps, nu_r)


def _covered(measured: Measured, whole: np.ndarray, whole_se: np.ndarray, alpha: float) -> tuple[np.ndarray, Evidence]:
    """Return ν_r and what it says: sqrt(rest² − rest at the peak²) / own amplitude at the peak.

    Features that fire together cover each other at the peak too; only what goes beyond that has taken this one's place.
    Amplitudes in different directions add by their squares.
    """
    rest, at_peak = np.maximum(measured.free_rest, 0.0), np.maximum(measured.at_peak(measured.free_rest), 0.0)
    excess = rest**2 - at_peak**2
    error = 2 * np.hypot(rest * measured.free_rest_se, at_peak * measured.at_peak(measured.free_rest_se))
    clear = np.broadcast_to(whole > _Z95 * whole_se, excess.shape)
    share = np.divide(excess, whole**2, out=np.full(excess.shape, np.nan), where=clear)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = _Z95 * np.hypot(error, 2 * share * whole * whole_se) / whole**2
    return np.sqrt(np.maximum(share, 0.0)), between(share - half, share + half, alpha**2)
