import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.storage import activations as caches
from snapcoder.storage import aligned
from snapcoder.storage.activations import (
    BLOCK_ROWS,
    CacheError,
    RowTable,
    iterate_cache,
    read_cache,
    read_header,
    read_rows,
    write_cache,
)
from snapcoder.storage.aligned import iterate_aligned, open_aligned

DTYPES = ("float32", "float16", "bfloat16", "int8")


def rows(n):
    index = np.arange(n, dtype=np.int32)
    token = np.random.default_rng(1).zipf(1.3, n).clip(0, 4095).astype(np.int32)
    return RowTable(index // 60 * 3, index % 60 + 1, token, index // 200, (index >= n * 0.8).astype(np.uint8))


def write(path, pieces, dtype="int8", step=8):
    n = sum(len(piece) for piece in pieces)
    common = {"layer": 1, "site": "blocks.1.resid_post", "d_model": pieces[0].shape[1], "provenance": {"a": 1}}
    return write_cache(path, pieces, rows=rows(n), step=step, dtype=dtype, **common)


def data(n, d_model=6, seed=0):
    return (np.random.default_rng(seed).standard_t(4, size=(n, d_model)) * 10.0 ** np.arange(-3, d_model - 3)).astype(
        "f4"
    )


@pytest.fixture
def small_blocks(monkeypatch):
    for module in (caches, aligned):
        monkeypatch.setattr(module, "BLOCK_ROWS", 16)


def test_an_int8_file_says_what_is_needed_to_read_it_back(tmp_path):
    x = data(BLOCK_ROWS + 300) * [1e-3, 1, 1, 1, 1, 1]
    x = x.astype(np.float32)
    header = write(tmp_path / "c.h5", np.array_split(x, 4))
    with h5py.File(tmp_path / "c.h5") as file:
        codes, step = file["activations"][:], file["row_step"][:].astype(float)
        back = file["center"][:] + file["spread"][:] * np.sinh(step[:, None] * codes)  # straight from the description
        assert (file["activations"].dtype, file["row_step"].dtype) == (np.int8, np.float16)
        # Fitted on the first block alone, so that rows can be written as they come.
        assert np.allclose(file["center"][:], np.median(x[:BLOCK_ROWS], axis=0), rtol=1e-5)
        deviation = np.abs(x[:BLOCK_ROWS].astype(float) - file["center"][:]).mean(axis=0)
        spread = deviation * np.sqrt(np.pi / 2)
        smallest = np.median(spread) / 1024
        assert np.allclose(file["spread"][:], np.maximum(spread, smallest), rtol=1e-5)
        assert (spread < smallest).any()
    assert np.allclose(read_cache(tmp_path / "c.h5"), back, rtol=1e-5, atol=1e-6)
    again = read_header(tmp_path / "c.h5")
    assert (again.dtype, again.step, again.n_rows, again.d_model) == ("int8", 8, len(x), 6)
    assert again.content_sha256 == header.content_sha256


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_header_measures_what_rounding_loses(tmp_path, dtype):
    x = data(700)
    header = write(tmp_path / "c.h5", [x], dtype)
    train = rows(700).split == 0
    error = (read_cache(tmp_path / "c.h5").astype(float) - x)[train]
    expected = (error**2).sum() / ((x - x[train].astype(float).mean(axis=0))[train] ** 2).sum()
    assert header.noise_share == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert header.noise_share < {"float32": 1e-20, "float16": 1e-3, "bfloat16": 1e-4, "int8": 2e-4}[dtype]


@pytest.mark.parametrize("d_model", [128, 256])
def test_int8_takes_at_most_105_hundredths_of_a_byte_per_value_with_all_that_goes_with_it(tmp_path, d_model):
    n = 5 * BLOCK_ROWS + 700
    pieces = [np.random.default_rng(i).normal(size=(n // 10, d_model)).astype("f4") for i in range(10)]
    write(tmp_path / "c.h5", pieces)
    assert (tmp_path / "c.h5").stat().st_size <= 1.05 * d_model * sum(map(len, pieces))


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 100), max_size=6), n=st.integers(1, 100), dtype=st.sampled_from(DTYPES))
def test_the_file_does_not_depend_on_the_pieces_it_was_written_in(small_blocks_of_ever, cuts, n, dtype):
    folder = small_blocks_of_ever
    x = data(n, 3)
    write(folder / "whole.h5", [x], dtype)
    write(folder / "pieces.h5", np.split(x, sorted(min(cut, n) for cut in cuts)), dtype)
    assert (folder / "whole.h5").read_bytes() == (folder / "pieces.h5").read_bytes()
    blocks = list(iterate_cache(folder / "whole.h5"))
    assert [len(block) for block in blocks] == [16] * (n // 16) + ([n % 16] if n % 16 else [])
    for number in reversed(range(len(blocks))):
        assert np.array_equal(next(iterate_cache(folder / "whole.h5", [number])), blocks[number])


@pytest.fixture(scope="module")
def small_blocks_of_ever(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caches, "BLOCK_ROWS", 16)
        yield tmp_path_factory.mktemp("pieces")


def everything(path):
    header = read_header(path)
    return repr(header), read_rows(path).sha256, read_cache(path).tobytes()


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_flipped_bit_anywhere_in_the_file_changes_nothing_or_is_found(tmp_path, dtype):
    rng = np.random.default_rng(3)
    write(tmp_path / "c.h5", [data(400)], dtype)
    expected, good = everything(tmp_path / "c.h5"), (tmp_path / "c.h5").read_bytes()
    n_found = 0
    for place in rng.integers(len(good), size=60):
        broken = bytearray(good)
        broken[place] ^= 1 << rng.integers(8)
        (tmp_path / "broken.h5").write_bytes(broken)
        try:
            found = everything(tmp_path / "broken.h5")
        except CacheError:
            n_found += 1
        else:
            assert found == expected  # a byte that says nothing
    assert n_found > 20


@pytest.mark.parametrize(
    "dataset, found",
    [("activations", "rows 16–31"), ("row_step", "rows 16–31"), ("center", "rows 0–15"), ("spread", "rows 0–15")],
)
def test_every_byte_that_a_value_is_made_of_is_under_its_blocks_checksum(tmp_path, small_blocks, dataset, found):
    x = data(40, 3)
    for at in range(4):
        write(tmp_path / "c.h5", [x])
        with h5py.File(tmp_path / "c.h5", "r+") as file:
            values = file[dataset][:]
            row = values[20:21] if dataset in ("activations", "row_step") else values
            row.view(np.uint8).ravel()[at % row.nbytes] ^= 1
            file[dataset][:] = values
        with pytest.raises(CacheError, match=f"{found} are not those that were written"):
            read_cache(tmp_path / "c.h5")


def test_an_edited_statistic_is_found(tmp_path):
    for change in ("mean", "mean_square", "step"):
        write(tmp_path / "c.h5", [data(40)])
        with h5py.File(tmp_path / "c.h5", "r+") as file:
            if change == "mean":
                file["mean"][2] += 1e-3
            else:
                file.attrs[change] = file.attrs[change] + 1
        with pytest.raises(CacheError, match="header was changed"):
            read_header(tmp_path / "c.h5")


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("dtypes", [(dtype,) * 3 for dtype in DTYPES] + [("int8", "float16", "bfloat16")])
def test_aligned_rows_are_those_of_the_caches(tmp_path, small_blocks, dtypes, in_memory):
    paths = [tmp_path / f"{step}.h5" for step in range(3)]
    for step, (path, dtype) in enumerate(zip(paths, dtypes, strict=True)):
        write(path, [data(70, seed=step) / 1000], dtype, step=step)
    expected = np.stack([read_cache(path) for path in paths], axis=1)
    assert np.array_equal(np.concatenate(list(iterate_aligned(paths))), expected)
    headers, scratch = [read_header(path) for path in paths], tmp_path / "work/scratch.raw"
    with open_aligned(paths, headers, memory_bytes=10**9 if in_memory else 0, scratch=scratch) as opened:
        assert scratch.exists() != in_memory
        assert (opened.shape, len(opened)) == ((70, 3, 6), 70)
        order = np.random.default_rng(0).integers(0, 70, size=200)
        assert opened[order].dtype == (np.float16 if set(dtypes) == {"float16"} else np.float32)
        assert np.array_equal(opened[order], expected[order])
        assert np.array_equal(opened[5:40:3], expected[5:40:3])
        per_value = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}[dtypes[0]] if len(set(dtypes)) == 1 else 4
        steps = 2 * 70 * 3 if set(dtypes) == {"int8"} else 0
        assert opened.nbytes == 70 * 3 * 6 * per_value + steps
    assert not scratch.exists()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_stops_every_dtype_and_is_named(tmp_path, small_blocks, dtype, value):
    x = data(50)
    x[37, 2] = value
    pattern = (
        rf"c\.h5: snapshot 8, layer 1, row 37 \(sequence 0, position 38\), dimension 2: the activation {value} is not "
        r"finite; .*snapshots\.steps"
    )
    with pytest.raises(CacheError, match=pattern):
        write(tmp_path / "c.h5", [x], dtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "dtype, value, others",
    [
        ("float16", 65505.0, "int8 or bfloat16 or float32"),
        ("float16", -1e6, "int8 or bfloat16 or float32"),
        ("bfloat16", 3.3961e38, "int8 or float32"),
        ("int8", -1e38, "bfloat16 or float32"),
        ("int8", 1e37 / 2, "bfloat16 or float32"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_the_dtypes_that_are_left(tmp_path, small_blocks, dtype, value, others):
    x = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    x[37, 2] = value
    pattern = (
        rf"snapshot 8, layer 1, row 37 \(sequence 0, position 38\), dimension 2: the activation {value:.6g} ".replace(
            "+", r"\+"
        )
        + f"does not fit {dtype}, which goes up to .*; set activations.dtype to {others}$"
    )
    with pytest.raises(CacheError, match=pattern):
        write(tmp_path / "c.h5", [x], dtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype, value", [("float16", 65504.0), ("bfloat16", 3.3895e38), ("float32", 3.4e38)])
def test_the_largest_value_of_each_dtype_is_kept_finite(tmp_path, dtype, value):
    x = np.zeros((20, 3), dtype=np.float32)
    x[3, 1] = value
    write(tmp_path / "c.h5", [x], dtype)
    assert read_cache(tmp_path / "c.h5")[3, 1] == pytest.approx(value, rel=5e-3)
