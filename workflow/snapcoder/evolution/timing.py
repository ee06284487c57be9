"""When each feature appears, peaks, turns, settles and fades; and what kind of history that makes.

Classes, the first rule that holds wins:

1. `dead`: alive (firing rate ≥ `rate_floor`) at no snapshot. Its norm is not evidence: a head that never fires gets no
   gradient and keeps its initial direction, so it counts as absent throughout.
2. `dense`: mean firing rate above `dense_rate`.
3. `flat`: (max − min)/max of the norm below `flat_range`: the norm tells no history.
4. `transient`: absent by norm at the last snapshot, and present in less than `transient_lifetime` of the snapshots
   or never m times in a row. A feature that is young at the last snapshot is not transient.
5. `initialization`: present by norm at the first snapshot.
6. `emergent`: everything else.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.evolution.curves import FeatureCurves, arrange
from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.sigmoid import fit_rises
from snapcoder.study.analysis import EvolutionSettings

STABLE_COS, STABLE_NORM = 0.95, 0.2  # settled: cosine to the final direction, relative distance to the final norm
CLASSES = ("dead", "dense", "flat", "transient", "initialization", "emergent")
TRAJECTORY_COLUMNS = ("layer", "feature", "step", "norm", "rate", "alive", "mean_active", "max_f")
ROTATION_COLUMNS = ("feature", "kind", "step_a", "cos", "angle_deg", "both_alive")


@dataclass(frozen=True)
class Onset:
    """Interval-censored onsets: the true onset lies in (lo, hi]; all arrays are [feature].

    lo: last step absent, NaN when left-censored; hi: first step of lasting presence, NaN when right-censored.
    """

    lo: np.ndarray
    hi: np.ndarray
    censoring: np.ndarray


@dataclass(frozen=True)
class NormHistory:
    """What the norm rule says: present [snapshot, feature], and onset and class of each feature."""

    present: np.ndarray
    onset: Onset
    classes: np.ndarray


def presence_by_norm(norms: np.ndarray, *, alpha: float) -> np.ndarray:
    """Return where n ≥ α · max n, bool [snapshot, feature]; a feature whose norm is 0 throughout is never present."""
    largest = norms.max(axis=0)
    return (norms >= alpha * largest) & (largest > 0)


def presence_by_firing(
    rates: np.ndarray, steps: np.ndarray, *, baseline_step: int, rate_floor: float, consecutive: int
) -> np.ndarray:
    """Return where a feature fires more than it did early on, bool [snapshot, feature].

    The rule looks forward: rate > max(floor, μ + 3σ), with μ, σ over the snapshots up to `baseline_step`. A feature
    that fires at or above the floor from the first snapshot on (m in a row) and never rises above its own baseline
    is present wherever it reaches the floor: it was there from the start.
    """
    baseline = rates[steps <= baseline_step]
    bound = np.full(rates.shape[1], rate_floor)
    if len(baseline):
        bound = np.maximum(bound, baseline.mean(axis=0) + 3 * baseline.std(axis=0))
    rises = rates > bound
    reaches = (rates >= rate_floor) & (rates > 0)
    never_rises = np.isnan(onset(rises, steps, consecutive=consecutive).hi)
    from_the_start = never_rises & reaches[:consecutive].all(axis=0)
    return np.where(from_the_start, reaches, rises)


def onset(present: np.ndarray, steps: np.ndarray, *, consecutive: int) -> Onset:
    """Return the start of the first run of at least `consecutive` present snapshots, present [snapshot, feature].

    A run that the last snapshot cuts short counts. Left-censored when the run starts at the first snapshot;
    right-censored, with lo the last step, when there is no such run.
    """
    n = len(present)
    padded = np.concatenate([present, np.ones((consecutive - 1, present.shape[1]), dtype=bool)])
    # A run may start at s when s … s + m − 1 are present, snapshots after the last taken as present.
    starts = present & np.logical_and.reduce([padded[j : j + n] for j in range(consecutive)])
    found = starts.any(axis=0)
    first = starts.argmax(axis=0)
    left = found & (first == 0)
    lo = np.where(found, steps[np.maximum(first - 1, 0)], steps[-1]).astype(np.float64)
    lo[left] = np.nan
    hi = np.where(found, steps[first], np.nan)
    return Onset(lo=lo, hi=hi, censoring=np.where(~found, "right", np.where(left, "left", "interval")))


def offset(present: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the last step present and the first of the final absence, [feature]; NaN for survivors and the absent."""
    n = len(present)
    last = n - 1 - present[::-1].argmax(axis=0)
    fades = present.any(axis=0) & (last < n - 1)
    lo = np.where(fades, steps[last], np.nan)
    return lo, np.where(fades, steps[np.minimum(last + 1, n - 1)], np.nan)


def lifetime_decades(present: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the summed log10-step length of the intervals with the feature present at both ends, [feature]."""
    return np.diff(log_steps(steps)) @ (present[:-1] & present[1:])


def stabilised(norms: np.ndarray, cos_final: np.ndarray, alive: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the step from which direction and norm stay near their final values, [feature].

    Near: 1 − cos to the final direction < 0.05, and the norm within 20% of its median over the last quarter of the
    snapshots. NaN when the feature is not alive at the end or only the last snapshot qualifies.
    norms, cos_final, alive: [snapshot, feature]; cos_final is 1 at the last snapshot.
    """
    n = len(norms)
    terminal = np.median(norms[-max(1, n // 4) :], axis=0)
    near = (cos_final > STABLE_COS) & (np.abs(norms - terminal) < STABLE_NORM * terminal)
    holds = np.logical_and.accumulate(near[::-1], axis=0)[::-1]  # near from here to the end
    first = holds.argmax(axis=0)
    known = holds.any(axis=0) & (first < n - 1) & alive[-1]
    return np.where(known, steps[first], np.nan)


def fastest_turn(angle: np.ndarray, both_alive: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the step that ends the interval of fastest rotation, [feature]; NaN when alive over too few snapshots.

    The fastest two intervals in a row are looked for, by degrees per decade over both; of these, the one that turns
    more. One interval alone would favour short ones: decoders of neighbouring snapshots differ by their estimation
    noise however close they are. angle (degrees), both_alive: [interval, feature] between adjacent snapshots.
    """
    if not len(angle):
        return np.full(angle.shape[1], np.nan)
    usable = both_alive & ~np.isnan(angle)
    known = np.where(usable, angle, 0.0)
    decades = np.diff(log_steps(steps))
    if len(known) == 1:
        return np.where(usable[0], steps[1], np.nan)
    speed = (known[:-1] + known[1:]) / (decades[:-1] + decades[1:])[:, None]
    whole = usable[:-1] & usable[1:]
    window = np.where(whole, speed, -1.0).argmax(axis=0)
    column = np.arange(known.shape[1])
    interval = window + (known[window + 1, column] > known[window, column])
    return np.where(whole.any(axis=0), steps[interval + 1], np.nan)


def classify(
    norms: np.ndarray, rates: np.ndarray, alive: np.ndarray, present: np.ndarray, settings: EvolutionSettings
) -> np.ndarray:
    """Return the class of each feature by the rules at the top of this module; all arrays [snapshot, feature]."""
    largest = np.maximum(norms.max(axis=0), np.finfo(np.float32).tiny)
    lasting = onset(present, np.arange(len(present)), consecutive=settings.consecutive).censoring != "right"
    short = present.mean(axis=0) < settings.transient_lifetime
    rules = [
        ~alive.any(axis=0),
        rates.mean(axis=0) > settings.dense_rate,
        (largest - norms.min(axis=0)) / largest < settings.flat_range,
        ~present[-1] & (short | ~lasting),
        present[0],
    ]
    return np.select(rules, CLASSES[:-1], default=CLASSES[-1])


def norm_history(curves: FeatureCurves, settings: EvolutionSettings) -> NormHistory:
    """Return presence, onset and class of every feature by the norm rule; a feature that is never alive is absent."""
    present = presence_by_norm(curves.norm, alpha=settings.alpha) & curves.alive.any(axis=0)
    return NormHistory(
        present=present,
        onset=onset(present, curves.steps, consecutive=settings.consecutive),
        classes=classify(curves.norm, curves.rate, curves.alive, present, settings),
    )


def firing_onset(curves: FeatureCurves, settings: EvolutionSettings) -> Onset:
    """Return the onset of every feature by the firing rule."""
    present = presence_by_firing(
        curves.rate,
        curves.steps,
        baseline_step=settings.baseline_step,
        rate_floor=settings.rate_floor,
        consecutive=settings.consecutive,
    )
    return onset(present, curves.steps, consecutive=settings.consecutive)


def timing(
    trajectory: pd.DataFrame,
    rotation: pd.DataFrame,
    *,
    threshold: np.ndarray,
    settings: EvolutionSettings,
    sigmoid_r2: float,
) -> pd.DataFrame:
    """Return the feature_timing table, one row per feature.

    trajectory, rotation: the columns `TRAJECTORY_COLUMNS` and `ROTATION_COLUMNS` of the tables feature_trajectory and
    direction_rotation; threshold [feature]: the dictionary's; sigmoid_r2: smallest R² of a sigmoid that is reported.
    """
    curves = FeatureCurves.of(trajectory)
    _, _, (mean_active, max_f) = arrange(trajectory, ("mean_active", "max_f"))
    steps, alive = curves.steps, curves.alive
    ever = alive.any(axis=0)
    history, by_firing = norm_history(curves, settings), firing_onset(curves, settings)
    offset_lo, offset_hi = offset(history.present, steps)
    cos_final, angle, both_alive = _rotation_curves(rotation, len(curves.features), len(steps))
    first_alive = alive.argmax(axis=0)
    shows_turn = ever & alive[-1] & (first_alive < len(steps) - 1)
    busiest = curves.rate.argmax(axis=0)
    column = np.arange(len(curves.features))
    return pd.DataFrame(
        {
            "layer": int(trajectory["layer"].iloc[0]),
            "feature": curves.features,
            "class": history.classes,
            "onset_lo": _step(history.onset.lo),
            "onset_hi": _step(history.onset.hi),
            "onset_alive_lo": _step(by_firing.lo),
            "onset_alive_hi": _step(by_firing.hi),
            "onset_censoring": history.onset.censoring,
            "onset_alive_censoring": by_firing.censoring,
            **_sigmoid_onsets(curves, r2=sigmoid_r2),
            "peak_step": _step(np.where(ever, steps[curves.norm.argmax(axis=0)], np.nan)),
            "norm_max": curves.norm.max(axis=0),
            "lifetime_frac": history.present.mean(axis=0),
            "lifetime_logstep": lifetime_decades(history.present, steps),
            "offset_lo": _step(offset_lo),
            "offset_step": _step(offset_hi),
            "stabilised_step": _step(stabilised(curves.norm, cos_final, alive, steps)),
            "turn_step": _step(fastest_turn(angle, both_alive, steps)),
            "cos_first_final": np.where(shows_turn, cos_final[first_alive, column], np.nan),
            "rate_mean": curves.rate.mean(axis=0),
            "rate_final": curves.rate[-1],
            "act_mean": mean_active[busiest, column],
            "act_max": np.fmax.reduce(max_f, axis=0),
            "threshold": threshold,
            "participation": _participation(curves.norm),
        }
    )


def _sigmoid_onsets(curves: FeatureCurves, *, r2: float) -> dict[str, np.ndarray]:
    """Return the columns onset_sigmoid, onset_sigmoid_se and onset_width; NaN where the fit is poor or undetermined."""
    place = log_steps(curves.steps)
    largest = np.where(
        curves.alive.any(axis=0), curves.norm.max(axis=0), 0.0
    )  # the norm of a dead feature is no evidence
    relative = np.divide(curves.norm, largest, out=np.zeros_like(curves.norm), where=largest > 0).T
    rise = fit_rises(place, relative)  # [feature, snapshot]
    known = (rise.r2 >= r2) & (rise.midpoint >= place[0]) & (rise.midpoint <= place[-1]) & ~np.isnan(rise.midpoint_se)
    return {
        "onset_sigmoid": np.where(known, rise.midpoint, np.nan),
        "onset_sigmoid_se": np.where(known, rise.midpoint_se, np.nan),
        "onset_width": np.where(known, rise.width, np.nan),
    }


def _participation(norms: np.ndarray) -> np.ndarray:
    square = (norms**2).sum(axis=0)
    return np.divide(norms.sum(axis=0) ** 2, square, out=np.full(norms.shape[1], np.nan), where=square > 0)


def _rotation_curves(
    rotation: pd.DataFrame, n_features: int, n_snapshots: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cos to final [snapshot, feature], and angle and both_alive of adjacent pairs [interval, feature]."""
    shape = (n_snapshots - 1, n_features)
    kind = rotation["kind"].to_numpy()
    _, _, (angle, both_alive) = arrange(rotation[kind == "adjacent"], ("angle_deg", "both_alive"), step="step_a")
    _, _, (cos,) = arrange(rotation[kind == "to_final"], ("cos",), step="step_a")
    cos_final = np.ones((n_snapshots, n_features))
    cos_final[:-1] = cos.reshape(shape)
    return cos_final, angle.astype(np.float64).reshape(shape), both_alive.astype(bool).reshape(shape)


def _step(values: np.ndarray) -> pd.arrays.IntegerArray:
    """Turn steps with NaN for undefined into nullable integers."""
    missing = np.isnan(values)
    return pd.arrays.IntegerArray(np.where(missing, 0, values).astype(np.int64), missing)
