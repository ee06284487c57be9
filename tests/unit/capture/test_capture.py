import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from snapcoder.capture.capture import captured_blocks
from snapcoder.capture.rows import select_rows
from snapcoder.storage.tokens import HELDOUT, TRAIN, TokenTable
from snapcoder.study.activations import ActivationSettings


def table(n_train=40, n_heldout=12, context=10, seed=0):
    draw = np.random.default_rng(seed)
    n = n_train + n_heldout
    return TokenTable(
        tokens=draw.integers(0, 30, size=(n, context)).astype(np.uint16),
        doc=np.repeat(np.arange(n, dtype=np.int32)[:, None], context, axis=1),
        split=np.array([TRAIN] * n_train + [HELDOUT] * n_heldout, dtype=np.uint8),
        vocab_size=30,
        end_of_text=0,
        tokenizer_sha256="x",
    )


def wanted(**changes):
    return ActivationSettings(**{**{"tokens": 200, "heldout_tokens": 60}, **changes})


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(10, 250),
    heldout=st.integers(5, 70),
    skip=st.integers(0, 3),
    special=st.booleans(),
    seed=st.integers(0, 5),
)
def test_rows_are_as_many_as_wanted_and_point_at_their_tokens(tokens, heldout, skip, special, seed):
    source = table()
    rows = select_rows(
        source, wanted(tokens=tokens, heldout_tokens=heldout, skip_positions=skip, skip_special=special, seed=seed)
    )
    assert np.bincount(rows.split).tolist() == [tokens, heldout]
    assert (np.diff(rows.split.astype(int)) >= 0).all()
    assert np.array_equal(rows.token, source.tokens[rows.sequence, rows.position])
    assert np.array_equal(rows.split, source.split[rows.sequence])
    assert rows.position.min() >= skip
    assert not (special and (rows.token == source.end_of_text).any())
    assert len(np.unique(rows.sequence * 100 + rows.position)) == len(rows)


def test_too_small_a_corpus_is_refused_with_the_key():
    with pytest.raises(ValueError, match=r"activations\.tokens: 5000 rows wanted"):
        select_rows(table(), wanted(tokens=5000))
    with pytest.raises(ValueError, match=r"activations\.heldout_tokens: 5000 rows wanted"):
        select_rows(table(), wanted(heldout_tokens=5000))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_pieces_are_the_models_hidden_states_at_the_rows(batch_size):
    config = GPTNeoXConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, vocab_size=30
    )
    model = GPTNeoXForCausalLM(config).eval()
    source = table()
    rows = select_rows(source, wanted())
    pieces = captured_blocks(model, source, rows, layer=1, batch_size=batch_size, device=torch.device("cpu"))
    found = np.concatenate(list(pieces))
    with torch.no_grad():
        tokens = torch.from_numpy(source.tokens.astype(np.int64))
        states = model(input_ids=tokens, output_hidden_states=True).hidden_states[2].numpy()
    assert np.allclose(found, states[rows.sequence, rows.position], atol=1e-6)
