"""Features that provably need w tokens get the window w; what is run on whole contexts keeps everything."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_array, csr_array
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from snapcoder.capture.last_token import last_activations, positions_matter
from snapcoder.features.context_length import (
    Ends,
    Windows,
    activity_floor,
    choose_ends,
    context_length_table,
    context_windows,
    cut_contexts,
    measured_features,
)
from snapcoder.job import Job
from snapcoder.language_model import capture, load
from snapcoder.steps.context_length import context_length
from snapcoder.storage.activations import RowTable
from snapcoder.storage.codes import Codes, write_codes
from snapcoder.storage.dictionaries import Dictionary, Gates, write_dictionary
from snapcoder.storage.json_file import write_json
from snapcoder.storage.tables import read_table
from snapcoder.storage.tokens import TokenTable, write_tokens

VOCAB, LENGTH, SEQUENCES, WIDTH, FEATURES, LAYER = 30, 16, 24, 16, 12, 1
SUFFIXES = (1, 2, 3, 4, 6, 8, 12)
CPU = torch.device("cpu")
TINY = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": VOCAB,
}


def token_table(seed=0):
    tokens = np.random.default_rng(seed).integers(1, VOCAB, (SEQUENCES, LENGTH)).astype(np.uint16)
    doc = np.repeat(np.arange(SEQUENCES, dtype=np.int32)[:, None], LENGTH, axis=1)
    return TokenTable(tokens, doc, np.zeros(SEQUENCES, np.uint8), VOCAB, 0, "x")


def counting(needs, front=1):
    """A code that is 1 when as many tokens are there as feature i needs, else 0.3, and what it was asked to run."""
    asked = []

    def encode(tokens, positions, context, feature):
        assert tokens.shape == positions.shape
        asked.append(tokens)
        there = tokens.shape[1] - front
        return np.where(there >= needs[feature], 1.0, 0.3)

    return encode, asked


def ends_of(features, positions):
    n = len(features)
    return Ends(np.asarray(features), np.arange(n) % SEQUENCES, np.asarray(positions), np.ones(n))


def windows_of(ends, encode, **changed):
    options = {"suffixes": SUFFIXES, "share": 0.9, "front": "end_of_text", "positions_matter": False, **changed}
    return context_windows(ends, token_table(), encode, np.zeros(99), **options)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 14), st.integers(0, LENGTH - 1)), min_size=1, max_size=20))
def test_a_feature_that_needs_w_tokens_gets_the_next_suffix_of_the_grid_or_the_whole_context(planted):
    needs, positions = (np.array(values) for values in zip(*planted, strict=True))
    encode, _ = counting(needs)
    found = windows_of(ends_of(np.arange(len(needs)), positions), encode)
    for need, position, window, cut in zip(needs, positions, found.window, found.cut, strict=True):
        fits = [length for length in SUFFIXES if need <= length <= position]
        assert window == (min(fits) if fits else position + 1)
        assert cut == bool(fits)


def test_the_whole_context_keeps_everything_and_is_never_run():
    encode, asked = counting(np.array([99]))
    found = windows_of(ends_of([0, 0], [0, 9]), encode)
    assert found.window.tolist() == [1, 10]
    assert found.kept.tolist() == [1, 1]
    assert max(tokens.shape[1] for tokens in asked) == 1 + 8


def test_contexts_that_kept_enough_are_not_run_again_and_equal_ones_run_once():
    needs = np.array([1, 4])
    encode, asked = counting(needs)
    windows_of(Ends(np.array([0, 1, 1]), np.array([0, 0, 0]), np.array([15, 15, 15]), np.ones(3)), encode)
    assert [len(tokens) for tokens in asked] == [1, 1, 1, 1]
    assert [tokens.shape[1] for tokens in asked] == [2, 3, 4, 5]


def test_a_suffix_must_leave_the_feature_on():
    encode, _ = counting(np.array([6]))
    options = {"suffixes": SUFFIXES, "share": 0.2, "front": "end_of_text", "positions_matter": False}
    ends = ends_of([0], [15])
    lenient = context_windows(ends, token_table(), encode, np.zeros(1), **options)
    gated = context_windows(ends, token_table(), encode, np.full(1, 0.5), **options)
    assert (lenient.window[0], gated.window[0]) == (1, 6)


@pytest.mark.parametrize(
    "front, first, place", [("none", None, None), ("end_of_text", 0, 9), ("sequence_start", "own", 0)]
)
def test_cut_contexts_are_suffixes_at_their_own_places_behind_the_front_token(front, first, place):
    table, ends = token_table(), ends_of([0, 1], [12, 12])
    tokens, places = cut_contexts(ends, table, length=3, front=front)
    assert tokens[:, -3:].tolist() == table.tokens[:2, 10:13].tolist()
    assert places[:, -3:].tolist() == [[10, 11, 12]] * 2
    if front != "none":
        assert tokens[:, 0].tolist() == (table.tokens[:2, 0].tolist() if first == "own" else [first] * 2)
        assert places[:, 0].tolist() == [place] * 2


def test_the_strongest_rows_with_a_long_context_are_chosen_first():
    position = np.array([0, 1, 9, 10, 11, 12], dtype=np.int32)
    zeros = np.zeros(6, dtype=np.int32)
    rows = RowTable(np.arange(6, dtype=np.int32), position, zeros, zeros, zeros)
    z = csc_array(np.array([[9.0, 0], [8, 0], [3, 1], [4, 0], [5, 0], [1, 0]], dtype=np.float32))
    ends = choose_ends([(0, z)], rows, features=np.array([0, 1]), examples=2, longest=4)
    assert ends.feature.tolist() == [0, 0, 1]
    assert ends.act.tolist() == [5, 4, 1]
    few = choose_ends([(0, z[:2])], rows, features=np.array([0]), examples=2, longest=4)
    assert few.act.tolist() == [9, 8]  # nothing longer is there


def test_chunks_give_the_same_ends_as_all_features_at_once():
    rng = np.random.default_rng(0)
    z = csc_array((rng.random((40, 6)) * (rng.random((40, 6)) < 0.5)).astype(np.float32))
    rows = RowTable(*(rng.integers(0, 12, 40).astype(np.int32) for _ in range(5)))
    options = {"features": np.array([0, 2, 3, 5]), "examples": 3, "longest": 6}
    whole = choose_ends([(0, z)], rows, **options)
    parts = choose_ends([(0, z[:, :2]), (2, z[:, 2:])], rows, **options)
    assert all(np.array_equal(getattr(whole, name), getattr(parts, name)) for name in Ends.__annotations__)


def test_features_are_drawn_only_when_there_are_too_many():
    n_active = np.array([3, 0, 5, 1, 2])
    assert measured_features(n_active, most=0, rng=np.random.default_rng(0)).tolist() == [0, 2, 3, 4]
    drawn = measured_features(n_active, most=2, rng=np.random.default_rng(0))
    assert len(drawn) == 2
    assert set(drawn) < {0, 2, 3, 4}


def test_the_floor_is_the_gate_at_the_largest_norm():
    norms, threshold = np.array([[1.0, 0], [2, 0]]), np.array([3.0, 1])
    assert activity_floor(Gates(norms, threshold, (0, 1), "per_snapshot")).tolist() == [1.5, np.inf]
    assert activity_floor(Gates(norms, threshold, (0, 1), "shared"))[0] == pytest.approx(3 / np.sqrt(2.5))


def test_the_table_holds_median_and_quartiles_that_occur():
    ends = ends_of([3, 3, 3, 3, 3, 7], [15] * 6)
    found = Windows(np.array([1, 2, 4, 8, 16, 3]), np.ones(6), np.array([True, True, True, True, False, True]))
    table = context_length_table(ends, found, layer=2).set_index("feature")
    assert table.loc[3, ["window_q1", "window", "window_q3", "n_examples"]].tolist() == [2, 4, 8, 5]
    assert table.loc[3, "share_reached"] == pytest.approx(0.8)


def silence_attention(model):
    """Let every token see itself only: what is read then depends on one token (and its place, if learned)."""
    for name, weight in model.named_parameters():
        if "attention.dense" in name or "attn.c_proj" in name:
            weight.data.zero_()
    return model


def tiny(kind, seed=0, **more):
    torch.manual_seed(seed)
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(n_embd=WIDTH, n_layer=3, n_head=2, vocab_size=VOCAB, n_positions=64, **more)
        ).eval()
    return GPTNeoXForCausalLM(GPTNeoXConfig(**TINY, **more)).eval()


def test_places_matter_for_learned_positions_and_not_for_rotary_ones():
    assert positions_matter(tiny("gpt2", initializer_range=0.3), layer=LAYER, device=CPU)
    assert not positions_matter(tiny("neox", initializer_range=0.3), layer=LAYER, device=CPU)


def test_a_suffix_told_its_places_is_the_end_of_the_whole_context():
    model = silence_attention(tiny("gpt2", initializer_range=0.3))
    tokens = torch.arange(1, 13)[None]
    with torch.inference_mode():
        whole = capture(model, tokens, layer=LAYER)[:, -1]
    cut, places = tokens[:, 8:].numpy(), np.arange(8, 12)[None]
    torch.testing.assert_close(last_activations(model, cut, places, layer=LAYER, device=CPU), whole)
    assert not torch.allclose(last_activations(model, cut, None, layer=LAYER, device=CPU), whole, rtol=0.01)


def study(folder: Path, kind: str, *, alone: bool) -> Job:
    """Two snapshots of a tiny model, a random dictionary on them, and the codes of all rows by the definition."""
    table, rng = token_table(), np.random.default_rng(1)
    write_tokens(folder / "tokens.h5", table, {})
    steps, activations, facts = (0, 8), [], []
    for seed, step in enumerate(steps):
        model = tiny(kind, seed, initializer_range=0.3)
        (silence_attention(model) if alone else model).save_pretrained(folder / f"step{step}")
        write_json(folder / f"facts{step}.json", {"step": step, "folder": f"step{step}"}, {})
        facts.append(folder / f"facts{step}.json")
        with torch.inference_mode():
            whole = capture(load(folder / f"step{step}"), torch.from_numpy(table.tokens.astype(np.int64)), layer=LAYER)
        activations.append(whole.numpy().reshape(-1, WIDTH))
    center = np.stack([a.mean(axis=0) for a in activations])
    scale = np.array([np.sqrt(WIDTH / ((a - c) ** 2).sum(1).mean()) for a, c in zip(activations, center, strict=True)])
    encoder = rng.normal(size=(2, WIDTH, FEATURES)).astype(np.float32)
    bias = rng.normal(size=FEATURES).astype(np.float32)
    z = bias + sum((a - c) * s @ e for a, c, s, e in zip(activations, center, scale, encoder, strict=True))
    decoder, threshold = rng.normal(size=(2, FEATURES, WIDTH)), np.full(FEATURES, 6.0)
    z = z * (z * np.linalg.norm(decoder, axis=2).max(axis=0) > threshold)
    dictionary = Dictionary(encoder, decoder, bias, np.zeros((2, WIDTH)), threshold, scale, center, steps, "per_snapshot",
                            "batchtopk", LAYER)  # fmt: skip
    write_dictionary(folder / "dictionary.safetensors", dictionary, {})
    sequence, position = (grid.ravel().astype(np.int32) for grid in np.mgrid[0:SEQUENCES, 0:LENGTH])
    rows = RowTable(
        sequence, position, table.tokens.ravel().astype(np.int32), table.doc.ravel(), np.zeros(len(z), np.uint8)
    )
    write_codes(folder / "codes.h5", Codes(csr_array(z.astype(np.float32)), rows), {})
    inputs = {name: (folder / file,) for name, file in
              (("codes", "codes.h5"), ("tokens", "tokens.h5"), ("dictionary", "dictionary.safetensors"))}  # fmt: skip
    values = {"layer": LAYER, "context": {"suffixes": list(SUFFIXES)}}
    return Job(
        "context_length", {**inputs, "facts": tuple(facts)}, {"table": (folder / "windows.parquet",)}, values, 1, {}
    )


@pytest.mark.parametrize("kind", ["neox", "gpt2"])
def test_without_attention_one_token_keeps_every_feature_exactly(kind, tmp_path):
    job = study(tmp_path, kind, alone=True)
    context_length(job)
    table = read_table(tmp_path / "windows.parquet")
    assert len(table) == FEATURES
    assert (table[["window", "window_q1", "window_q3"]] == 1).all(axis=None)
    np.testing.assert_allclose(table["kept"], 1, rtol=1e-3)
    first = (tmp_path / "windows.parquet").read_bytes()
    context_length(job)
    assert (tmp_path / "windows.parquet").read_bytes() == first


def test_with_attention_some_features_need_more_and_the_window_keeps_the_share(tmp_path):
    job = study(tmp_path, "neox", alone=False)
    context_length(job)
    table = read_table(tmp_path / "windows.parquet")
    assert table["window"].max() > 1
    assert (table["kept"] >= 0.9 - 1e-6).all()


def test_snapshots_that_give_other_codes_are_refused(tmp_path):
    job = study(tmp_path, "neox", alone=False)
    tiny("neox", seed=9, initializer_range=0.3).save_pretrained(tmp_path / "step8")
    with pytest.raises(ValueError, match="give other codes on the same tokens"):
        context_length(job)


def test_a_snapshot_without_facts_is_named(tmp_path):
    job = study(tmp_path, "neox", alone=False)
    job.inputs["facts"] = job.inputs["facts"][:1]
    with pytest.raises(ValueError, match=r"snapshots \[8\] have no snapshot.json"):
        context_length(job)
