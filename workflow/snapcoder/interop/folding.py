"""llamascopium's folding of the activation norms into the biases: do, undo and detect it (CROSSCODER 0.3, 5).

Its crosscoder reads x_s = a_s √d / μ_s, μ_s being the mean norm of snapshot s. Folding multiplies b_E[s] and b_D[s] by
μ_s / √d and leaves W_E, W_D and the thresholds alone, and the folded dictionary then reads raw activations. That
changes what it computes as soon as the norms differ between snapshots, and with JumpReLU also when they do not. Nothing
is lost, though: multiplying the biases by √d / μ_s restores the dictionary that was trained.
"""

import numpy as np

MOST_FOLDS = 3  # at the end of training, when loading to analyse, when saving and loading once more


def fold(biases: np.ndarray, norms: np.ndarray, d_model: int, *, times: int) -> np.ndarray:
    """Return the biases [snapshot, any] folded `times` times; a negative number undoes as many foldings.

    norms [snapshot]: μ, the mean activation norms.
    """
    ratio = np.asarray(norms, dtype=np.float64) / np.sqrt(d_model)
    return np.asarray(biases * ratio[:, None] ** times, dtype=np.float32)


def detect_folds(encoder_bias: np.ndarray, norms: np.ndarray, d_model: int) -> int | None:
    """Return how often the encoder biases [snapshot, feature] were folded, or None when they cannot tell.

    Only the sum of the snapshots' biases reaches the loss, so that all rows start equal, get the same gradient and stay
    equal in training; a folding makes row s proportional to μ_s. The biases cannot tell when they are zero, when the
    norms are nearly equal, or when they were not trained by llamascopium.
    """
    if not encoder_bias.any():
        return None
    spreads = []
    for times in range(MOST_FOLDS + 1):
        rows = fold(encoder_bias, norms, d_model, times=-times).astype(np.float64)
        mean = rows.mean(axis=0)
        size = np.sqrt(np.square(mean).sum() * len(rows))
        spreads.append(float(np.sqrt(np.square(rows - mean).sum()) / size) if size > 0 else np.inf)
    best = int(np.argmin(spreads))
    others = min(spread for times, spread in enumerate(spreads) if times != best)
    # bfloat16 weights keep 8 bits, an error of up to 0.4% per entry
    return best if spreads[best] < 0.005 and others > max(0.02, 4 * spreads[best]) else None


def plausible(norms: np.ndarray) -> bool:
    """Return whether stored norms can be mean norms at all; norms that were never set are arbitrary memory."""
    return bool(np.isfinite(norms).all() and (norms > 1e-4).all() and (norms < 1e7).all())
