"""Codes on disk: any block size gives them back, a flipped bit is found and named, a killed write leaves nothing."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array, vstack

import snapcoder.storage.codes as storage
from snapcoder.storage.activations import RowTable
from snapcoder.storage.code_columns import column_chunks, iterate_columns, read_columns
from snapcoder.storage.codes import (
    Codes,
    CodesError,
    codes_shape,
    iterate_codes,
    read_code_rows,
    read_codes,
    read_codes_header,
    read_codes_of,
    write_code_blocks,
    write_codes,
)
from snapcoder.storage.hashing import file_sha256

N_FEATURES = 7


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(storage, "BLOCK_ROWS", 16)
    monkeypatch.setattr(storage, "_CHUNK_ENTRIES", 32)


def row_table(n, seed=0):
    columns = np.random.default_rng(seed).integers(0, 50, size=(4, n)).astype(np.int32)
    return RowTable(*columns, split=(np.arange(n) >= n * 0.8).astype(np.uint8))


def random_codes(n, density=0.3, seed=0):
    z = random_array((n, N_FEATURES), density=density, format="csr", rng=np.random.default_rng(seed))
    return csr_array(z.astype(np.float32))


def cut(z, sizes):
    start, blocks = 0, []
    while start < z.shape[0]:
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(z[start : start + size])
        start += size
    return blocks


def write(path, n=40, **changes):
    z = random_codes(n, **changes)
    write_codes(path, Codes(z=z, rows=row_table(n)), {"step": "codes"})
    return z


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 60),
    density=st.floats(0, 0.5),
    written=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    read=st.integers(1, 70),
    seed=st.integers(0, 99),
)
def test_codes_come_back_exactly_whatever_the_sizes_of_blocks(tmp_path_factory, n, density, written, read, seed):
    folder = tmp_path_factory.mktemp("codes")
    z, rows = random_codes(n, density, seed), row_table(n)
    write_code_blocks(folder / "a.h5", cut(z, written), rows=rows, n_features=N_FEATURES, provenance={})
    blocks = list(iterate_codes(folder / "a.h5", rows_per_block=read))
    assert [block.shape[0] for block in blocks] == [len(part) for part in np.split(np.arange(n), range(read, n, read))]
    np.testing.assert_array_equal(vstack(blocks).toarray(), z.toarray())
    np.testing.assert_array_equal(read_codes(folder / "a.h5").z.toarray(), z.toarray())
    write_codes(folder / "b.h5", Codes(z, rows), {})
    assert file_sha256(folder / "a.h5") == file_sha256(folder / "b.h5")


def test_the_header_says_how_much_there_is(tmp_path):
    z = write(tmp_path / "codes.h5")
    header = read_codes_header(tmp_path / "codes.h5")
    assert codes_shape(tmp_path / "codes.h5") == (header.n_rows, header.n_features) == (40, N_FEATURES)
    assert header.n_entries == z.nnz
    assert header.entries_per_row == z.nnz / 40
    np.testing.assert_array_equal(header.feature_entries, (z != 0).toarray().sum(axis=0))
    assert header.rows_sha256 == row_table(40).sha256 == read_code_rows(tmp_path / "codes.h5").sha256


@pytest.mark.parametrize("name, index, block", [("z", 0, 0), ("feature", -1, 2), ("count", 20, 1)])
def test_a_changed_entry_is_found_when_its_block_is_read_and_named(tmp_path, name, index, block):
    write(tmp_path / "codes.h5")
    with h5py.File(tmp_path / "codes.h5", "r+") as file:
        file[name][index] = file[name][index] + 1
    blocks = iterate_codes(tmp_path / "codes.h5", rows_per_block=16)
    for _ in range(block):  # what lies before it is good
        next(blocks)
    rows = f"rows {16 * block}–{min(16 * block + 15, 39)}"
    with pytest.raises(CodesError, match=rf"codes.h5: block {block} \({rows}\): the codes are not those"):
        next(blocks)
    with pytest.raises(CodesError, match="the codes are not those"):
        read_columns(tmp_path / "codes.h5", slice(0, 2))


def test_every_flipped_bit_is_found_or_changes_nothing(tmp_path):
    z = write(tmp_path / "codes.h5")
    data = (tmp_path / "codes.h5").read_bytes()
    found = []
    for place in range(0, len(data), len(data) // 150):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        (tmp_path / "flipped.h5").write_bytes(flipped)
        try:
            codes = read_codes(tmp_path / "flipped.h5")
        except CodesError as error:
            found.append(str(error))
        else:  # provenance, or bytes that nothing uses
            np.testing.assert_array_equal(codes.z.toarray(), z.toarray())
            assert codes.rows.sha256 == row_table(40).sha256
    assert all("flipped.h5" in error for error in found)
    assert len(found) > 30


@pytest.mark.parametrize("name, said", [("block_start", "header was changed"), ("feature_entries", "header was changed"),
                                        ("row/token", "row table was changed")])  # fmt: skip
def test_a_changed_header_or_row_table_is_found(tmp_path, name, said):
    write(tmp_path / "codes.h5")
    with h5py.File(tmp_path / "codes.h5", "r+") as file:
        file[name][1] = file[name][1] + 1
    with pytest.raises(CodesError, match=said):
        read_codes(tmp_path / "codes.h5")


def test_a_file_of_an_earlier_version_is_refused(tmp_path):
    with h5py.File(tmp_path / "codes.h5", "w") as file:
        file["indptr"], file["feature"], file["z"] = np.zeros(3, int), np.zeros(2, np.int32), np.zeros(2, np.float32)
    with pytest.raises(CodesError, match=r"codes.h5: was written by an earlier version of snapcoder; delete the file"):
        list(iterate_codes(tmp_path / "codes.h5"))


def test_a_truncated_file_is_named(tmp_path):
    write(tmp_path / "codes.h5")
    data = (tmp_path / "codes.h5").read_bytes()
    (tmp_path / "codes.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(CodesError, match=r"codes.h5: not a readable file of codes"):
        read_codes(tmp_path / "codes.h5")


def test_a_write_that_dies_half_way_leaves_nothing(tmp_path):
    z = random_codes(40)

    def dies():
        yield z[:20]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_code_blocks(tmp_path / "c.h5", dies(), rows=row_table(40), n_features=N_FEATURES, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_codes_of_too_few_rows_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(CodesError, match="codes of 30 rows for the 40 rows"):
        write_code_blocks(tmp_path / "c.h5", [random_codes(30)], rows=row_table(40), n_features=7, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_writing_and_reading_hold_blocks_not_the_whole(tmp_path):
    """Blocks are taken one by one as they are written, and given out one by one as they are read."""
    z, taken = random_codes(64), []

    def blocks():
        for start in range(0, 64, 16):
            taken.append(start)
            yield z[start : start + 16]

    write_code_blocks(tmp_path / "c.h5", blocks(), rows=row_table(64), n_features=N_FEATURES, provenance={})
    assert taken == [0, 16, 32, 48]
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["z"][-1] = 9
    reader = iterate_codes(tmp_path / "c.h5", rows_per_block=16)
    np.testing.assert_array_equal(next(reader).toarray(), z[:16].toarray())  # the last block has not been read yet


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.floats(0, 0.5), st.floats(0, 1), st.integers(0, 99))
def test_the_codes_of_some_rows_are_those_of_the_whole(tmp_path_factory, n, density, share, seed):
    path = tmp_path_factory.mktemp("codes") / "codes.h5"
    z = write(path, n, density=density, seed=seed)
    rows = np.flatnonzero(np.random.default_rng(seed).random(n) < share)
    np.testing.assert_array_equal(read_codes_of(path, rows).toarray(), z.toarray()[rows])


def test_only_the_blocks_that_hold_the_rows_are_read(tmp_path):
    z = write(tmp_path / "c.h5", 64)
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["z"][-1] = 9
    np.testing.assert_array_equal(read_codes_of(tmp_path / "c.h5", np.array([3, 40])).toarray(), z[[3, 40]].toarray())
    with pytest.raises(CodesError, match="block 3"):
        read_codes_of(tmp_path / "c.h5", np.array([3, 50]))
    with pytest.raises(CodesError, match="not row 64"):
        read_codes_of(tmp_path / "c.h5", np.array([64]))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.floats(0, 0.5), st.integers(0, 6), st.integers(1, 7), st.integers(0, 99))
def test_columns_are_those_of_the_whole(tmp_path_factory, n, density, first, width, seed):
    path = tmp_path_factory.mktemp("codes") / "codes.h5"
    z = write(path, n, density=density, seed=seed)
    features = slice(first, min(first + width, N_FEATURES))
    columns = read_columns(path, features)
    np.testing.assert_array_equal(columns.toarray(), z.toarray()[:, features])
    assert columns.has_sorted_indices


def test_chunks_of_columns_cover_all_features_within_the_memory(tmp_path):
    z = write(tmp_path / "codes.h5", 60)
    entries = (z != 0).toarray().sum(axis=0)
    limit = 2.5 * entries.max() * 100
    chunks = column_chunks(tmp_path / "codes.h5", memory_gb=limit / 2**30, bytes_per_entry=100)
    assert len(chunks) > 1
    assert [part.start for part in chunks[1:]] == [part.stop for part in chunks[:-1]]
    assert (chunks[0].start, chunks[-1].stop) == (0, N_FEATURES)
    sizes = [entries[part].sum() * 100 for part in chunks]
    assert max(sizes) <= limit
    assert all(
        a + b > limit for a, b in zip(sizes[:-1], [entries[part.start] * 100 for part in chunks[1:]], strict=True)
    )
    parts = list(iterate_columns(tmp_path / "codes.h5", memory_gb=limit / 2**30, bytes_per_entry=100))
    assert [start for start, _ in parts] == [part.start for part in chunks]
    np.testing.assert_array_equal(np.hstack([part.toarray() for _, part in parts]), z.toarray())
    assert column_chunks(tmp_path / "codes.h5", memory_gb=1, bytes_per_entry=100) == [slice(0, N_FEATURES)]


def test_a_feature_that_does_not_fit_in_memory_is_named_with_the_amount_needed(tmp_path):
    z = write(tmp_path / "codes.h5", 60)
    widest = int((z != 0).toarray().sum(axis=0).argmax())
    with pytest.raises(ValueError, match=rf"features.memory_gb: 1e-08 is too little for feature {widest}, .*or more"):
        column_chunks(tmp_path / "codes.h5", memory_gb=1e-8, bytes_per_entry=100)
