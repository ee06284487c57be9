"""The speed of turning between neighbouring snapshots, as a curve with intervals and without estimation noise."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.turning import Turns, amount_turned, estimation_noise, interval_cosines, without_noise


def rotation_intervals(
    turns: Mapping[str, Turns], steps: Sequence[int], weights: np.ndarray, *, chance: float
) -> pd.DataFrame:
    """Return the table rotation_intervals but its layer: one row per interval and kind of turn.

    turns: plain and procrustes; weights [1 + draw, feature]: of `bootstrap_weights`; chance: cosine below which
    directions count as unrelated.
    """
    angles = {name: _angles(turn, weights, chance=chance) for name, turn in turns.items()}
    tables = [
        _curve(name, turn, steps, angles[name], _common_share(angles) if name == "plain" else None)
        for name, turn in turns.items()
    ]
    return pd.concat(tables, ignore_index=True)


def _angles(turn: Turns, weights: np.ndarray, *, chance: float) -> dict[str, np.ndarray]:
    """Return per draw and interval the median angle as it is (`angle`), the noise in it, and what was turned, by law."""
    cosines = interval_cosines(turn, weights, summary="median")
    noise = estimation_noise(turn, weights, summary="median", chance=chance)
    true = without_noise(cosines, noise)
    return {
        "angle": np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))),
        "noise": np.degrees(np.arccos(np.exp(-noise[:, :-1] - noise[:, 1:]))),
        "turn": amount_turned(true, law="steady", chance=chance),
        "spread": amount_turned(true, law="wandering", chance=chance),
    }


def _common_share(angles: Mapping[str, Mapping[str, np.ndarray]]) -> np.ndarray:
    """Return the share of the turn that the map common to all features explains, [draw, interval]."""
    whole, own = angles["plain"]["turn"], angles["procrustes"]["turn"]
    return 1 - np.divide(own, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _curve(
    name: str, turn: Turns, steps: Sequence[int], angles: Mapping[str, np.ndarray], common: np.ndarray | None
) -> pd.DataFrame:
    decades = np.diff(log_steps(steps))
    table = pd.DataFrame(
        {
            "turn": name,
            "step_a": np.asarray(steps[:-1]),
            "step_b": np.asarray(steps[1:]),
            "decades": decades,
            "n": (~np.isnan(turn.adjacent)).sum(axis=1),
            "noise_deg": np.where(np.isnan(angles["angle"][0]), np.nan, angles["noise"][0]),
        }
    )
    curves = {
        "angle_deg": angles["angle"],
        "angle_per_decade": angles["angle"] / decades,
        "turn_deg": angles["turn"],
        "turn_per_decade": angles["turn"] / decades,
        "spread_per_decade": angles["spread"] / decades,
        "common_share": np.full(angles["turn"].shape, np.nan) if common is None else common,
    }
    for column, draws in curves.items():
        lo, hi = _interval(draws[1:])
        table[column], table[f"{column}_ci_lo"], table[f"{column}_ci_hi"] = draws[0], lo, hi
    return table


def _interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95% interval over draws [draw, interval]; NaN where a draw is undefined or there is none."""
    lo, hi = np.full((2, draws.shape[1]), np.nan)
    defined = ~np.isnan(draws).any(axis=0) & (len(draws) > 0)
    if defined.any():
        lo[defined], hi[defined] = np.percentile(draws[:, defined], [2.5, 97.5], axis=0)
    return lo, hi
