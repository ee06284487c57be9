"""The order of rows in pools: every row once an epoch, whole sequences together, one pool as the global permutation."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.crosscoder.pools import Pools, deal_pools, first_rows
from snapcoder.crosscoder.schedules import batch_rows

counts = st.lists(st.integers(0, 9), min_size=1, max_size=60).filter(lambda found: sum(found) > 0)


def dealt(rows_of: list[int], *, pool_tokens: int | None, seed: int = 0) -> Pools:
    return deal_pools(np.concatenate([[0], np.cumsum(rows_of)]), pool_tokens=pool_tokens, seed=seed)


@settings(max_examples=60, deadline=None)
@given(rows_of=counts, seed=st.integers(0, 2**40), batch_size=st.integers(1, 50), step=st.integers(0, 30))
def test_one_pool_is_the_global_permutation_number_for_number(
    rows_of: list[int], seed: int, batch_size: int, step: int
) -> None:
    wanted = batch_rows(step, batch_size=batch_size, n_rows=sum(rows_of), seed=seed)
    for pool_tokens in (None, sum(rows_of), 10 * sum(rows_of)):
        pools = dealt(rows_of, pool_tokens=pool_tokens, seed=seed)
        assert np.array_equal(pools.batch_rows(step, batch_size=batch_size), wanted)


@settings(max_examples=60, deadline=None)
@given(rows_of=counts, seed=st.integers(0, 5), pool_tokens=st.integers(1, 80), batch_size=st.integers(1, 50))
def test_an_epoch_visits_every_row_once_and_pool_after_pool(
    rows_of: list[int], seed: int, pool_tokens: int, batch_size: int
) -> None:
    pools, n_rows = dealt(rows_of, pool_tokens=pool_tokens, seed=seed), sum(rows_of)
    n_steps = -(-2 * n_rows // batch_size)
    visited = np.concatenate([pools.batch_rows(step, batch_size=batch_size) for step in range(n_steps)])
    sequence = np.repeat(np.arange(len(rows_of)), rows_of)
    pool_of_sequence = {}
    for epoch in range(2):
        rows = visited[epoch * n_rows : (epoch + 1) * n_rows]
        assert np.array_equal(np.sort(rows), np.arange(n_rows))
        # A pool's rows follow each other without those of another pool between them.
        runs = np.flatnonzero(np.diff(pools.pool_of(rows), prepend=-1))
        assert len(runs) == len(pools.sizes)
        for row in rows:  # sequences are never divided, and stay in their pool in every epoch
            pool = pools.pool_of(np.array([row]))[0]
            assert pool_of_sequence.setdefault(sequence[row], pool) == pool
    for number, size in enumerate(pools.sizes):
        members = pools.rows(number)
        assert len(members) == size > 0
        assert (np.diff(members) > 0).all()
        assert (pools.pool_of(members) == number).all()
    assert pools.sizes.max() <= pool_tokens + max(rows_of)
    assert len(pools.sizes) <= -(-n_rows // pool_tokens)


def test_rows_inside_a_pool_are_shuffled_anew_and_pools_change_their_order() -> None:
    pools = dealt([10] * 100, pool_tokens=100)
    first, second = (
        np.concatenate([pools.batch_rows(step, batch_size=50) for step in range(20 * epoch, 20 * epoch + 20)])
        for epoch in range(2)
    )
    assert not np.array_equal(pools.pool_of(first[::100]), pools.pool_of(second[::100]))
    for start in range(0, 1000, 100):
        inside = first[start : start + 100]
        again = second[np.isin(second, inside)]
        assert (inside != again).mean() > 0.9
        # Shuffled rows are uncorrelated with their place; the standard error at 100 rows is 0.1.
        assert abs(np.corrcoef(np.argsort(inside), np.arange(100))[0, 1]) < 0.45
    members = np.stack([np.sort(pools.sequences[number]) for number in range(10)])
    neighbours = (np.diff(members, axis=1) == 1).mean()
    assert neighbours < 0.3  # sequences of a pool come from everywhere: about 1 in 10 follow each other


def test_positions_are_divided_into_stretches_without_gap_or_overlap() -> None:
    pools = dealt([7, 0, 5, 9, 4, 4, 1], pool_tokens=11)
    for start, stop in ((0, 3), (5, 29), (28, 95), (60, 61)):
        stretches = list(pools.stretches(start, stop))
        assert sum(part.stop - part.start for part in stretches) == stop - start
        whole = np.concatenate([pools.batch_rows(position, batch_size=1) for position in range(start, stop)])
        assert np.array_equal(np.repeat([p.pool for p in stretches], [p.stop - p.start for p in stretches]),
                              pools.pool_of(whole))  # fmt: skip
    assert list(pools.stretches(4, 4)) == []


@pytest.mark.parametrize("sequence", [[3], [0, 0, 1], [2, 2, 5, 9, 9, 9]])
def test_sequences_of_a_row_table_start_where_their_number_changes(sequence: list[int]) -> None:
    starts = first_rows(np.array(sequence))
    assert starts[-1] == len(sequence)
    for number, (start, stop) in enumerate(pairwise(starts)):
        assert set(sequence[start:stop]) == {sorted(set(sequence))[number]}
