"""Choose which tokens are cached: a pure function of token table and settings, the same for every snapshot and layer."""

import numpy as np

from snapcoder.storage.activations import RowTable
from snapcoder.storage.tokens import HELDOUT, TRAIN, TokenTable
from snapcoder.study.activations import ActivationSettings


def select_rows(table: TokenTable, settings: ActivationSettings) -> RowTable:
    """Return the cached rows: whole sequences drawn at random per split until the wanted number of rows is reached.

    Train rows come first; within a split, rows follow sequence and position. The first `skip_positions` of a sequence
    and, by setting, end-of-text tokens are left out. Raises ValueError when the corpus is too small.
    """
    parts = [
        _split_rows(table, settings, split, wanted, key)
        for split, wanted, key in (
            (TRAIN, settings.tokens, "activations.tokens"),
            (HELDOUT, settings.heldout_tokens, "activations.heldout_tokens"),
        )
    ]
    sequence, position = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return RowTable(
        sequence=sequence.astype(np.int32),
        position=position.astype(np.int32),
        token=table.tokens[sequence, position].astype(np.int32),
        doc=table.doc[sequence, position].astype(np.int32),
        split=table.split[sequence].astype(np.uint8),
    )


def _split_rows(
    table: TokenTable, settings: ActivationSettings, split: int, wanted: int, key: str
) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng([settings.seed, split]).permutation(table.sequences(split))
    kept = np.ones((len(order), table.context_length), dtype=bool)  # [sequence, position]
    kept[:, : settings.skip_positions] = False
    if settings.skip_special:
        kept &= table.tokens[order] != table.end_of_text
    total = np.cumsum(kept.sum(axis=1))
    if len(total) == 0 or total[-1] < wanted:
        have = int(total[-1]) if len(total) else 0
        raise ValueError(f"{key}: {wanted} rows wanted, the corpus has {have}; lower it or add text")
    n_sequences = int(np.searchsorted(total, wanted)) + 1
    chosen, mask = order[:n_sequences], kept[:n_sequences]
    by_sequence = np.argsort(chosen, kind="stable")
    rows, position = np.nonzero(mask[by_sequence])
    sequence = chosen[by_sequence][rows]
    surplus = len(sequence) - wanted
    return sequence[: len(sequence) - surplus], position[: len(position) - surplus]
