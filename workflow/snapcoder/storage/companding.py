"""One signed byte per activation: fine near a dimension's usual value, coarse far from it.

Residual streams have a few dimensions tens of times larger than the rest, and rows in which one value is hundreds of
times larger still. Eight bits on a straight scale then leave nothing for the other dimensions. Two things help:

- every dimension is first counted in its own units, `y = (a − center) / spread`, fitted once per cache;
- the code is straight in `asinh(y)`, so that a row's largest value costs the others only its logarithm:
  `q = round(asinh(y) / step)`, a whole number from −127 to 127, with one `step` per row, `max |asinh(y)| / 127`.

`a` comes back as `center + spread · sinh(step · q)`. With u = asinh(y), u is off by at most step / 2, and so

    |error| ≤ spread · 2 sinh(step / 4) cosh(|u| + step / 4)  ≈  (step / 2) · √(spread² + (a − center)²),

apart from the rounding of float32. A row that reaches 4 spreads has step 0.0165: no value of it is off by more than
0.83% of √(spread² + (a − center)²); one that reaches 1000 spreads, 3%. An error is as often up as down.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LARGEST_CODE = 127
LARGEST_DEVIATION, LARGEST_VALUE = 1e30, 1e37
"""In spreads, and as such; beyond them, float32 arithmetic on the way there or back could overflow."""

_SMALLEST_SPREAD = 2.0**-10
"""Of the median over dimensions: one that never moved in the fitted rows may still do so later."""


@dataclass(frozen=True)
class Compander:
    """The units of the codes. center, spread [model] or [snapshot, model], float32; spread > 0."""

    center: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray) -> "Compander":
        """Take each dimension's median and mean absolute deviation from it, times √(π/2), of finite rows [row, model].

        For a Gaussian these are its mean and standard deviation. Rare huge values move them less; above all, where a
        dimension is near its usual value in most rows, the code for that is 0, which is exact whatever the spread.
        """
        exact = rows.astype(np.float64)
        center = np.median(exact, axis=0).astype(np.float32)
        spread = np.sqrt(np.pi / 2) * np.abs(exact - center).mean(axis=0)
        typical = float(np.median(spread)) or float(spread.max()) or float(np.abs(center).max()) or 1.0
        limits = np.finfo(np.float32)
        smallest = max(_SMALLEST_SPREAD * typical, float(limits.smallest_subnormal))
        return cls(center, np.clip(spread, smallest, float(limits.max)).astype(np.float32))

    @classmethod
    def stack(cls, companders: Sequence["Compander"]) -> "Compander":
        """Put those of several snapshots together, for codes [row, snapshot, model]."""
        return cls(np.stack([each.center for each in companders]), np.stack([each.spread for each in companders]))

    def deviation(self, rows: np.ndarray) -> np.ndarray:
        """Return y of float32 rows, in spreads; infinite where float32 overflows."""
        with np.errstate(over="ignore"):
            return (rows - self.center) / self.spread

    def encode(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return codes [row, model] int8 and steps [row] float16 of float32 rows [row, model].

        No |y| may be above `LARGEST_DEVIATION`, no value above `LARGEST_VALUE`.
        """
        u = np.arcsinh(self.deviation(rows))
        steps = _float16_above(np.abs(u).max(axis=1) / LARGEST_CODE)
        u /= np.where(steps > 0, steps, 1).astype(np.float32)[:, None]
        return np.rint(u, out=u).astype(np.int8), steps

    def decode(self, codes: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return float32 activations of codes [row, …, model] and steps [row, …]."""
        values = np.multiply(codes, steps.astype(np.float32)[..., None], dtype=np.float32)
        np.sinh(values, out=values)
        values *= self.spread
        values += self.center
        return values


def _float16_above(values: np.ndarray) -> np.ndarray:
    """Return the smallest float16 that is not below each value ≥ 0, so that no code exceeds `LARGEST_CODE`."""
    near = values.astype("<f2")
    return np.where(near.astype(values.dtype) < values, np.nextafter(near, np.float16(np.inf)), near).astype("<f2")
