"""The step `crosscoder` on streamed activations: the same dictionary as on caches, resumable, refusing what does not fit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_caches import TINY
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import snapcoder.steps.crosscoder as crosscoder_step
from snapcoder.crosscoder.training import train
from snapcoder.job import Job
from snapcoder.steps.activations import activations
from snapcoder.steps.crosscoder import crosscoder
from snapcoder.storage.dictionaries import Dictionary, read_dictionary
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.json_file import write_json
from snapcoder.storage.tables import read_table
from snapcoder.storage.tokens import TokenTable, write_tokens

OUTPUTS = {"dictionary": "d/dictionary.safetensors", "training": "t/training.parquet", "metrics": "t/metrics.parquet"}
STEPS = (0, 8, 64)
ROWS = {"tokens": 1200, "heldout_tokens": 200, "dtype": "float32", "batch_size": 16}


@dataclass(frozen=True)
class Study:
    """Snapshots, tokens and fp32 caches of all rows that the tests train on."""

    root: Path
    table: TokenTable
    tokens: Path
    facts_order: tuple[int, ...] = STEPS

    @property
    def caches(self) -> list[Path]:
        return [self.root / f"cache{step}.h5" for step in STEPS]

    @property
    def inputs(self) -> dict[str, list[Path]]:
        facts = [self.root / f"step{step}/snapshot.json" for step in self.facts_order]
        return {"caches": self.caches, "facts": facts, "tokens": [self.tokens]}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("streamed")
    draw = np.random.default_rng(0)
    n, context = 160, 12
    table = TokenTable(
        tokens=draw.integers(0, 24, size=(n, context)).astype(np.uint16),
        doc=np.repeat(np.arange(n, dtype=np.int32)[:, None], context, axis=1),
        split=(np.arange(n) >= 130).astype(np.uint8),
        vocab_size=24,
        end_of_text=0,
        tokenizer_sha256="x",
    )
    write_tokens(root / "tokens.h5", table, {})
    config = GPTNeoXConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, vocab_size=24
    )
    made = Study(root, table, root / "tokens.h5")
    for seed, (step, written) in enumerate(zip(STEPS, made.caches, strict=True)):
        torch.manual_seed(seed)
        GPTNeoXForCausalLM(config).save_pretrained(root / f"step{step}")
        facts = root / f"step{step}/snapshot.json"
        write_json(facts, {"step": step, "folder": ".", "d_model": 16}, {})
        inputs = {"facts": (facts,), "tokens": (root / "tokens.h5",)}
        settings = {"activations": ROWS, "layer": 1, "step": step}
        activations(Job("activations", inputs, {"cache": (written,)}, settings, 1, {"step": "activations"}))
    return made


def run(study: Study, folder: Path, *, streams: int | None = None, **changed: object) -> Job:
    """Train on the caches, or on `streams` streamed rows."""
    settings = {"crosscoder": {**TINY, "eval_every": 20, **changed}, "layer": 1}
    inputs = {"caches": study.caches}
    if streams is not None:
        settings["activations"] = {**ROWS, "mode": "stream", "stream_tokens": streams}
        inputs = study.inputs
    outputs = {name: (folder / path,) for name, path in OUTPUTS.items()}
    named = {name: tuple(paths) for name, paths in inputs.items()}
    job = Job("crosscoder", named, outputs, settings, 1, {"step": "crosscoder", "settings": settings})
    crosscoder(job)
    return job


@pytest.fixture(scope="module")
def trained(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Job]:
    """Runs to the end, each set of arguments once."""

    @cache
    def once(streams: int | None = None, **changed: object) -> Job:
        return run(study, tmp_path_factory.mktemp("run"), streams=streams, **changed)

    return once


def arrays(job: Job) -> dict[str, np.ndarray]:
    dictionary: Dictionary = read_dictionary(job.output("dictionary"))
    names = ("encoder", "decoder", "encoder_bias", "decoder_bias", "threshold", "scale", "center")
    return {name: getattr(dictionary, name) for name in names}


def test_one_pool_of_all_rows_gives_the_cached_dictionary_bit_for_bit(trained: Callable[..., Job]) -> None:
    cached, streamed = trained(), trained(streams=1200)
    for name, expected in arrays(cached).items():
        np.testing.assert_array_equal(arrays(streamed)[name], expected, err_msg=name)
    for table in ("training", "metrics"):
        assert read_table(streamed.output(table)).equals(read_table(cached.output(table)))


@pytest.mark.parametrize("changed", [{}, {"memory_gb": 1e-4}], ids=["in memory", "read again"])
def test_small_pools_give_the_dictionary_of_the_cache_in_the_same_order(
    trained: Callable[..., Job], changed: dict[str, float]
) -> None:
    cached, streamed = trained(pool_tokens=300), trained(streams=1200, pool_tokens=300, **changed)
    for name, expected in arrays(cached).items():
        np.testing.assert_allclose(arrays(streamed)[name], expected, rtol=0, atol=1e-6, err_msg=name)
    assert not np.array_equal(arrays(trained())["encoder"], arrays(cached)["encoder"])


def test_a_killed_job_continues_in_its_pool_and_ends_with_the_same_bytes(
    trained: Callable[..., Job], study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(streams=1200, pool_tokens=300)
    for stop in (11, 27):  # 64 rows a step: in the third pool, and in the second epoch

        def killed(*arguments: object, stop: int = stop, **named: object) -> None:
            train(*arguments, **named, stop_after=stop)  # type: ignore[arg-type]
            raise KeyboardInterrupt

        monkeypatch.setattr(crosscoder_step, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            run(study, tmp_path, streams=1200, pool_tokens=300)
        assert (tmp_path / "d" / "dictionary.work").is_dir()
    monkeypatch.setattr(crosscoder_step, "train", train)
    cut = run(study, tmp_path, streams=1200, pool_tokens=300)
    for name in OUTPUTS:
        assert file_sha256(cut.output(name)) == file_sha256(whole.output(name))
    assert not (tmp_path / "d" / "dictionary.work").exists()


def test_more_can_be_streamed_than_is_cached_and_scores_are_on_the_cached_held_out_rows(
    trained: Callable[..., Job], study: Study, tmp_path: Path
) -> None:
    job = trained(streams=1350, pool_tokens=400)
    assert set(read_table(job.output("metrics"))["n_rows"]) == {200}
    assert np.array_equal(arrays(job)["scale"], arrays(trained())["scale"])
    with pytest.raises(ValueError, match=r"activations\.stream_tokens: 9999 rows wanted"):
        run(study, tmp_path, streams=9999)


def test_pools_beyond_the_memory_are_refused_before_training(study: Study, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"crosscoder\.memory_gb: 1e-06 GB, but 1 pools of 1200 rows of 3 snapshots"):
        run(study, tmp_path, streams=1200, memory_gb=1e-6)


def test_snapshots_and_tokens_that_are_not_those_of_the_caches_are_refused(study: Study, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"snapshot\.json: describes step 64 of width 16, the cache .* is of step 0"):
        run(replace(study, facts_order=STEPS[::-1]), tmp_path, streams=1200)
    other = TokenTable(**{**vars(study.table), "tokens": study.table.tokens[::-1].copy()})
    write_tokens(tmp_path / "other.h5", other, {})
    with pytest.raises(ValueError, match=r"cache0\.h5: was captured on other tokens"):
        run(replace(study, tokens=tmp_path / "other.h5"), tmp_path, streams=1200)
