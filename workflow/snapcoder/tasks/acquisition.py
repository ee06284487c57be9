"""When a task is acquired: the middle of the rise of its accuracy over log steps, with its uncertainty.

After Chang & Bergen (2024): a sigmoid is fitted over log10 step; here its floor and ceiling are free, so the age of
acquisition is halfway between what the model did before and what it comes to.
"""

from dataclasses import dataclass

import numpy as np

from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.sigmoid import fit_rises

R2 = 0.8
"""A fit below this says nothing about a moment."""

DEFINED = 0.9
"""Share of the bootstrap draws that must have a moment; with fewer, the examples do not agree that there is one."""


@dataclass(frozen=True)
class Acquisition:
    """Age of acquisition in steps, its 95% interval, and its standard error in decades; NaN where undefined."""

    step: float = np.nan
    lo: float = np.nan
    hi: float = np.nan
    se: float = np.nan


def age_of_acquisition(accuracy: np.ndarray, steps: np.ndarray, *, acquired_at_end: bool) -> Acquisition:
    """Return the age of acquisition from accuracies [1 + draw, snapshot]; the first row is the estimate.

    Draws must resample the same examples at every snapshot. Undefined when the task is not acquired at the last
    snapshot, when the sigmoid explains less than `R2` of the estimate or its middle lies outside the snapshots, when
    fewer than two snapshots lie on the rise (it fits equally well anywhere between two), and when fewer than `DEFINED`
    of the draws have a middle.
    """
    x = log_steps(steps)
    if not acquired_at_end:
        return Acquisition()
    rises = fit_rises(x, accuracy)
    inside = (rises.midpoint >= x[0]) & (rises.midpoint <= x[-1])  # NaN compares as false
    if not inside[0] or not rises.r2[0] >= R2 or np.isnan(rises.midpoint_se[0]):
        return Acquisition()
    drawn = rises.midpoint[1:][inside[1:]]
    if len(drawn) < 2 or len(drawn) < DEFINED * (len(accuracy) - 1):
        return Acquisition()
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Acquisition(
        step=float(10 ** rises.midpoint[0]), lo=float(10**low), hi=float(10**high), se=float(drawn.std(ddof=1))
    )
