"""Total feature dimensionality of each snapshot, beside the nulls that could explain it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from snapcoder.evolution.activation_spectrum import Spectrum
from snapcoder.evolution.capacity import dimensionality_rate, participation_ratio, random_direction_rates
from snapcoder.evolution.snapshot_decoders import SnapshotDecoders


def dimensionality(
    decoders: SnapshotDecoders, *, alive: np.ndarray, spectra: Sequence[Spectrum], null_draws: int, seed: int
) -> pd.DataFrame:
    """Return the dimensionality table, one row per snapshot.

    alive [snapshot, feature] bool; spectra: of each snapshot's activations. A rate that rises with its null of random
    directions says something about norms, one that rises with the participation ratio of the activations something
    about their spectrum; neither needs features.
    """
    d = decoders.d_model
    null = random_direction_rates(decoders.norms(), d, draws=null_draws, seed=seed)  # [draw, snapshot]
    null_lo, null_hi = np.percentile(null, [2.5, 97.5], axis=0)
    return pd.DataFrame(
        {
            "layer": decoders.layer,
            "snapshot": np.arange(len(decoders.steps)),
            "step": decoders.steps,
            "added": decoders.added,
            "total_dim_rate": [dimensionality_rate(decoder) for decoder in decoders.decoders],
            "total_dim_rate_alive": [
                dimensionality_rate(decoder[on]) for decoder, on in zip(decoders.decoders, alive, strict=True)
            ],
            "dim_rate_null_norms": null.mean(axis=0),
            "dim_rate_null_ci_lo": null_lo,
            "dim_rate_null_ci_hi": null_hi,
            "pr_decoder": [participation_ratio(decoder.T @ decoder) for decoder in decoders.decoders],
            "pr_act": [found.participation for found in spectra],
            "pr_act_ci_lo": [found.ci_lo for found in spectra],
            "pr_act_ci_hi": [found.ci_hi for found in spectra],
            "top1_var_frac": [found.top1_share for found in spectra],
            "d_model": d,
        }
    )
