"""Examples against a plain loop over dense activations."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_array, csr_array
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from snapcoder.features.examples import Source, choose_examples, feature_examples, values_at
from snapcoder.job import Job
from snapcoder.steps.examples import examples
from snapcoder.storage.activations import RowTable
from snapcoder.storage.codes import Codes, write_codes
from snapcoder.storage.dictionaries import Dictionary, Extension, Gates, write_dictionary, write_extension
from snapcoder.storage.tables import read_table
from snapcoder.storage.tokens import TokenTable, write_tokens

N_SEQUENCES, LENGTH, VOCAB = 6, 8, 11
STEPS = (0, 4, 64)


def token_table():
    tokens = np.random.default_rng(0).integers(0, VOCAB, (N_SEQUENCES, LENGTH)).astype(np.uint16)
    doc = np.repeat(np.arange(12, dtype=np.int32), 4).reshape(tokens.shape)
    return TokenTable(tokens, doc, np.array([0, 0, 0, 0, 1, 1], dtype=np.uint8), VOCAB, 10, "0" * 64)


def row_table(table):
    """Positions 1 … of every sequence but the second, as after leaving out the first position."""
    sequence, position = (grid.ravel().astype(np.int32) for grid in np.mgrid[0:N_SEQUENCES, 1:LENGTH])
    kept = sequence != 1
    sequence, position = sequence[kept], position[kept]
    return RowTable(
        sequence,
        position,
        table.tokens[sequence, position].astype(np.int32),
        table.doc[sequence, position],
        table.split[sequence],
    )


def dense_code(n_rows, n_features, seed=1):
    rng = np.random.default_rng(seed)
    z = rng.integers(1, 6, (n_rows, n_features)) * (rng.random((n_rows, n_features)) < 0.4)
    z[:, 2] = 0  # never fires
    return z.astype(np.float32)


def dictionary(n_features, gate="per_snapshot", d=3):
    rng = np.random.default_rng(2)
    return Dictionary(
        encoder=np.zeros((3, d, n_features), np.float32),
        decoder=rng.normal(size=(3, n_features, d)).astype(np.float32),
        encoder_bias=np.zeros(n_features, np.float32),
        decoder_bias=np.zeros((3, d), np.float32),
        threshold=np.full(n_features, 3.0, np.float32),
        scale=np.ones(3, np.float32),
        center=np.zeros((3, d), np.float32),
        steps=STEPS,
        gate=gate,
        arm="batchtopk",
        layer=2,
    )


def gates(n_features, gate="per_snapshot"):
    stored = dictionary(n_features, gate)
    return Gates(stored.decoder_norms(), stored.threshold, stored.steps, stored.gate)


def table_of(z, *, gate="per_snapshot", added=(), top=4, quantiles=2, context=3, cuts=()):
    tokens = token_table()
    rows = row_table(tokens)
    texts = [f"t{index}" for index in range(VOCAB)]
    readers = [(step, csc_array(own).__getitem__) for step, own in added]
    source = Source(
        rows=rows,
        tokens=tokens,
        texts=texts,
        gates=gates(z.shape[1], gate),
        added=[(step, lambda features, read=read: read((slice(None), features))) for step, read in readers],
        layer=2,
    )
    edges = [0, *sorted(cuts), z.shape[1]]
    chunks = [(first, csc_array(z[:, first:last])) for first, last in pairwise(edges)]
    frames = feature_examples(chunks, source, top=top, quantiles=quantiles, context=context)
    return pd.concat(frames, ignore_index=True), rows, tokens


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 3))
def test_top_examples_are_the_strongest_rows_with_ties_broken_by_row(seed, top, quantiles):
    z = dense_code(30, 5, seed)
    chosen = choose_examples(csc_array(z), top=top, quantiles=quantiles)
    for feature in range(5):
        ranked = sorted((row for row in range(30) if z[row, feature] > 0), key=lambda row: (-z[row, feature], row))
        here = (chosen.feature == feature) & (chosen.kind == "top")
        assert chosen.row[here].tolist() == ranked[:top]
        assert chosen.rank[here].tolist() == list(range(min(top, len(ranked))))
        lower = (chosen.feature == feature) & (chosen.kind == "quantile")
        places = [ranked.index(row) for row in chosen.row[lower]]
        assert all(place >= top for place in places)
        assert len(set(places)) == len(places)
        assert places == sorted(places)
    np.testing.assert_array_equal(chosen.act, z[chosen.row, chosen.feature])


def test_bands_start_at_evenly_spaced_ranks_below_the_top():
    z = np.arange(100, 0, -1, dtype=np.float32)[:, None]  # row r has rank r
    chosen = choose_examples(csc_array(z), top=10, quantiles=2)
    assert chosen.row[chosen.kind == "quantile"].tolist() == [40, 41, 70, 71]
    assert chosen.rank[chosen.kind == "quantile"].tolist() == [0, 1, 2, 3]


def test_values_are_looked_up_as_in_the_dense_matrix(monkeypatch):
    monkeypatch.setattr("snapcoder.features.examples.FEATURES_AT_A_TIME", 3)
    z = dense_code(30, 10)
    feature = np.sort(np.random.default_rng(0).integers(0, 10, 50))[:, None] * np.ones((1, 4), dtype=np.int64)
    row = np.random.default_rng(1).integers(-1, 30, feature.shape)
    expected = np.where(row >= 0, z[row, feature], 0)
    np.testing.assert_array_equal(values_at(csc_array(z), feature, row), expected)


def test_contexts_hold_the_right_tokens_and_activations():
    tokens = token_table()
    n_rows = len(row_table(tokens))
    z = dense_code(n_rows, 5)
    table, rows, tokens = table_of(z)
    row_of = {(int(s), int(p)): row for row, (s, p) in enumerate(zip(rows.sequence, rows.position, strict=True))}
    assert set(table["feature"]) == {0, 1, 3, 4}
    for example in table.itertuples():
        places = range(max(0, example.position - 3), min(LENGTH, example.position + 4))
        assert list(example.tokens) == [f"t{tokens.tokens[example.sequence, place]}" for place in places]
        expected = [
            z[row_of[example.sequence, place], example.feature] if (example.sequence, place) in row_of else 0
            for place in places
        ]
        assert example.acts.tolist() == expected
        assert list(places)[example.focus] == example.position
        assert example.acts[example.focus] == example.act
        assert example.doc == tokens.doc[example.sequence, example.position]


def test_the_code_by_snapshot_follows_the_gate_and_the_order_of_steps():
    tokens = token_table()
    z = dense_code(len(row_table(tokens)), 5)
    own = dense_code(len(z), 5, seed=9)
    table, rows, _ = table_of(z, added=[(16, own)])
    norms = dictionary(5).decoder_norms()
    row_of = {(int(s), int(p)): row for row, (s, p) in enumerate(zip(rows.sequence, rows.position, strict=True))}
    seen = set()
    for example in table.itertuples():
        base = [example.act * (example.act * norm > 3.0) for norm in norms[:, example.feature]]
        row = row_of[example.sequence, example.position]
        assert example.act_by_snapshot.tolist() == [*base[:2], own[row, example.feature], base[2]]
        seen |= {value > 0 for value in base}
    assert seen == {True, False}


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(1, 4)))
def test_chunks_of_features_of_any_size_give_the_same_examples(cuts):
    z = dense_code(len(row_table(token_table())), 5)
    own = [(16, dense_code(len(z), 5, seed=9))]
    whole, parts = table_of(z, added=own)[0], table_of(z, added=own, cuts=cuts)[0]
    pd.testing.assert_frame_equal(parts, whole)


def test_a_shared_gate_shows_the_same_code_at_every_base_snapshot():
    z = dense_code(len(row_table(token_table())), 5)
    table, _, _ = table_of(z, gate="shared")
    assert all(values.tolist() == [act] * 3 for values, act in zip(table["act_by_snapshot"], table["act"], strict=True))


def test_a_dictionary_that_never_fires_has_no_examples():
    z = np.zeros((len(row_table(token_table())), 5), dtype=np.float32)
    table, _, _ = table_of(z)
    assert len(table) == 0


def run_step(folder, *, other_rows=False, silent=False):
    folder.mkdir()
    tokens = token_table()
    rows = row_table(tokens)
    z = dense_code(len(rows), 5) * (not silent)
    other = RowTable(rows.sequence, rows.position, rows.token + other_rows, rows.doc, rows.split)
    write_tokens(folder / "tokens.h5", tokens, {})
    write_codes(folder / "codes.h5", Codes(csr_array(z), rows), {})
    write_codes(folder / "own.h5", Codes(csr_array(dense_code(len(rows), 5, seed=9)), other), {})
    write_dictionary(folder / "dictionary.safetensors", dictionary(5), {})
    parts = {name: getattr(dictionary(5), name) for name in ("encoder_bias", "threshold")}
    extension = Extension(
        decoder=np.ones((5, 3), np.float32),
        decoder_bias=np.zeros(3, np.float32),
        scale=1.0,
        center=np.zeros(3, np.float32),
        encoder=np.zeros((3, 5), np.float32),
        step=16,
        level="frozen",
        layer=2,
        **parts,
    )
    write_extension(folder / "extension.safetensors", extension, {})
    tokenizer = Tokenizer(models.BPE(vocab={chr(ord("a") + index): index for index in range(VOCAB)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {
        "codes": "codes.h5",
        "tokens": "tokens.h5",
        "tokenizer": "tokenizer.json",
        "dictionary": "dictionary.safetensors",
        "extensions": "extension.safetensors",
        "extension_codes": "own.h5",
    }
    inputs = {name: (folder / file,) for name, file in names.items()}
    settings_ = {"features": {"top": 3, "quantiles": 2, "context": 2}, "layer": 2}
    examples(Job("examples", inputs, {"table": (folder / "examples.parquet",)}, settings_, 1, {}))
    return read_table(folder / "examples.parquet")


def test_the_step_writes_a_valid_table_and_the_same_bytes_each_time(tmp_path):
    table = run_step(tmp_path / "a")
    run_step(tmp_path / "b")
    assert len(table) > 10
    assert {len(values) for values in table["act_by_snapshot"]} == {4}
    assert set("".join("".join(tokens) for tokens in table["tokens"])) <= set("abcdefghijk")
    assert (tmp_path / "a/examples.parquet").read_bytes() == (tmp_path / "b/examples.parquet").read_bytes()


def test_the_step_writes_an_empty_table_when_nothing_fires(tmp_path):
    assert len(run_step(tmp_path / "a", silent=True)) == 0


def test_codes_of_an_added_snapshot_on_other_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds other rows"):
        run_step(tmp_path / "a", other_rows=True)
