import json
import math

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from snapcoder.snapshots.facts import snapshot_table
from snapcoder.snapshots.integrity import describe_snapshot, fixed_batch_loss, tensor_fingerprint


def tensors(seed=0):
    draw = np.random.default_rng(seed)
    return {"a": draw.normal(size=(3, 4)).astype(np.float32), "b": draw.normal(size=5).astype(np.float16)}


def test_the_fingerprint_sees_content_and_not_layout(tmp_path):
    whole = tensors()
    save_file(whole, tmp_path / "x.safetensors", metadata={"format": "pt"})
    save_file({"b": whole["b"]}, tmp_path / "y1.safetensors")
    save_file({"a": whole["a"]}, tmp_path / "y2.safetensors")
    one = tensor_fingerprint([tmp_path / "x.safetensors"])
    two = tensor_fingerprint([tmp_path / "y1.safetensors", tmp_path / "y2.safetensors"])
    assert one == two
    assert one[1] == 17
    whole["b"][2] += np.float16(0.5)
    save_file(whole, tmp_path / "x.safetensors")
    assert tensor_fingerprint([tmp_path / "x.safetensors"])[0] != one[0]


def test_bfloat16_weights_are_fingerprinted_too(tmp_path):
    from safetensors.torch import save_file as save_torch

    save_torch({"w": torch.ones(4, 2, dtype=torch.bfloat16)}, tmp_path / "x.safetensors")
    assert tensor_fingerprint([tmp_path / "x.safetensors"])[1] == 8


@pytest.mark.parametrize("damage", [lambda data: b"nonsense", lambda data: data[: len(data) - 3], lambda data: b""])
def test_damaged_weights_are_named(tmp_path, damage):
    file = tmp_path / "x.safetensors"
    save_file(tensors(), file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        tensor_fingerprint([file])


def test_the_loss_of_a_uniform_model_is_the_log_of_the_vocabulary():
    config = GPTNeoXConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=30
    )
    model = GPTNeoXForCausalLM(config).eval()
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    tokens = torch.arange(60).reshape(6, 10) % 30
    assert fixed_batch_loss(model, tokens, batch_size=4) == pytest.approx(math.log(30), rel=1e-6)


def test_a_folder_is_described_or_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 2, "n_embd": 8}))
    with pytest.raises(ValueError, match=r"no \.safetensors file"):
        describe_snapshot(tmp_path, step=1, tokens=None, source="local", location="/x", loss=1.0)
    save_file(tensors(), tmp_path / "model.safetensors")
    facts = describe_snapshot(tmp_path, step=1, tokens=None, source="local", location="/x", loss=1.0)
    assert (facts["n_layers"], facts["d_model"], facts["architecture"]) == (2, 8, "gpt2")
    assert set(facts["files"]) == {"config.json", "model.safetensors"}


def test_snapshots_that_share_their_weights_are_reported():
    base = {"tokens": None, "source": "local", "sha256": "s", "n_parameters": 3, "loss_fixed_batch": 1.0}
    facts = [{**base, "step": step, "fingerprint": print_} for step, print_ in ((8, "x"), (0, "x"), (16, "y"))]
    frame = snapshot_table(facts, added=[16])
    assert list(frame["step"]) == [0, 8, 16]
    assert frame["duplicate_of"].isna().tolist() == [True, False, True]
    assert frame.loc[1, "duplicate_of"] == 0
    assert frame["added"].tolist() == [False, False, True]
