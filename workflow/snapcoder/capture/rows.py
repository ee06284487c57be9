"""Choose which tokens are cached or streamed: a pure function of token table and settings, equal for every snapshot and layer."""

from dataclasses import dataclass

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
        select_sequences(table, settings, split, wanted, key)
        for split, wanted, key in (
            (TRAIN, settings.tokens, "activations.tokens"),
            (HELDOUT, settings.heldout_tokens, "activations.heldout_tokens"),
        )
    ]
    places = [part.places(np.arange(len(part.sequence))) for part in parts]
    sequence, position = (np.concatenate(columns) for columns in zip(*places, strict=True))
    return _row_table(table, sequence, position)


def select_stream(table: TokenTable, settings: ActivationSettings) -> "Selection":
    """Return the streamed train rows: numbered as the train rows of a cache of as many tokens would be."""
    return select_sequences(table, settings, TRAIN, settings.stream_tokens, "activations.stream_tokens")


@dataclass(frozen=True, eq=False)
class Selection:
    """Rows of one split by their sequences; the rows themselves are listed only for the sequences asked for.

    sequence [n]: chosen sequences of the token table, ascending; first_row [n + 1]: the row number of each one's first
    row, and at the end the number of rows.
    """

    table: TokenTable
    settings: ActivationSettings
    sequence: np.ndarray
    first_row: np.ndarray

    @property
    def n_rows(self) -> int:
        """Number of chosen rows."""
        return int(self.first_row[-1])

    def rows(self, which: np.ndarray) -> RowTable:
        """Return the rows of the chosen sequences number `which` (ascending), in order."""
        return _row_table(self.table, *self.places(which))

    def places(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sequence and position of those rows."""
        kept = _kept(self.table, self.sequence[which], self.settings)
        counts = self.first_row[which + 1] - self.first_row[which]
        kept &= np.cumsum(kept, axis=1) <= counts[:, None]  # the last sequence may be cut to the wanted number of rows
        index, position = np.nonzero(kept)
        return self.sequence[which][index], position


def select_sequences(table: TokenTable, settings: ActivationSettings, split: int, wanted: int, key: str) -> Selection:
    """Draw sequences of one split until they have `wanted` rows; `key` is the setting that an error names."""
    order = np.random.default_rng([settings.seed, split]).permutation(table.sequences(split))
    counts = _kept(table, order, settings).sum(axis=1)
    total = np.cumsum(counts)
    if len(total) == 0 or total[-1] < wanted:
        have = int(total[-1]) if len(total) else 0
        raise ValueError(f"{key}: {wanted} rows wanted, the corpus has {have}; lower it or add text")
    n_sequences = int(np.searchsorted(total, wanted)) + 1
    chosen = order[:n_sequences]
    by_sequence = np.argsort(chosen, kind="stable")
    ends = np.minimum(np.cumsum(counts[:n_sequences][by_sequence]), wanted)  # the surplus goes at the end
    return Selection(table, settings, chosen[by_sequence], np.concatenate([[0], ends]))


def _kept(table: TokenTable, sequences: np.ndarray, settings: ActivationSettings) -> np.ndarray:
    kept = np.ones((len(sequences), table.context_length), dtype=bool)  # [sequence, position]
    kept[:, : settings.skip_positions] = False
    if settings.skip_special:
        kept &= table.tokens[sequences] != table.end_of_text
    return kept


def _row_table(table: TokenTable, sequence: np.ndarray, position: np.ndarray) -> RowTable:
    return RowTable(
        sequence=sequence.astype(np.int32),
        position=position.astype(np.int32),
        token=table.tokens[sequence, position].astype(np.int32),
        doc=table.doc[sequence, position].astype(np.int32),
        split=table.split[sequence].astype(np.uint8),
    )
