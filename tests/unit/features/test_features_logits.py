"""Promoted and suppressed tokens against the model's own arithmetic, and against torch's reading of the files."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from snapcoder.features.logits import Readout, feature_logits, logits_of, read_moments, read_out
from snapcoder.job import Job
from snapcoder.steps.logits import logits
from snapcoder.storage.checkpoint_tensors import open_checkpoint
from snapcoder.storage.dictionaries import Dictionary, write_dictionary
from snapcoder.storage.tables import read_table, write_table
from snapcoder.tables.evolution import FEATURE_TIMING

STEPS, D, F, VOCAB = (0, 4, 64), 5, 6, 9


def dictionary(seed=0):
    rng = np.random.default_rng(seed)
    return Dictionary(
        encoder=np.zeros((3, D, F), np.float32),
        decoder=rng.normal(size=(3, F, D)).astype(np.float32),
        encoder_bias=np.zeros(F, np.float32),
        decoder_bias=np.zeros((3, D), np.float32),
        threshold=np.ones(F, np.float32),
        scale=np.array([1.0, 2.0, 4.0], np.float32),
        center=np.zeros((3, D), np.float32),
        steps=STEPS,
        gate="per_snapshot",
        arm="batchtopk",
        layer=2,
    )


def readout(step, *, norm=True, centres=True):
    rng = np.random.default_rng(100 + step)
    weight = rng.uniform(0.5, 1.5, D).astype(np.float32) if norm else None
    return Readout(rng.normal(size=(VOCAB + 2, D)).astype(np.float32), weight, centres)


def timing():
    onset = pd.array([None, 0, 4, 32, 64, 64], dtype="Int64")
    return pd.DataFrame({"feature": range(F), "onset_hi": onset, "act_max": [1.0, 1, 1, 1, 1, np.nan]})


def test_logits_are_the_gain_of_a_layer_norm_and_unembedding():
    read, direction = readout(0), np.random.default_rng(1).normal(size=(1, D)).astype(np.float32)
    norm = torch.nn.LayerNorm(D, eps=0)
    norm.weight.data = torch.tensor(read.norm_weight)
    norm.bias.data.zero_()
    base = torch.randn(D, generator=torch.Generator().manual_seed(0))
    base = (base - base.mean()) / base.std(correction=0)
    # far along the direction, the normalised output is that of the direction alone, up to the norm's division
    far = norm(base + 1e7 * torch.tensor(direction[0]))
    expected = torch.tensor(read.embedding[:VOCAB]) @ far.detach()
    spread = (direction - direction.mean()).std()
    got = logits_of(direction, read, n_tokens=VOCAB)[0] / spread
    np.testing.assert_allclose(got, expected - expected.mean(), atol=1e-4)


def test_logits_are_centred_and_linear_in_the_direction():
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(2, D))
    for read in (readout(0), readout(0, norm=False, centres=False)):
        values = logits_of(np.stack([*directions, directions[0] + 2 * directions[1]]), read, n_tokens=VOCAB)
        np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-12)
        np.testing.assert_allclose(values[2], values[0] + 2 * values[1], atol=1e-12)
        assert values.shape == (3, VOCAB)


def test_moments_are_the_onset_at_a_base_snapshot_and_the_last_one():
    moments = read_moments(timing(), STEPS)
    assert moments["onset"][0].tolist() == [0, 1, 2, 3, 4]  # feature 5 never fires
    assert moments["onset"][1].tolist() == [0, 0, 1, 1, 2]  # no onset: the first; 32 was added: 4 before it
    assert moments["final"][1].tolist() == [2] * 5


def test_listed_tokens_agree_with_a_full_sort():
    given, asked = dictionary(), []

    def readout_at(step):
        asked.append(step)
        return readout(step)

    texts = [f"t{index}" for index in range(VOCAB)]
    moments = read_moments(timing(), STEPS)
    table = feature_logits(given, moments, readout_at, texts, layer=2, n_listed=3)
    assert asked == [0, 4, 64]  # each snapshot is read once
    for moment, (features, at) in moments.items():
        for feature, snapshot in zip(features, at, strict=True):
            read = readout(STEPS[snapshot])
            direction = given.decoder[snapshot, feature] / given.scale[snapshot]
            direction = (direction - direction.mean()) * read.norm_weight
            values = read.embedding[:VOCAB] @ direction
            values = values - values.mean()
            order = np.argsort(-values)
            here = table[(table["feature"] == feature) & (table["moment"] == moment)]
            for sign, expected in (("promotes", order[:3]), ("suppresses", order[::-1][:3])):
                listed = here[here["sign"] == sign].sort_values("rank")
                assert listed["token"].tolist() == [f"t{index}" for index in expected]
                np.testing.assert_allclose(listed["logit"], values[expected], rtol=1e-4)
                assert (listed["step"] == STEPS[snapshot]).all()


def test_few_tokens_and_no_features_are_listed_as_they_are(monkeypatch):
    monkeypatch.setattr("snapcoder.features.logits.ENTRIES_AT_A_TIME", 2 * VOCAB)
    texts = [f"t{index}" for index in range(VOCAB)]
    table = feature_logits(dictionary(), read_moments(timing(), STEPS), readout, texts, layer=2, n_listed=50)
    assert table.groupby(["feature", "moment", "sign"]).size().unique().tolist() == [VOCAB]
    silent = read_moments(timing().assign(act_max=np.nan), STEPS)
    assert len(feature_logits(dictionary(), silent, readout, texts, layer=2, n_listed=3)) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_every_float_type_are_read_as_torch_reads_them(tmp_path, dtype):
    values = {name: torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).to(dtype) for name in "ab"}
    save_file(values, tmp_path / "model.safetensors", metadata={"format": "pt"})
    tensors = open_checkpoint([tmp_path / "model.safetensors"])
    for name in "ab":
        np.testing.assert_array_equal(tensors.read(name), values[name].to(torch.float32).numpy())


def test_a_tensor_of_integers_and_a_file_of_another_kind_are_refused(tmp_path):
    save_file({"ids": torch.arange(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="tensor ids has type I64"):
        open_checkpoint([tmp_path / "model.safetensors"]).read("ids")
    (tmp_path / "other.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="not a safetensors file"):
        open_checkpoint([tmp_path / "other.safetensors"])


@pytest.mark.parametrize(
    "names, embedding, norm",
    [
        (("embed_out.weight", "gpt_neox.embed_in.weight", "gpt_neox.final_layer_norm.weight"), 0, 2),
        (("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"), 1, 2),
        (("transformer.wte.weight", "transformer.ln_f.weight", "transformer.ln_f.bias"), 0, 1),
        (("gpt_neox.embed_in.weight", "other.weight", "x"), 0, None),
    ],
)
def test_the_output_embedding_is_found_by_its_name(names, embedding, norm):
    found = read_out(names, lambda name: np.full(2, names.index(name)), where="here")
    assert found.embedding[0] == embedding
    assert (None if found.norm_weight is None else found.norm_weight[0]) == norm
    assert found.centres == any(name.endswith("bias") for name in names)


def test_a_checkpoint_without_an_output_embedding_is_named_in_one_line():
    with pytest.raises(ValueError, match=r"step4: no output embedding found; expected .*lm_head") as error:
        read_out(["model.layers.0.weight"], np.zeros, where="step4")
    assert "\n" not in str(error.value)


def write_study(folder):
    rng = np.random.default_rng(5)
    weights, facts = [], []
    for place, step in enumerate(STEPS):
        home = folder / f"step{step}"
        home.mkdir(parents=True)
        tensors = {
            "embed_out.weight": torch.tensor(rng.normal(size=(VOCAB, D))).to(torch.bfloat16),
            "gpt_neox.final_layer_norm.weight": torch.ones(D),
            "gpt_neox.final_layer_norm.bias": torch.zeros(D),
        }
        files = ["model.safetensors"] if place else ["model-00001.safetensors", "model-00002.safetensors"]
        for index, name in enumerate(files):
            save_file({key: tensors[key] for key in list(tensors)[index :: len(files)]}, home / name)
        content = {"step": step, "folder": ".", "files": dict.fromkeys([*files, "config.json"], "x")}
        (home / "snapshot.json").write_text(json.dumps(content))
        weights += [home / name for name in files]
        facts.append(home / "snapshot.json")
    write_dictionary(folder / "dictionary.safetensors", dictionary(), {})
    tokenizer = Tokenizer(models.BPE(vocab={chr(ord("a") + index): index for index in range(VOCAB)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    frame = timing()
    for column in FEATURE_TIMING.columns:
        if column.name not in frame:
            plain = column.categories[0] if column.categories else 0
            frame[column.name] = None if column.nullable else plain
    write_table(folder / "timing.parquet", frame, FEATURE_TIMING, {})
    single = {"dictionary": "dictionary.safetensors", "timing": "timing.parquet", "tokenizer": "tokenizer.json"}
    inputs = {name: (folder / file,) for name, file in single.items()}
    return {**inputs, "facts": tuple(facts), "weights": tuple(weights)}


def test_the_step_writes_a_valid_table_and_the_same_bytes_each_time(tmp_path):
    inputs = write_study(tmp_path / "study")
    settings = {"features": {"logits": 2}, "layer": 2}
    for name in ("one", "two"):
        logits(Job("logits", inputs, {"table": (tmp_path / f"{name}.parquet",)}, settings, 1, {}))
    table = read_table(tmp_path / "one.parquet")
    assert len(table) == 5 * 2 * 2 * 2
    assert set(table["token"]) <= set("abcdefghi")
    assert (table.loc[table["sign"] == "promotes", "logit"] > 0).all()
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_a_snapshot_of_the_dictionary_without_facts_is_named(tmp_path):
    inputs = write_study(tmp_path)
    inputs["facts"] = inputs["facts"][1:]
    job = Job("logits", inputs, {"table": (tmp_path / "t.parquet",)}, {"features": {}, "layer": 2}, 1, {})
    with pytest.raises(ValueError, match=re.escape("snapshot 0 is in")):
        logits(job)
