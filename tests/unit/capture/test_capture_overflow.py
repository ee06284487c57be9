import logging
from dataclasses import asdict

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from snapcoder.job import Job
from snapcoder.steps.activations import activations
from snapcoder.storage.activations import CacheError, read_cache, read_header, read_rows
from snapcoder.storage.json_file import write_json
from snapcoder.storage.tokens import TokenTable, write_tokens
from snapcoder.study.activations import ActivationSettings

TOKEN = 17  # its embedding is changed so that the residual stream overflows on it


@pytest.fixture
def study(tmp_path):
    draw = np.random.default_rng(0)
    table = TokenTable(
        tokens=draw.integers(0, 16, size=(60, 10)).astype(np.uint16),
        doc=np.repeat(np.arange(60, dtype=np.int32)[:, None], 10, axis=1),
        split=(np.arange(60) >= 45).astype(np.uint8),
        vocab_size=30,
        end_of_text=0,
        tokenizer_sha256="x",
    )
    table.tokens[30:, 4] = TOKEN
    write_tokens(tmp_path / "tokens.h5", table, {})
    return tmp_path


def job(root, dtype, *, value=0.0):
    config = GPTNeoXConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=30
    )
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(config)
    model.gpt_neox.embed_in.weight.data[TOKEN, 3] = value
    model.save_pretrained(root / "step8")
    write_json(root / "step8/snapshot.json", {"step": 8, "folder": ".", "d_model": 16}, {})
    settings = ActivationSettings(tokens=300, heldout_tokens=80, dtype=dtype, batch_size=7)
    return Job(
        step="activations",
        inputs={"facts": (root / "step8/snapshot.json",), "weights": (), "tokens": (root / "tokens.h5",)},
        outputs={"cache": (root / "cache.h5",)},
        settings={"activations": asdict(settings), "layer": 1, "step": 8},
        threads=torch.get_num_threads(),
        core={"step": "activations"},
    )


def test_a_snapshot_too_large_for_float16_is_refused_and_int8_and_bfloat16_take_it(study):
    pattern = (
        r"cache\.h5: snapshot 8, layer 1, row \d+ \(sequence (\d+), position 4\), dimension 3: the activation 90000\S* "
        "does not fit float16, which goes up to 65504; set activations.dtype to int8 or bfloat16 or float32$"
    )
    with pytest.raises(CacheError, match=pattern):
        activations(job(study, "float16", value=9e4))
    assert not list(study.glob("*cache*"))
    found = {}
    for dtype in ("float32", "bfloat16", "int8"):
        activations(job(study, dtype, value=9e4))
        found[dtype] = read_cache(study / "cache.h5")
    exact = found["float32"]
    huge = read_rows(study / "cache.h5").token == TOKEN
    assert np.allclose(exact[huge, 3], 9e4, rtol=1e-3)
    for dtype in ("bfloat16", "int8"):
        assert np.allclose(found[dtype][huge, 3], exact[huge, 3], rtol=0.03)
    # Where the dimension is not huge, it comes back as its median; the others come back as if nothing had happened.
    usual, others = exact[~huge], np.arange(16) != 3
    error = found["int8"][~huge] - usual
    assert np.abs(error[:, 3]).max() <= 2 * np.abs(usual[:, 3]).max()
    assert (error[:, others] ** 2).sum() < 1e-4 * ((usual - usual.mean(axis=0))[:, others] ** 2).sum()


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16", "int8"])
def test_a_snapshot_that_is_not_finite_is_refused_whatever_the_dtype(study, dtype):
    pattern = (
        r"snapshot 8, layer 1, row \d+ \(sequence \d+, position \d+\), dimension \d+: the activation nan is not finite"
    )
    with pytest.raises(CacheError, match=pattern):
        activations(job(study, dtype, value=float("nan")))
    assert not list(study.glob("*cache*"))


def test_a_cache_that_loses_much_by_rounding_says_so(study, caplog, monkeypatch):
    with caplog.at_level(logging.WARNING):
        activations(job(study, "int8"))
    assert caplog.records == []
    assert 0 < read_header(study / "cache.h5").noise_share < 1e-4
    monkeypatch.setattr("snapcoder.steps.activations._NOTABLE_NOISE", 1e-6)
    with caplog.at_level(logging.WARNING):
        activations(job(study, "int8"))
    assert "storing as int8 loses" in caplog.text
    assert "of the variance; set activations.dtype to float16" in caplog.text
