"""Corrections of p-values for how many were computed; undefined ones (NaN) stay so and do not count."""

from collections.abc import Callable

import numpy as np


def holm(p: np.ndarray) -> np.ndarray:
    """Return Holm's step-down adjusted p-values [test]: the chance of any false rejection stays below the level."""
    return _adjusted(p, lambda ordered, n: np.maximum.accumulate(ordered * np.arange(n, 0, -1)))


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return Benjamini and Hochberg's adjusted p-values [test]: the expected share of false rejections stays below."""
    return _adjusted(p, lambda ordered, n: np.minimum.accumulate((ordered * n / np.arange(1, n + 1))[::-1])[::-1])


def _adjusted(p: np.ndarray, rule: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    if len(known):
        order = known[np.argsort(p[known], kind="stable")]
        adjusted[order] = np.minimum(rule(p[order], len(order)), 1.0)
    return adjusted
