"""The order of training rows when they cannot all be shuffled at once: whole sequences in pools, rows shuffled within.

Sequences are dealt to pools once, by a seeded permutation; every epoch runs through the pools in an order of its own and
shuffles the rows inside each. Everything is a pure function of the seed and the position, so training resumes anywhere.
One pool that holds all rows gives the global permutation of `schedules.epoch_order`, number for number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

STREAM_POOL_TOKENS = 262_144
"""Rows of a pool when streaming and nothing is said: thousands of sequences' worth, at 768 values × 32 snapshots 13 GB."""

# Keys of the random streams below; a pool's own shuffle uses its number, the first pool none, as epoch_order does.
_DEAL, _SCHEDULE = (0, 0), (0, 1)


@dataclass(frozen=True)
class Stretch:
    """A run of consecutive positions of the training order that lies in one pool: `start` to `stop` of its shuffle."""

    epoch: int
    pool: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Pools:
    """Which sequences make up which pool.

    first_row [sequence + 1]: the row number of each sequence's first row, and at the end the number of rows; sequences:
    for each pool its sequences, ascending. Every pool has at least one row.
    """

    first_row: np.ndarray
    sequences: tuple[np.ndarray, ...]
    seed: int

    @property
    def n_rows(self) -> int:
        """Number of rows of one epoch."""
        return int(self.first_row[-1])

    @cached_property
    def sizes(self) -> np.ndarray:
        """Rows of every pool, [pool]."""
        counts = np.diff(self.first_row)
        return np.array([counts[sequences].sum() for sequences in self.sequences], dtype=np.int64)

    @cached_property
    def _pool_of_sequence(self) -> np.ndarray:
        pool = np.full(len(self.first_row) - 1, -1, dtype=np.int32)
        for number, sequences in enumerate(self.sequences):
            pool[sequences] = number
        return pool

    def rows(self, pool: int) -> np.ndarray:
        """Return the row numbers of a pool, ascending."""
        sequences = self.sequences[pool]
        starts, stops = self.first_row[sequences], self.first_row[sequences + 1]
        before = np.concatenate([[0], np.cumsum(stops - starts)])
        return np.arange(before[-1]) + np.repeat(starts - before[:-1], stops - starts)

    def pool_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the pool of every row number, [row]."""
        return self._pool_of_sequence[np.searchsorted(self.first_row, rows, side="right") - 1]

    def order(self, epoch: int) -> np.ndarray:
        """Return the pools in the order in which one epoch runs through them."""
        return _generator(self.seed, epoch, _SCHEDULE).permutation(len(self.sequences))

    def stretches(self, start: int, stop: int) -> Iterator[Stretch]:
        """Yield the stretches that make up positions `start` to `stop`, counted from the start of training."""
        while start < stop:
            epoch, within = divmod(start, self.n_rows)
            order = self.order(epoch)
            ends = np.cumsum(self.sizes[order])
            index = int(np.searchsorted(ends, within, side="right"))
            size = int(self.sizes[order[index]])
            begin = within - (int(ends[index]) - size)
            end = min(size, begin + stop - start)
            yield Stretch(epoch, int(order[index]), begin, end)
            start += end - begin

    def batch_rows(self, step: int, *, batch_size: int) -> np.ndarray:
        """Return the row numbers of update `step` [batch]; pools and epochs follow each other without a gap."""
        stretches = self.stretches(step * batch_size, (step + 1) * batch_size)
        return np.concatenate([_shuffled(self, part.epoch, part.pool)[part.start : part.stop] for part in stretches])


@lru_cache(maxsize=3)  # a batch may lie in two pools; the third spares a reader that works ahead
def _shuffled(pools: Pools, epoch: int, pool: int) -> np.ndarray:
    rows = pools.rows(pool)
    return rows[_generator(pools.seed, epoch, (pool,) if pool else ()).permutation(len(rows))]


def _generator(seed: int, epoch: int, key: tuple[int, ...]) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=key))


def deal_pools(first_row: np.ndarray, *, pool_tokens: int | None, seed: int) -> Pools:
    """Deal sequences to as few pools as keep each at about `pool_tokens` rows; None makes one pool.

    Pools are of equal size up to one sequence, so none has more rows than `pool_tokens` plus the longest sequence.
    """
    first_row = np.asarray(first_row, dtype=np.int64)
    counts, n_rows = np.diff(first_row), int(first_row[-1])
    n_pools = 1 if pool_tokens is None else -(-n_rows // pool_tokens)
    dealt = _generator(seed, 0, _DEAL).permutation(len(counts))
    before = np.cumsum(counts[dealt]) - counts[dealt]  # rows of the sequences dealt earlier
    pool = before * n_pools // n_rows
    parts = (np.sort(dealt[(pool == number) & (counts[dealt] > 0)]) for number in range(n_pools))
    return Pools(first_row, tuple(part for part in parts if len(part)), seed)


def first_rows(sequence: np.ndarray) -> np.ndarray:
    """Return where each sequence starts in a row table's ascending column `sequence` [row], and at the end its length."""
    return np.append(np.flatnonzero(np.diff(sequence, prepend=-1)), len(sequence))
