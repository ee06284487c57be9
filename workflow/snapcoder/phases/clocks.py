"""Four clocks of training, and how much of each a snapshot stands for.

The order of snapshots is the same on every clock, so a plain piecewise-constant fit would be too. What a clock changes is
weight: a snapshot stands for the half of each neighbouring gap (trapezoid rule), and squared errors become integrals
over the clock. On linear steps the first hundred of two thousand steps weigh one twentieth, on log steps more than half.
"""

from dataclasses import dataclass

import numpy as np

from snapcoder.evolution.log_steps import log_steps

CLOCKS = ("log_step", "step", "tokens", "loss")


@dataclass(frozen=True)
class Clock:
    """Where snapshots lie on a clock, from 0 to 1, and their weights with mean 1; float64 [snapshot]."""

    position: np.ndarray
    weight: np.ndarray

    @property
    def effective_snapshots(self) -> float:
        """How many equally weighted snapshots would carry as much: (Σw)²/Σw² (Kish 1965)."""
        return float(self.weight.sum() ** 2 / (self.weight**2).sum())


def clock_at(place: np.ndarray) -> Clock:
    """Return the clock of places [snapshot] that never decrease; places that are all equal get equal weights."""
    place = np.asarray(place, dtype=np.float64)
    gaps = np.diff(place)
    span = gaps.sum()
    if len(place) < 2 or span <= 0:
        return Clock(np.zeros(len(place)), np.ones(len(place)))
    half = np.concatenate([[0.0], gaps / 2, [0.0]])
    weight = half[:-1] + half[1:]
    return Clock((place - place[0]) / span, weight / weight.mean())


def clocks(steps: np.ndarray, *, tokens: np.ndarray | None, loss: np.ndarray | None) -> dict[str, Clock]:
    """Return the clocks that can be told for snapshots at ascending `steps`, by name, in the order of `CLOCKS`.

    tokens, loss: [snapshot]; None or with an undefined value: that clock is left out. The loss clock runs down the lowest
    loss reached so far: a snapshot whose loss is higher than an earlier one's lies at the same place as that one.
    """
    steps = np.asarray(steps, dtype=np.float64)
    places = {"log_step": log_steps(steps), "step": steps}
    if tokens is not None and not np.isnan(tokens).any():
        places["tokens"] = np.asarray(tokens, dtype=np.float64)
    if loss is not None and not np.isnan(loss).any():
        places["loss"] = -np.minimum.accumulate(loss)
    return {name: clock_at(place) for name, place in places.items() if len(steps) < 2 or place[-1] > place[0]}


def same_clock(one: Clock, other: Clock) -> bool:
    """Return whether two clocks differ in their unit only, as tokens and steps do at a constant batch size."""
    return np.allclose(one.position, other.position, rtol=0, atol=1e-9)
