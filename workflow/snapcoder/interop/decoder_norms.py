"""Decoder norms in double precision, for conversions that must not move a threshold."""

import numpy as np


def exact_norms(decoder: np.ndarray) -> np.ndarray:
    """Return ‖decoder[s, i]‖ [snapshot, feature] of float32 rows, summed in float64 without a float64 copy of them."""
    return np.sqrt(np.einsum("sfd,sfd->sf", decoder, decoder, dtype=np.float64))
