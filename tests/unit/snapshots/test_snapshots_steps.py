import json

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from snapcoder.job import Job
from snapcoder.snapshots.integrity import checkpoint_weights, tensor_fingerprint
from snapcoder.steps.integrity import integrity
from snapcoder.steps.snapshot import snapshot
from snapcoder.storage.json_file import read_json
from snapcoder.storage.tables import read_table
from snapcoder.storage.tokens import TokenTable, write_tokens


def tokens_file(folder, *, vocab_size=40, context=12):
    draw = np.random.default_rng(0)
    table = TokenTable(
        tokens=draw.integers(0, vocab_size, size=(30, context)).astype(np.uint16),
        doc=np.zeros((30, context), dtype=np.int32),
        split=(np.arange(30) >= 20).astype(np.uint8),
        vocab_size=vocab_size,
        end_of_text=0,
        tokenizer_sha256="x",
    )
    write_tokens(folder / "tokens.h5", table, {})
    return folder / "tokens.h5"


def checkpoint(folder, *, seed=0, **more):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=16))
    model.save_pretrained(folder, **more)
    return model.eval()


def describe(root, folder, step=0, tokens_per_step=None, **table):
    root.mkdir(parents=True, exist_ok=True)
    out = root / f"step{step}/snapshot.json"
    settings = {"step": step, "folder": str(folder), "fixed_batch": 8, "tokens_per_step": tokens_per_step}
    job = Job(
        "snapshot", {"tokens": (tokens_file(root, **table),)}, {"facts": (out,)}, settings, 1, {"step": "snapshot"}
    )
    snapshot(job)
    return out


def test_a_local_checkpoint_is_described_with_its_loss(tmp_path):
    model = checkpoint(tmp_path / "model")
    facts = read_json(describe(tmp_path / "study", tmp_path / "model", step=5, tokens_per_step=100))
    draw = np.random.default_rng(0).integers(0, 40, size=(30, 12))[20:28]
    with torch.no_grad():
        own = float(model(input_ids=torch.from_numpy(draw), labels=torch.from_numpy(draw)).loss)
    assert facts["loss_fixed_batch"] == pytest.approx(own, rel=1e-6)
    assert (facts["tokens"], facts["source"], facts["folder"]) == (500, "local", str((tmp_path / "model").resolve()))
    assert facts["n_parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_a_sharded_checkpoint_has_the_fingerprint_of_the_whole_one(tmp_path):
    checkpoint(tmp_path / "whole")
    checkpoint(tmp_path / "shards", max_shard_size="4KB")
    assert len(checkpoint_weights(tmp_path / "shards")) > 1
    facts = [read_json(describe(tmp_path / name / "study", tmp_path / name)) for name in ("whole", "shards")]
    assert facts[0]["fingerprint"] == facts[1]["fingerprint"]
    assert facts[0]["loss_fixed_batch"] == facts[1]["loss_fixed_batch"]
    assert facts[0]["sha256"] != facts[1]["sha256"]


def test_a_missing_shard_and_pickled_weights_are_named(tmp_path):
    checkpoint(tmp_path / "shards", max_shard_size="4KB")
    lost = checkpoint_weights(tmp_path / "shards")[1]
    lost.unlink()
    with pytest.raises(ValueError, match=rf"{lost.name}: named in model\.safetensors\.index\.json but not there"):
        checkpoint_weights(tmp_path / "shards")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"pickled: no \.safetensors file of a whole model; convert"):
        checkpoint_weights(pickled)


def test_files_that_transformers_does_not_read_do_not_count(tmp_path):
    checkpoint(tmp_path)
    alone = tensor_fingerprint(checkpoint_weights(tmp_path))
    (tmp_path / "consolidated.safetensors").write_bytes(b"another layout of the same weights")
    assert tensor_fingerprint(checkpoint_weights(tmp_path)) == alone


def test_a_model_that_does_not_fit_the_corpus_is_refused(tmp_path):
    checkpoint(tmp_path / "model")
    with pytest.raises(ValueError, match=r"knows 40 tokens, the corpus uses 50; set corpus\.tokenizer\.path"):
        describe(tmp_path / "a", tmp_path / "model", vocab_size=50)
    with pytest.raises(ValueError, match=r"reads 16 positions, sequences have 20; lower corpus\.context_length"):
        describe(tmp_path / "b", tmp_path / "model", context=20)


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    model = checkpoint(tmp_path / "model")
    with torch.no_grad():
        model.transformer.ln_f.weight[0] = float("nan")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="the loss on the fixed batch is nan; the weights of step 7 are not usable"):
        describe(tmp_path / "study", tmp_path / "model", step=7)


def test_a_checkpoint_in_bfloat16_is_described(tmp_path):
    config = LlamaConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, intermediate_size=32,
        vocab_size=40, max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    facts = read_json(describe(tmp_path / "study", tmp_path / "model"))
    assert 3 < facts["loss_fixed_batch"] < 5


def test_the_snapshots_table_names_equal_weights(tmp_path):
    seeds = {0: 1, 4: 1, 8: 2}
    for step, seed in seeds.items():
        checkpoint(tmp_path / f"model{step}", seed=seed)
    facts = [describe(tmp_path / "study", tmp_path / f"model{step}", step=step) for step in seeds]
    out = tmp_path / "study/tables/snapshots.parquet"
    integrity(Job("integrity", {"facts": tuple(reversed(facts))}, {"table": (out,)}, {"added": [8]}, 1, {}))
    table = read_table(out)
    assert table["step"].tolist() == [0, 4, 8]
    assert table["duplicate_of"].isna().tolist() == [True, False, True]
    assert table.loc[1, "duplicate_of"] == 0
    assert table["tokens"].isna().all()
    assert table["added"].tolist() == [False, False, True]


def test_headers_that_lie_about_their_length_are_named(tmp_path):
    file = tmp_path / "model.safetensors"
    for content in (
        b"\xff" * 16,
        (2**40).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + json.dumps([1]).encode(),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors: not a safetensors file"):
            tensor_fingerprint([file])
