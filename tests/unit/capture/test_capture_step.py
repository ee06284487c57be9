from dataclasses import asdict

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from snapcoder.job import Job
from snapcoder.steps.activations import activations
from snapcoder.storage.activations import read_cache, read_header, require_same_rows
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.json_file import write_json
from snapcoder.storage.tokens import TokenTable, write_tokens
from snapcoder.study.activations import ActivationSettings


@pytest.fixture
def study(tmp_path):
    draw = np.random.default_rng(0)
    table = TokenTable(
        tokens=draw.integers(0, 30, size=(60, 10)).astype(np.uint16),
        doc=np.repeat(np.arange(60, dtype=np.int32)[:, None], 10, axis=1),
        split=(np.arange(60) >= 45).astype(np.uint8),
        vocab_size=30,
        end_of_text=0,
        tokenizer_sha256="x",
    )
    write_tokens(tmp_path / "tokens.h5", table, {})
    config = GPTNeoXConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, vocab_size=30
    )
    for step in (0, 8):
        GPTNeoXForCausalLM(config).save_pretrained(tmp_path / f"step{step}")
        write_json(tmp_path / f"step{step}/snapshot.json", {"step": step, "folder": ".", "d_model": 16}, {})
    return tmp_path, table


def capture_job(root, *, step=0, layer=1, name="cache.h5", dtype="float32", batch_size=7):
    settings = ActivationSettings(tokens=300, heldout_tokens=80, dtype=dtype, batch_size=batch_size)
    return Job(
        step="activations",
        inputs={"facts": (root / f"step{step}/snapshot.json",), "weights": (), "tokens": (root / "tokens.h5",)},
        outputs={"cache": (root / name,)},
        settings={"activations": asdict(settings), "layer": layer, "step": step},
        threads=torch.get_num_threads(),
        core={"step": "activations"},
    )


def test_caches_of_all_snapshots_and_layers_share_their_rows(study):
    root, table = study
    paths = []
    for step, layer in ((0, 1), (8, 1), (8, 2)):
        job = capture_job(root, step=step, layer=layer, name=f"{layer}-{step}.h5")
        activations(job)
        paths.append(job.output("cache"))
    rows = require_same_rows(paths)
    assert np.array_equal(rows.token, table.tokens[rows.sequence, rows.position])
    assert (len(rows), int((rows.split == 0).sum())) == (380, 300)
    header = read_header(paths[2])
    assert (header.step, header.layer, header.site, header.d_model) == (8, 2, "blocks.2.resid_post", 16)
    model = GPTNeoXForCausalLM.from_pretrained(root / "step8", attn_implementation="eager").eval()
    with torch.no_grad():
        states = model(
            input_ids=torch.from_numpy(table.tokens.astype(np.int64)), output_hidden_states=True
        ).hidden_states
    assert np.allclose(read_cache(paths[1]), states[2].numpy()[rows.sequence, rows.position], atol=1e-6)


def test_the_same_job_writes_the_same_bytes(study):
    root, _ = study
    for name in ("a.h5", "b.h5"):
        activations(capture_job(root, name=name, dtype="float16"))
    assert file_sha256(root / "a.h5") == file_sha256(root / "b.h5")


def test_a_block_that_does_not_exist_is_named_and_nothing_is_written(study):
    root, _ = study
    with pytest.raises(ValueError, match="block 3 does not exist; GPTNeoXForCausalLM has blocks 0 to 2"):
        activations(capture_job(root, layer=3))
    assert not list(root.glob("*cache*"))


def test_facts_of_another_step_are_refused(study):
    root, _ = study
    job = capture_job(root, step=0)
    other = Job(job.step, job.inputs, job.outputs, {**job.settings, "step": 4}, job.threads, job.core)
    with pytest.raises(ValueError, match=r"snapshot\.json: describes step 0, not step 4"):
        activations(other)
