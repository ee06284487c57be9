"""Where turning is fastest, how sure that is, and whether one continuous process would look the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.evolution.turning import LAWS, Turns, amount_turned, true_cosines

UNITS = {"steady": "degrees", "wandering": "degrees²"}
PER = {"log_step": "decade", "step": "step", "tokens": "token"}


@dataclass(frozen=True)
class Located:
    """A statistic and the positions of the snapshots that it lies between, each [draw]."""

    value: np.ndarray
    first: np.ndarray
    last: np.ndarray


def fastest(speeds: np.ndarray, widths: np.ndarray) -> Located:
    """Return the largest speed and its interval; speeds [draw, interval], widths not used."""
    place = speeds.argmax(axis=1)
    return Located(speeds.max(axis=1), place, place + 1)


def share_ahead(speeds: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return the share of all turning done up to each snapshot minus the share of the clock, [draw, snapshot]."""
    turned = np.concatenate([np.zeros((len(speeds), 1)), np.cumsum(speeds * widths, axis=1)], axis=1)
    clock = np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum()
    total = turned[:, -1:]
    moved = np.broadcast_to(total > 0, turned.shape)
    return np.divide(turned, total, out=np.zeros_like(turned), where=moved) - np.where(moved, clock, 0.0)


def change_of_speed(speeds: np.ndarray, widths: np.ndarray) -> Located:
    """Return the largest |CUSUM| of the speed, as a share of all turning, and its snapshot."""
    curve = np.abs(share_ahead(speeds, widths))
    place = curve.argmax(axis=1)
    return Located(curve.max(axis=1), place, place)


def burst(speeds: np.ndarray, widths: np.ndarray) -> Located:
    """Return the stretch with most turning beyond its share of the clock, as a share of all turning.

    The CUSUM against a change that begins and ends (Levin & Kline 1985).
    """
    curve = share_ahead(speeds, widths)
    n = curve.shape[1]
    later = np.triu(np.ones((n, n), dtype=bool), 1)
    gain = np.where(later, curve[:, None, :] - curve[:, :, None], -np.inf).reshape(len(curve), -1)
    first, last = np.unravel_index(gain.argmax(axis=1), (n, n))
    return Located(gain.max(axis=1), np.asarray(first), np.asarray(last))


STATISTICS: Mapping[str, tuple[str, Callable[[np.ndarray, np.ndarray], Located]]] = {
    "peak_median": ("median", fastest),
    "peak_mean": ("mean", fastest),
    "cusum": ("mean", change_of_speed),
    "burst": ("mean", burst),
}


def p_value(reference: np.ndarray, value: float) -> float:
    """Return (1 + number of reference values at or above `value`) / (1 + number of reference values)."""
    return float((1 + (reference >= value - 1e-12 * abs(value)).sum()) / (1 + len(reference)))


def exchanged(speeds: np.ndarray, *, permutations: int, seed: int) -> np.ndarray:
    """Return speeds [interval] in random orders, [permutation, interval]."""
    return np.random.default_rng(seed).permuted(np.tile(speeds, (permutations, 1)), axis=1)


def at_constant_speed(speeds: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return the draws of speeds [1 + draw, interval], moved to where every interval has the mean speed, [draw, interval].

    What remains is how much features as a sample, and the noise estimate, make equal speeds differ (a centred
    bootstrap, Hall & Wilson 1991). Row 0 of `speeds` is the data.
    """
    mean = (speeds[0] * widths).sum() / widths.sum()
    centred: np.ndarray = mean + speeds[1:] - speeds[0]
    return centred


def complete(amounts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return amounts [1 + draw, interval] of the intervals defined in the data (row 0), and which these are.

    A draw in which such an interval is undefined takes the value of the data.
    """
    known = np.flatnonzero(~np.isnan(amounts[0]))
    amounts = amounts[:, known]
    return np.where(np.isnan(amounts), amounts[0], amounts), known


def turning_points(
    turns: Mapping[str, Turns],
    steps: Sequence[int],
    clocks: Mapping[str, np.ndarray],
    weights: np.ndarray,
    *,
    chance: float,
    permutations: int,
    seed: int,
) -> pd.DataFrame:
    """Return one row per kind of turn, clock, law and statistic, with the columns of the table turning_points but layer.

    turns: by name; clocks: time of every snapshot [snapshot], by name; weights [1 + draw, feature]: of
    `bootstrap_weights`; chance: cosine below which directions count as unrelated.
    """
    rows: list[dict[str, object]] = []
    for name, turn in turns.items():
        cosines = {
            summary: true_cosines(turn, weights, summary=summary, chance=chance) for summary in ("median", "mean")
        }
        for clock, times in clocks.items():
            for law in LAWS:
                for statistic, (summary, locate) in STATISTICS.items():
                    amounts, known = complete(amount_turned(cosines[summary], law=law, chance=chance))
                    unit = f"{UNITS[law]}/{PER[clock]}" if locate is fastest else "share"
                    key = {"turn": name, "clock": clock, "law": law, "statistic": statistic, "unit": unit}
                    test: dict[str, object] = {}
                    if len(known) > 1:
                        widths = np.diff(times)[known]
                        speeds = amounts / widths
                        test = _tested(speeds, widths, locate, permutations=permutations, seed=seed)
                        test |= _snapshots(locate(speeds, widths), np.asarray(steps), known)
                    rows.append({**key, "n_intervals": len(known), **test})
    return pd.DataFrame(rows)


def _tested(
    speeds: np.ndarray,
    widths: np.ndarray,
    locate: Callable[[np.ndarray, np.ndarray], Located],
    *,
    permutations: int,
    seed: int,
) -> dict[str, object]:
    """Locate the statistic in the data (row 0 of speeds) and all draws, and hold it against both nulls."""
    found = locate(speeds, widths)
    constant = at_constant_speed(speeds, widths)
    value, by_constant = float(found.value[0]), locate(constant, widths).value
    lo, hi = np.percentile(found.value[1:], [2.5, 97.5])
    row: dict[str, object] = {"value": value, "value_ci_lo": lo, "value_ci_hi": hi}
    row["constant_p95"] = float(np.percentile(by_constant, 95))
    if locate is fastest:  # which interval is fastest does not depend on the order: no test by exchanging intervals
        return {**row, "p_constant": _p_fastest(speeds, constant, widths)}
    by_order = locate(exchanged(speeds[0], permutations=permutations, seed=seed), widths).value
    order = {"order_p95": float(np.percentile(by_order, 95)), "p_order": p_value(by_order, value)}
    return {**row, **order, "p_constant": p_value(by_constant, value)}


def _p_fastest(speeds: np.ndarray, constant: np.ndarray, widths: np.ndarray) -> float:
    """Return the p-value of the largest speed, each interval in units of its own standard error.

    Without that, the widest scatter (that of the shortest interval) would set the bar for all.
    """
    mean = (speeds[0] * widths).sum() / widths.sum()
    error = constant.std(axis=0)
    if (error <= 0).any():
        return float("nan")
    return p_value(((constant - mean) / error).max(axis=1), float(((speeds[0] - mean) / error).max()))


def _snapshots(place: Located, steps: np.ndarray, known: np.ndarray) -> dict[str, object]:
    """Return the place in the data and the 95% range of places over draws as steps.

    Position p of the intervals that are left is the first snapshot of interval p, or the last snapshot of the last one.
    """
    at_start = np.r_[steps[known], steps[known[-1] + 1]]
    at_end = np.r_[steps[known[0]], steps[known + 1]]
    alike = (place.first == place.last).all()
    low = np.percentile(place.first[1:], 2.5, method="inverted_cdf")
    high = np.percentile(place.last[1:], 97.5, method="inverted_cdf")
    last = at_start if alike else at_end
    return {
        "step_a": int(at_start[place.first[0]]),
        "step_b": int(last[place.last[0]]),
        "ci_lo": int(at_start[int(low)]),
        "ci_hi": int(last[int(high)]),
    }
