"""The clock of a study: log10 of the training step, with step 0 placed at 0.5."""

from collections.abc import Sequence

import numpy as np

ZERO_STEP = 0.5


def log_steps(steps: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return log10(step) with step 0 placed at 0.5, float64 of the same length."""
    return np.log10(np.maximum(np.asarray(steps, dtype=np.float64), ZERO_STEP))
