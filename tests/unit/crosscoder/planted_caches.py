"""Settings and row tables of the small caches that the crosscoder steps are tested on."""

import numpy as np

from snapcoder.storage.activations import RowTable

TINY = {
    "n_features": 24,
    "k": 4,
    "steps": 40,
    "batch_size": 64,
    "lr_warmup_steps": 5,
    "dead_after": 10,
    "eval_every": 10,
    "checkpoint_every": 10,
    "precision": "fp32",
    "device": "cpu",
}


def row_table(n_rows: int, n_train: int) -> RowTable:
    index = np.arange(n_rows, dtype=np.int32)
    split = (index >= n_train).astype(np.uint8)
    return RowTable(sequence=index // 8, position=index % 8, token=index % 5, doc=index // 100, split=split)
