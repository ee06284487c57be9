"""Streamed activations: those of the model, those of a cache, in whatever order pools are made."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

import snapcoder.capture.truncated as truncated
from snapcoder.capture.capture import captured_blocks
from snapcoder.capture.rows import select_rows, select_stream
from snapcoder.capture.stream import PoolShape, StreamedRows, pool_dtype, require_pools_fit
from snapcoder.capture.truncated import TruncatedSnapshots, load_truncated, weight_bytes
from snapcoder.crosscoder.pools import deal_pools
from snapcoder.language_model import capture, load
from snapcoder.storage.tokens import TokenTable
from snapcoder.study.activations import ActivationSettings

CPU = torch.device("cpu")
N_SEQUENCES, CONTEXT, WIDTH, LAYER = 70, 12, 16, 1


def token_table(seed: int = 0) -> TokenTable:
    draw = np.random.default_rng(seed)
    return TokenTable(
        tokens=draw.integers(0, 20, size=(N_SEQUENCES, CONTEXT)).astype(np.uint16),
        doc=np.repeat(np.arange(N_SEQUENCES, dtype=np.int32)[:, None], CONTEXT, axis=1),
        split=(np.arange(N_SEQUENCES) % 5 == 4).astype(np.uint8),
        vocab_size=20,
        end_of_text=0,
        tokenizer_sha256="x",
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("snapshots")
    config = GPTNeoXConfig(
        hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, vocab_size=20
    )
    paths = [root / f"step{step}" for step in (0, 8, 64)]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        GPTNeoXForCausalLM(config).save_pretrained(path)
    return paths


def opened(
    folders: list[Path],
    *,
    pool_tokens: int | None,
    chosen: ActivationSettings,
    ahead: bool = False,
    memory_bytes: int = 2**30,
    n_positions: int = 10**6,
) -> StreamedRows:
    selection = select_stream(token_table(), chosen)
    pools = deal_pools(selection.first_row, pool_tokens=pool_tokens, seed=3)
    snapshots = TruncatedSnapshots.open(folders, layer=LAYER, device=CPU, memory_bytes=memory_bytes)
    shape = PoolShape(len(folders), WIDTH, pool_dtype(chosen.dtype), ahead=ahead)
    return StreamedRows(snapshots, selection, pools, shape, n_positions=n_positions)


def streaming(**changed: object) -> ActivationSettings:
    return ActivationSettings(**{"stream_tokens": 400, "dtype": "float32", "batch_size": 8, **changed})  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    wanted=st.integers(1, 500), skip=st.integers(0, 3), special=st.booleans(), seed=st.integers(0, 3), data=st.data()
)
def test_streamed_rows_are_numbered_as_the_train_rows_of_a_cache(
    wanted: int, skip: int, special: bool, seed: int, data: st.DataObject
) -> None:
    table = token_table()
    common = {"skip_positions": skip, "skip_special": special, "seed": seed, "heldout_tokens": 1}
    rows = select_rows(table, ActivationSettings(tokens=wanted, **common))  # type: ignore[arg-type]
    selection = select_stream(table, ActivationSettings(stream_tokens=wanted, **common))  # type: ignore[arg-type]
    assert selection.n_rows == wanted
    which = data.draw(st.sets(st.integers(0, len(selection.sequence) - 1), min_size=1))
    part = selection.rows(np.array(sorted(which)))
    numbers = np.concatenate(
        [np.arange(selection.first_row[index], selection.first_row[index + 1]) for index in sorted(which)]
    )
    for name in ("sequence", "position", "token", "doc", "split"):
        assert np.array_equal(getattr(part, name), getattr(rows, name)[numbers])


def test_too_small_a_corpus_is_refused_with_the_key_of_the_stream() -> None:
    with pytest.raises(ValueError, match=r"activations\.stream_tokens: 5000 rows wanted"):
        select_stream(token_table(), streaming(stream_tokens=5000))


@pytest.mark.parametrize(
    "pool_tokens, memory_bytes, ahead",
    [(None, 2**30, False), (None, 0, True), (130, 2**30, False), (130, 0, True), (40, 2**30, True)],
)
def test_streamed_rows_are_the_models_hidden_states_and_those_of_a_cache(
    folders: list[Path], pool_tokens: int | None, memory_bytes: int, ahead: bool
) -> None:
    table, chosen = token_table(), streaming()
    stream = opened(folders, pool_tokens=pool_tokens, chosen=chosen, memory_bytes=memory_bytes, ahead=ahead)
    rows = select_rows(table, ActivationSettings(tokens=400, heldout_tokens=50, dtype="float32"))
    states, cached = [], []
    for folder in folders:
        model = GPTNeoXForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
        with torch.no_grad():
            tokens = torch.from_numpy(table.tokens.astype(np.int64))
            states.append(model(input_ids=tokens, output_hidden_states=True).hidden_states[LAYER + 1].numpy())
        pieces = captured_blocks(load(folder), table, rows, layer=LAYER, batch_size=8, device=CPU)
        cached.append(np.concatenate(list(pieces)))
    with stream:
        for step in range(30):  # two epochs of 400 rows, and across pool boundaries
            numbers = stream.batch_rows(step, batch_size=27)
            found = stream(numbers).numpy()
            for s in range(len(folders)):
                expected = states[s][rows.sequence[numbers], rows.position[numbers]]
                np.testing.assert_allclose(found[:, s], expected, rtol=0, atol=1e-6)
                if pool_tokens is None:  # the same sequences together in each forward pass: the very same numbers
                    assert np.array_equal(found[:, s], cached[s][numbers])
                np.testing.assert_allclose(found[:, s], cached[s][numbers], rtol=0, atol=1e-6)


def test_rows_come_right_in_any_order_and_after_a_jump(folders: list[Path]) -> None:
    with opened(folders, pool_tokens=90, chosen=streaming(), ahead=True) as stream:
        whole = stream(np.arange(400))
        for step in (0, 0, 13, 2, 14):
            numbers = stream.batch_rows(step, batch_size=30)
            assert torch.equal(stream(numbers), whole[numbers])


@pytest.mark.parametrize("ahead, n_buffers", [(False, 1), (True, 2)])
def test_no_more_pools_are_held_than_stated_and_each_is_made_once(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, ahead: bool, n_buffers: int
) -> None:
    loaded: list[Path] = []
    real = truncated.load_truncated
    monkeypatch.setattr(
        truncated, "load_truncated", lambda folder, **named: loaded.append(folder) or real(folder, **named)
    )
    with opened(folders, pool_tokens=100, chosen=streaming(), ahead=ahead, memory_bytes=0, n_positions=400) as stream:
        assert stream.held_bytes() == n_buffers * stream.pools.sizes.max() * 3 * WIDTH * 4
        assert len(stream.pools.sizes) == 4
        for step in range(8):
            stream(stream.batch_rows(step, batch_size=50))
    # Once to measure the first snapshot, then every snapshot once for every pool; none beyond the last step.
    assert len(loaded) == 1 + 4 * len(folders)


def test_snapshots_that_fit_stay_in_memory_and_hold_only_what_a_capture_reads(folders: list[Path]) -> None:
    whole, cut = load(folders[0]), load_truncated(folders[0], layer=LAYER, device=CPU)
    blocks = sum(tensor.numel() for tensor in whole.gpt_neox.layers[2].parameters())
    head = whole.get_output_embeddings().weight.numel()
    assert weight_bytes(whole) - weight_bytes(cut) == 4 * (blocks + head)
    each = weight_bytes(cut)
    for memory_bytes, n_resident in ((3 * each, 3), (3 * each - 1, 0)):
        held = TruncatedSnapshots.open(folders, layer=LAYER, device=CPU, memory_bytes=memory_bytes)
        assert len(held.resident) == n_resident
        first, again = list(held), list(held)
        assert [a is b for a, b in zip(first, again, strict=True)] == [n_resident == 3] * 3


def test_a_head_that_is_tied_to_the_embedding_leaves_the_embedding_alone(tmp_path: Path) -> None:
    config = GPT2Config(n_embd=WIDTH, n_layer=2, n_head=2, vocab_size=20, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokens = torch.arange(20)[None]
    cut = load_truncated(tmp_path, layer=0, device=CPU)
    with torch.no_grad():
        assert torch.equal(capture(cut, tokens, layer=0), capture(load(tmp_path), tokens, layer=0))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_pools_round_as_caches_of_the_same_type_do(folders: list[Path], dtype: str) -> None:
    with (
        opened(folders, pool_tokens=None, chosen=streaming()) as exact,
        opened(folders, pool_tokens=None, chosen=streaming(dtype=dtype)) as rounded,
    ):
        rows = np.arange(400)
        kind = {"float16": torch.float16, "bfloat16": torch.bfloat16}[dtype]
        assert torch.equal(rounded(rows), exact(rows).to(kind))


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("value, said", [(float("nan"), "is not finite"), (1e6, "does not fit float16")])
def test_a_value_that_cannot_be_stored_stops_and_is_named(
    folders: list[Path], tmp_path: Path, ahead: bool, value: float, said: str
) -> None:
    broken = load(folders[1])
    broken.gpt_neox.layers[LAYER].mlp.dense_4h_to_h.bias.data[3] = value
    broken.save_pretrained(tmp_path)
    with opened([folders[0], tmp_path], pool_tokens=100, chosen=streaming(dtype="float16"), ahead=ahead) as stream:
        rows = stream.batch_rows(0, batch_size=10)
        with pytest.raises(ValueError, match=rf"sequence \d+, position \d+ {said}; set activations.dtype"):
            stream(rows)


def test_pools_that_do_not_fit_are_refused_with_a_size_that_does() -> None:
    pools = deal_pools(np.arange(0, 4001, 10), pool_tokens=1000, seed=0)
    shape = PoolShape(n_snapshots=4, d_model=64, dtype=torch.float16, ahead=True)
    row = 4 * 64 * 2
    assert require_pools_fit(pools, shape, memory_gb=2 * 1000 * row / 2**30) == 2 * 1000 * row
    with pytest.raises(ValueError, match=r"crosscoder\.memory_gb: .*pool_tokens to 500 or less"):
        require_pools_fit(pools, shape, memory_gb=1000 * row / 2**30)
