"""Planted detectors of every type are recognised by the rules."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_array, csr_array
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from snapcoder.features.complexity import (
    FEW,
    complexity_table,
    previous_tokens,
    repeat_scores,
    repeated_bigrams,
    token_concentration,
)
from snapcoder.job import Job
from snapcoder.steps.complexity import complexity
from snapcoder.storage.activations import RowTable
from snapcoder.storage.codes import Codes, write_codes
from snapcoder.storage.tables import read_table, write_table
from snapcoder.storage.tokens import TokenTable, write_tokens
from snapcoder.tables.features import CONTEXT_LENGTH

VOCAB, LENGTH = 24, 40
PLANTED = ("token", "token_set", "prev_token", "bigram", "induction", "positional", "contextual", "rare", "silent")


def planted(n_sequences=250, seed=0):
    """Return a token table, its rows, and one feature of each kind in `PLANTED` (strengths vary by ±10%)."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCAB, (n_sequences, LENGTH))
    copied = rng.random(n_sequences) < 0.5  # half of the sequences repeat a stretch of themselves
    tokens[copied, 25:35] = tokens[copied, 5:15]
    doc = np.repeat(np.arange(n_sequences), LENGTH).reshape(tokens.shape).astype(np.int32)
    table = TokenTable(tokens.astype(np.uint16), doc, np.zeros(n_sequences, np.uint8), VOCAB, VOCAB - 1, "0" * 64)
    sequence, position = (grid.ravel().astype(np.int32) for grid in np.mgrid[0:n_sequences, 1:LENGTH])
    token = tokens[sequence, position]
    prev = tokens[sequence, position - 1]
    rows = RowTable(sequence, position, token.astype(np.int32), doc[sequence, position], np.zeros(len(token), np.uint8))
    context = np.zeros(tokens.shape, dtype=bool)  # on for ten tokens after token 3 was seen
    for place in range(1, LENGTH):
        context[:, place] = (tokens[:, max(0, place - 10) : place - 1] == 3).any(axis=1)
    on = np.stack(
        [
            token == 4,
            np.isin(token, [5, 6, 7]),
            prev == 8,
            (token == 9) & (prev % 8 == 2),
            copied[sequence] & (position >= 26) & (position < 35),
            position >= 33,
            context[sequence, position] & (token % 2 == 0),
            np.arange(len(token)) < FEW - 1,
            np.zeros(len(token), dtype=bool),
        ],
        axis=1,
    )
    z = on * rng.uniform(0.9, 1.1, on.shape)
    return table, rows, csr_array(z.astype(np.float32))


@pytest.fixture(scope="module")
def measured():
    table, rows, z = planted()
    texts = [f"t{index}" for index in range(VOCAB)]
    frame = complexity_table([(0, z.tocsc())], rows, table, texts, layer=1)
    return frame.assign(planted=[PLANTED[feature] for feature in frame["feature"]]).set_index("planted")


def test_every_planted_detector_gets_its_type(measured):
    assert measured["type"].to_dict() == {
        "token": "token",
        "token_set": "token",
        "prev_token": "prev_token",
        "bigram": "bigram",
        "induction": "induction",
        "positional": "positional",
        "contextual": "contextual",
        "rare": "unclear",
    }


def test_complexity_rises_from_one_token_to_wide_context(measured):
    levels = measured["complexity"]
    assert levels[["token", "token_set", "prev_token", "positional", "bigram"]].tolist() == [1, 2, 2, 2, 3]
    assert levels["induction"] >= 4
    assert levels["contextual"] >= 4
    assert pd.isna(levels["rare"])


def test_each_lookup_explains_its_own_detector(measured):
    assert measured.loc["token", "token_r2"] > 0.95
    assert measured.loc["prev_token", "prev_r2"] > 0.95
    assert measured.loc["prev_token", "token_r2"] < 0.05
    assert measured.loc["bigram", "bigram_r2"] > 0.9
    assert measured.loc["bigram", "token_r2"] < 0.5
    assert measured.loc["positional", "position_r2"] > 0.95
    assert measured.loc["contextual", "bigram_need"] > 0.5
    assert measured.loc["induction", "repeat_score"] > 0.7
    needs = 1 - measured["token_r2"].clip(0, 1)
    np.testing.assert_allclose(measured["context_need"], needs, atol=1e-6)


def test_features_that_never_fire_have_no_row(measured):
    assert "silent" not in measured.index
    assert measured["n_active"].min() > 0
    assert measured.loc["rare", "n_active"] == FEW - 1


def test_relabelling_features_leaves_their_scores_unchanged(measured):
    table, rows, z = planted()
    order = np.random.default_rng(0).permutation(z.shape[1])
    texts = [f"t{index}" for index in range(VOCAB)]
    frame = complexity_table([(0, csc_array(z.toarray()[:, order]))], rows, table, texts, layer=1)
    frame = frame.assign(planted=[PLANTED[order[feature]] for feature in frame["feature"]]).set_index("planted")
    again = frame.drop(columns="feature").loc[measured.index]
    pd.testing.assert_frame_equal(again, measured.drop(columns="feature"))


@settings(max_examples=8, deadline=None)
@given(st.sets(st.integers(1, len(PLANTED) - 1)))
def test_chunks_of_features_of_any_size_give_the_same_table(cuts):
    table, rows, z = planted(n_sequences=20)
    texts = [f"t{index}" for index in range(VOCAB)]
    edges = [0, *sorted(cuts), len(PLANTED)]
    chunks = [(first, z.tocsc()[:, first:last]) for first, last in pairwise(edges)]
    whole = complexity_table([(0, z.tocsc())], rows, table, texts, layer=1)
    pd.testing.assert_frame_equal(complexity_table(chunks, rows, table, texts, layer=1), whole)


def test_the_previous_token_is_the_one_before_in_the_sequence():
    table, rows, _ = planted(n_sequences=5)
    prev = previous_tokens(rows, table)
    assert prev.tolist() == [int(table.tokens[s, p - 1]) for s, p in zip(rows.sequence, rows.position, strict=True)]
    first = RowTable(*(np.zeros(1, dtype=np.int32) for _ in range(5)))
    assert previous_tokens(first, table).tolist() == [VOCAB]


def test_a_bigram_is_repeated_when_it_stood_earlier_in_the_same_sequence():
    tokens = np.array([[1, 2, 1, 2, 1, 1], [2, 1, 3, 3, 3, 3]], dtype=np.uint16)
    table = TokenTable(tokens, np.zeros((2, 6), np.int32), np.zeros(2, np.uint8), 4, 0, "0" * 64)
    sequence, position = (grid.ravel().astype(np.int32) for grid in np.mgrid[0:2, 0:6])
    zeros = np.zeros(12, dtype=np.int32)
    repeated = repeated_bigrams(RowTable(sequence, position, zeros, zeros, zeros), table).reshape(2, 6)
    assert repeated.tolist() == [
        [False, False, False, True, True, False],
        [False, False, False, False, True, True],
    ]


def test_repeat_scores_are_shares_of_activation_above_those_of_the_tokens():
    z = csr_array(np.array([[1.0, 0, 0], [3.0, 0, 1], [0, 0, 1], [0, 0, 0]]))
    repeated = np.array([False, True, False, False])
    one_token = repeat_scores(z, repeated, np.zeros(4, dtype=int))
    np.testing.assert_allclose(one_token, [0.75 - 0.25, np.nan, 0.5 - 0.25])
    own_token = repeat_scores(z, repeated, np.arange(4))  # a token that is always repeated says nothing
    np.testing.assert_allclose(own_token, [0, np.nan, 0], atol=1e-12)


def test_token_concentration_is_the_closed_form():
    by_token = csr_array(np.array([[1.0, 0, 2.0, 0], [1.0, 0, 0, 0], [2.0, 5.0, 2.0, 0]]))
    entropy, token, share = token_concentration(by_token)
    np.testing.assert_allclose(entropy, [1.5, 0, 1, np.nan])
    assert token.tolist() == [2, 2, 0, 0]  # the lower id first among equals
    np.testing.assert_allclose(share, [0.5, 1, 0.5, np.nan])


def test_the_step_writes_a_valid_table_and_the_same_bytes_each_time(tmp_path):
    table, rows, z = planted(n_sequences=30)
    write_tokens(tmp_path / "tokens.h5", table, {})
    write_codes(tmp_path / "codes.h5", Codes(z, rows), {})
    tokenizer = Tokenizer(models.BPE(vocab={chr(ord("a") + index): index for index in range(VOCAB)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    windows = pd.DataFrame({"layer": 3, "feature": [1, 4], "window": [1, 12], "window_q1": 1, "window_q3": 16,
                            "n_examples": 5, "share_reached": 1.0, "kept": 0.95})  # fmt: skip
    write_table(tmp_path / "windows.parquet", windows, CONTEXT_LENGTH, {})
    inputs = {
        "windows": (tmp_path / "windows.parquet",),
        "codes": (tmp_path / "codes.h5",),
        "tokens": (tmp_path / "tokens.h5",),
        "tokenizer": (tmp_path / "tokenizer.json",),
    }
    for name in ("one", "two"):
        complexity(
            Job("complexity", inputs, {"table": (tmp_path / f"{name}.parquet",)}, {"features": {}, "layer": 3}, 1, {})
        )
    frame = read_table(tmp_path / "one.parquet")
    assert frame["feature"].tolist() == list(range(8))
    assert frame.loc[0, "top_token"] == "e"
    assert frame["context_window"].dropna().to_dict() == {1: 1.0, 4: 12.0}
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
