"""Bias-corrected and accelerated bootstrap intervals from draws and leave-one-out values."""

import numpy as np
from scipy.special import ndtr, ndtri


def bca_interval(estimate: float, draws: np.ndarray, jackknife: np.ndarray) -> tuple[float, float]:
    """Return the 95% BCa interval of one statistic (Efron 1987); NaN where it is not defined.

    draws [draw]: the statistic on bootstrap samples; jackknife [unit]: the statistic without each unit, or group of
    units. Undefined (NaN) draws and leave-outs do not count. Defined only when some draws lie on either side.
    """
    draws, jackknife = draws[~np.isnan(draws)], jackknife[~np.isnan(jackknife)]
    if np.isnan(estimate) or len(draws) < 2 or len(jackknife) < 2:
        return np.nan, np.nan
    below = ((draws < estimate).mean() + (draws <= estimate).mean()) / 2
    if not 0 < below < 1:
        return np.nan, np.nan
    bias = ndtri(below)
    influence = jackknife.mean() - jackknife
    spread = (influence**2).sum() ** 1.5
    acceleration = (influence**3).sum() / (6 * spread) if spread > 0 else 0.0
    z = bias + ndtri(np.array([0.025, 0.975]))
    low, high = np.quantile(draws, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)
