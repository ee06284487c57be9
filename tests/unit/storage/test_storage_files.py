import h5py
import numpy as np
import pytest

from snapcoder.storage.activations import (
    BLOCK_ROWS,
    CacheError,
    RowTable,
    read_cache,
    read_header,
    read_rows,
    require_same_rows,
    write_cache,
)
from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.dictionaries import (
    Dictionary,
    Extension,
    read_added_snapshot,
    read_dictionary,
    read_extension,
    read_gates,
    read_snapshot,
    write_dictionary,
    write_extension,
)
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.json_file import read_json, write_json
from snapcoder.storage.tokens import TokenTable, read_tokens, write_tokens


def rows(n, seed=0):
    columns = np.random.default_rng(seed).integers(0, 50, size=(4, n)).astype(np.int32)
    return RowTable(*columns, split=(np.arange(n) >= n * 0.8).astype(np.uint8))


def write(path, data, table, dtype="float32", pieces=3):
    write_cache(
        path,
        np.array_split(data, pieces),
        rows=table,
        step=8,
        layer=1,
        site="blocks.1.resid_post",
        d_model=data.shape[1],
        dtype=dtype,
        provenance={"step": "activations"},
    )


def test_an_interrupted_writer_leaves_nothing_under_the_final_name(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def write_half():
        with atomic_path(path) as part:
            part.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.parametrize("dtype, tolerance", [("float32", 0), ("float16", 1e-3), ("bfloat16", 8e-3)])
def test_a_cache_comes_back_within_its_type(tmp_path, dtype, tolerance):
    data = np.random.default_rng(0).normal(size=(BLOCK_ROWS + 700, 6)).astype(np.float32)
    table = rows(len(data))
    write(tmp_path / "c.h5", data, table, dtype, pieces=5)
    back = read_cache(tmp_path / "c.h5")
    assert np.abs(back - data).max() <= tolerance * np.abs(data).max()
    header = read_header(tmp_path / "c.h5")
    train = data[table.split == 0].astype(float)
    assert np.allclose(header.mean, train.mean(axis=0))
    assert header.mean_norm == pytest.approx(np.linalg.norm(train, axis=1).mean())
    assert header.mean_square == pytest.approx(((train - train.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert (header.step, header.layer, header.n_rows) == (8, 1, len(data))


def test_bfloat16_bits_are_those_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    data = (np.random.default_rng(1).normal(size=(200, 4)) * 10.0 ** np.arange(-3, 1)).astype(np.float32)
    write(tmp_path / "c.h5", data, rows(200), "bfloat16")
    expected = torch.from_numpy(data).to(torch.bfloat16).to(torch.float32).numpy()
    assert np.array_equal(read_cache(tmp_path / "c.h5"), expected)


@pytest.mark.parametrize("value, dtype, said", [(np.nan, "float32", "not finite"), (1e6, "float16", "does not fit")])
def test_values_that_cannot_be_stored_stop_the_capture_with_the_row_named(tmp_path, value, dtype, said):
    data = np.zeros((50, 3), dtype=np.float32)
    data[17, 1] = value
    with pytest.raises(CacheError, match=f"row 17 .*{said}"):
        write(tmp_path / "c.h5", data, rows(50), dtype)
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_byte_is_found_on_reading(tmp_path):
    write(tmp_path / "c.h5", np.ones((100, 4), dtype=np.float32), rows(100))
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["activations"][42, 2] = 1.5
    with pytest.raises(CacheError, match=r"c\.h5: rows 0–99 are not those that were written"):
        read_cache(tmp_path / "c.h5")


def test_a_truncated_cache_is_named(tmp_path):
    write(tmp_path / "c.h5", np.ones((100, 4), dtype=np.float32), rows(100))
    data = (tmp_path / "c.h5").read_bytes()
    (tmp_path / "c.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(CacheError, match="not a readable HDF5 file"):
        read_cache(tmp_path / "c.h5")


def test_caches_of_different_tokens_are_refused_together(tmp_path):
    data = np.ones((60, 4), dtype=np.float32)
    write(tmp_path / "a.h5", data, rows(60))
    write(tmp_path / "b.h5", data, rows(60))
    write(tmp_path / "c.h5", data, rows(60, seed=1))
    assert len(require_same_rows([tmp_path / "a.h5", tmp_path / "b.h5"])) == 60
    with pytest.raises(CacheError, match=r"c\.h5: was captured on other tokens"):
        require_same_rows([tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "c.h5"])


def test_an_edited_row_table_is_found(tmp_path):
    write(tmp_path / "a.h5", np.ones((60, 4), dtype=np.float32), rows(60))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["row/token"][3] = 99
    with pytest.raises(CacheError, match="row table was changed"):
        read_rows(tmp_path / "a.h5")


def dictionary(seed=0):
    draw = np.random.default_rng(seed)
    return Dictionary(
        encoder=draw.normal(size=(3, 4, 5)).astype(np.float32),
        decoder=draw.normal(size=(3, 5, 4)).astype(np.float32),
        encoder_bias=draw.normal(size=5).astype(np.float32),
        decoder_bias=draw.normal(size=(3, 4)).astype(np.float32),
        threshold=np.ones(5, dtype=np.float32),
        scale=np.ones(3, dtype=np.float32),
        center=np.zeros((3, 4), dtype=np.float32),
        steps=(0, 8, 64),
        gate="per_snapshot",
        arm="batchtopk",
        layer=2,
    )


def test_a_dictionary_comes_back_and_its_bytes_are_reproducible(tmp_path):
    for name in ("a", "b", "c"):
        write_dictionary(tmp_path / name, dictionary(), {"step": "crosscoder", "x": [1]})
    assert len({file_sha256(tmp_path / name) for name in ("a", "b", "c")}) == 1
    back = read_dictionary(tmp_path / "a")
    assert np.array_equal(back.decoder, dictionary().decoder)
    assert (back.steps, back.gate, back.layer) == ((0, 8, 64), "per_snapshot", 2)
    assert np.allclose(back.decoder_norms(), np.sqrt((back.decoder**2).sum(axis=2)))


def test_an_extension_comes_back(tmp_path):
    d = dictionary()
    extension = Extension(
        d.decoder[0], d.decoder_bias[0], 2.5, d.center[0], d.encoder[0], d.encoder_bias, d.threshold, 12, "adapted", 2
    )
    write_extension(tmp_path / "e.safetensors", extension, {})
    back = read_extension(tmp_path / "e.safetensors")
    assert (back.scale, back.step, back.level) == (2.5, 12, "adapted")
    assert np.array_equal(back.encoder, extension.encoder)


def test_edited_tokens_are_found(tmp_path):
    table = TokenTable(
        np.zeros((3, 8), np.uint16), np.zeros((3, 8), np.int32), np.zeros(3, np.uint8), vocab_size=9, end_of_text=0,
        tokenizer_sha256="x",
    )  # fmt: skip
    write_tokens(tmp_path / "tokens.h5", table, {})
    assert read_tokens(tmp_path / "tokens.h5").sha256 == table.sha256
    with h5py.File(tmp_path / "tokens.h5", "r+") as file:
        file["tokens"][1, 1] = 5
    with pytest.raises(ValueError, match="tokens are not those"):
        read_tokens(tmp_path / "tokens.h5")


def test_one_snapshot_and_the_gates_are_read_without_the_rest(tmp_path):
    whole = dictionary()
    write_dictionary(tmp_path / "d.safetensors", whole, {})
    for s, step in enumerate(whole.steps):
        part = read_snapshot(tmp_path / "d.safetensors", step)
        np.testing.assert_array_equal(part.decoder, whole.decoder[s])
        np.testing.assert_array_equal(part.norms(), np.linalg.norm(whole.decoder[s], axis=1))
        np.testing.assert_array_equal(part.center, whole.center[s])
        assert (part.scale, part.step, part.gate, part.layer, part.added) == (1.0, step, "per_snapshot", 2, False)
    gates = read_gates(tmp_path / "d.safetensors")
    np.testing.assert_allclose(gates.norms, whole.decoder_norms(), rtol=1e-6)
    np.testing.assert_array_equal(gates.threshold, whole.threshold)
    assert (gates.steps, gates.gate) == (whole.steps, "per_snapshot")
    with pytest.raises(ValueError, match=r"holds no snapshot 9, only \[0, 8, 64\]"):
        read_snapshot(tmp_path / "d.safetensors", 9)


def test_an_added_snapshot_takes_its_gate_from_the_dictionary_that_it_extends(tmp_path):
    d = dictionary()
    write_dictionary(tmp_path / "d.safetensors", d, {})
    parts = (d.decoder[0], d.decoder_bias[0], 2.5, d.center[0], d.encoder[0], d.encoder_bias, 3 * d.threshold, 12)
    write_extension(tmp_path / "e.safetensors", Extension(*parts, "adapted", 2), {})
    added = read_added_snapshot(tmp_path / "e.safetensors", tmp_path / "d.safetensors")
    assert (added.scale, added.step, added.gate, added.added) == (2.5, 12, "per_snapshot", True)
    np.testing.assert_array_equal(added.threshold, 3 * d.threshold)
    narrow = (d.decoder[0, :4], *parts[1:])
    write_extension(tmp_path / "f.safetensors", Extension(*narrow, "adapted", 2), {})
    with pytest.raises(ValueError, match=r"f.safetensors: .*fit it again on this dictionary"):
        read_added_snapshot(tmp_path / "f.safetensors", tmp_path / "d.safetensors")


def test_json_carries_provenance_and_refuses_nonsense(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1}, {"step": "s"})
    assert read_json(tmp_path / "a.json") == {"b": 1, "provenance": {"step": "s"}}
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json: not valid JSON"):
        read_json(tmp_path / "a.json")
