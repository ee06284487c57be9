"""The fixed batch: the held-out sequences that every snapshot of a study is scored on."""

import numpy as np

from snapcoder.storage.tokens import HELDOUT, TokenTable


def fixed_batch(table: TokenTable, n_sequences: int) -> np.ndarray:
    """Return the first `n_sequences` held-out sequences, [sequence, position] int64.

    Raises ValueError when the corpus has fewer.
    """
    chosen = table.sequences(HELDOUT)[:n_sequences]
    if len(chosen) < n_sequences:
        raise ValueError(
            f"snapshots.fixed_batch: {n_sequences} held-out sequences wanted, the corpus has {len(chosen)}; "
            "lower it, raise corpus.held_out or add text"
        )
    return table.tokens[chosen].astype(np.int64)
