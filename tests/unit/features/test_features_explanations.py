"""Explanations by a language model, against a local server: answers, faults, cache, and a key that is written nowhere."""

import ast
import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chat_stub import ChatStub
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csc_array, csr_array
from synthetic_study import conform
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import snapcoder.chat_service as chat_service
from snapcoder.features.examples import Source, feature_examples
from snapcoder.features.explaining import (
    balanced_accuracy,
    detect_messages,
    explain_messages,
    make_case,
    marked,
    read_detection,
    read_judgement,
    sampled_features,
)
from snapcoder.job import Job
from snapcoder.steps.explanations import explanations
from snapcoder.storage.activations import RowTable
from snapcoder.storage.answers import is_answer
from snapcoder.storage.codes import Codes, write_codes
from snapcoder.storage.dictionaries import Gates
from snapcoder.storage.tables import read_table, write_table
from snapcoder.storage.tokens import TokenTable, write_tokens
from snapcoder.study.explain import ExplainSettings, explain_problems
from snapcoder.study.load import StudyError, load_study
from snapcoder.study.study import Study
from snapcoder.tables.evolution import FEATURE_TIMING
from snapcoder.tables.features import FEATURE_EXAMPLES

SECRET = "sk-do-not-write-me"
VOCAB, LENGTH, SEQUENCES, FEATURES = 20, 24, 30, 6
LETTERS = [chr(ord("a") + index) for index in range(VOCAB)]


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(chat_service, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ChatStub() as running:
        yield running


@pytest.fixture
def study(tmp_path, stub):
    """Feature i fires on the letter i; onsets at three steps; and a function that makes a job."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCAB, (SEQUENCES, LENGTH))
    doc = np.repeat(np.arange(SEQUENCES, dtype=np.int32)[:, None], LENGTH, axis=1)
    table = TokenTable(tokens.astype(np.uint16), doc, np.zeros(SEQUENCES, np.uint8), VOCAB, VOCAB - 1, "0" * 64)
    sequence, position = (grid.ravel().astype(np.int32) for grid in np.mgrid[0:SEQUENCES, 0:LENGTH])
    token = tokens[sequence, position].astype(np.int32)
    rows = RowTable(sequence, position, token, doc[sequence, position], np.zeros(len(token), np.uint8))
    z = (token[:, None] == np.arange(FEATURES)) * rng.uniform(1, 9, (len(token), 1))
    write_tokens(tmp_path / "tokens.h5", table, {})
    write_codes(tmp_path / "codes.h5", Codes(csr_array(z.astype(np.float32)), rows), {})
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(LETTERS)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    source = Source(rows, table, LETTERS, Gates(np.ones((1, FEATURES)), np.zeros(FEATURES), (0,), "shared"), [], 1)
    shown = pd.concat(feature_examples([(0, csc_array(z.astype(np.float32)))], source, top=12, quantiles=2, context=6))
    write_table(tmp_path / "examples.parquet", shown, FEATURE_EXAMPLES, {})
    timing = conform(
        pd.DataFrame({"feature": range(FEATURES), "class": "emergent", "onset_hi": [4, 4, 4, 8, 8, 16]}), FEATURE_TIMING
    )
    write_table(tmp_path / "timing.parquet", timing, FEATURE_TIMING, {})

    def job(output="one", **explain):
        inputs = {name: (tmp_path / file,) for name, file in
                  (("codes", "codes.h5"), ("tokens", "tokens.h5"), ("tokenizer", "tokenizer.json"),
                   ("timing", "timing.parquet"), ("examples", "examples.parquet"))}  # fmt: skip
        made = tmp_path / "results" / "tables" / "block1" / f"{output}.parquet"
        values = {
            "layer": 1,
            "explain": {"endpoint": stub.endpoint, "model": "tiny", "parallel": 2, "retries": 2, **explain},
        }
        return Job("explanations", inputs, {"table": (made,)}, values, 1, {"settings": values})

    return job


def table_of(job):
    explanations(job)
    return read_table(job.output("table")).set_index("feature")


def test_every_feature_is_explained_judged_and_detected(study, stub):
    table = table_of(study())
    assert table["explanation"].tolist() == [f"fires on {letter} always" for letter in "abcdef"]
    assert (table["status"] == "explained").all()
    assert (table["complexity_llm"] == 1).all()
    assert (table["consistency_llm"] == 5).all()
    assert (table["detection_score"] == 1).all()  # the stub knows the truth
    assert (table["n_held_out"] == 8).all()
    assert (table["llm_name"] == "tiny").all()
    assert {path for path, _ in stub.requests} == {"/v1/chat/completions"}
    assert len(stub.requests) == 2 * FEATURES
    assert stub.keys == [None] * 2 * FEATURES


def test_a_rerun_asks_nothing_and_gives_the_same_bytes(study, stub):
    first, again = study("one"), study("two")
    explanations(first)
    asked = len(stub.requests)
    again = dataclasses.replace(again, core=first.core)
    explanations(again)
    assert len(stub.requests) == asked
    assert first.output("table").read_bytes() == again.output("table").read_bytes()


def test_another_model_or_temperature_is_asked_anew_and_a_changed_cache_too(study, stub):
    explanations(study(held_out=0))
    for changed in ({"model": "other"}, {"temperature": 0.5}):
        before = len(stub.requests)
        explanations(study(held_out=0, **changed))
        assert len(stub.requests) == before + FEATURES
    cache = study().output("table").parents[2] / "explanations" / "cache"
    files = sorted(cache.glob("*.json"))
    assert len(files) == 3 * FEATURES
    assert all(is_answer(path) for path in files)
    kept = json.loads(files[0].read_text())
    files[0].write_text(json.dumps({**kept, "request": {**kept["request"], "model": "forged"}}))
    assert not is_answer(files[0])
    before = len(stub.requests)
    for changed in ({}, {"model": "other"}, {"temperature": 0.5}):
        explanations(study(held_out=0, **changed))
    assert len(stub.requests) == before + 1


@pytest.mark.parametrize(
    "fault", [429, 500, 503, ("say", "no idea"), ("say", '{"explanation": "x", "complexity": 9, "consistency": 1}'),
              ("body", "<html>"), ("body", '{"choices": []}'), ("wait", 0.6)], ids=str
)  # fmt: skip
def test_a_passing_fault_is_tried_again(study, stub, fault):
    stub.faults = [fault]
    table = table_of(study(held_out=0, timeout=0.3, parallel=1))
    assert (table["status"] == "explained").all()
    assert len(stub.requests) == FEATURES + 1


@pytest.mark.parametrize("fault, reason", [(("say", "no idea"), "holds no JSON object (after 3 tries)"),
                                           (("say", "{broken}"), "is not JSON"), (500, "status 500 (after 3 tries)"),
                                           (400, "status 400: no, not with")])  # fmt: skip
def test_a_lasting_fault_is_a_failed_row_with_its_reason_and_the_others_go_on(study, stub, fault, reason):
    stub.always = {"⟦c⟧": fault}
    shown_c = table_of(study(held_out=0, silent=0))
    assert shown_c.loc[2, "status"] == "failed"
    assert reason in shown_c.loc[2, "reason"]
    assert shown_c.loc[2, "explanation"] == ""
    assert np.isnan(shown_c.loc[2, "complexity_llm"])
    assert (shown_c["status"] == "failed").sum() == 1
    assert (shown_c.drop(index=2)["reason"] == "").all()


def test_when_nothing_comes_back_the_step_stops_with_the_first_reason(study, stub):
    stub.always = {"": 500}
    with pytest.raises(ValueError, match="no feature was explained; first reason: status 500"):
        explanations(study(retries=0))
    with pytest.raises(ValueError, match="cannot be reached"):
        explanations(study(endpoint="http://127.0.0.1:9/v1", retries=0))


@pytest.mark.parametrize("fault", [None, 401])
def test_the_key_is_sent_and_never_written(study, stub, fault, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MY_LLM_KEY", SECRET)
    stub.always = {
        "⟦c⟧": fault,
        "⟦d⟧": ("say", "no idea"),
    }  # a refusal that repeats the key, and retries that are logged
    with caplog.at_level(logging.DEBUG):
        table = table_of(study(api_key_env="MY_LLM_KEY", silent=0))
    assert set(stub.keys) == {f"Bearer {SECRET}"}
    if fault:
        assert table.loc[2, "reason"] == "status 401: no, not with Bearer ***"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > FEATURES
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in table.to_csv()
    assert SECRET not in caplog.text
    assert SECRET not in repr(chat_service.ChatService("http://x", SECRET))


def test_a_key_that_is_not_there_is_named_by_its_variable(study, monkeypatch):
    monkeypatch.delenv("MY_LLM_KEY", raising=False)
    with pytest.raises(ValueError, match=r"explain\.api_key_env: the environment variable MY_LLM_KEY is not set"):
        explanations(study(api_key_env="MY_LLM_KEY"))


def test_without_an_endpoint_nothing_is_asked(study, stub):
    with pytest.raises(ValueError, match=r"explain\.endpoint: empty"):
        explanations(study(endpoint=""))
    assert stub.requests == []
    assert Study().explain.endpoint == ""


def test_only_the_step_explanations_knows_the_service():
    users = []
    for file in Path("workflow/snapcoder").rglob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
        users += [file.stem for node in nodes if node.module == "snapcoder.chat_service"]
    assert users == ["explanations"]


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"endpoint": "localhost:8000"}, "explain.endpoint: is not an http"),
        ({"endpoint": "https://me:pw@host/v1", "model": "m"}, "explain.endpoint: holds a user"),
        ({"endpoint": "https://host/v1?key=1", "model": "m"}, "explain.endpoint: holds a user"),
        ({"endpoint": "https://host/v1"}, "explain.model: empty"),
        (
            {"endpoint": "https://host/v1", "model": "m", "api_key_env": "sk-123"},
            "explain.api_key_env: is not the name",
        ),
    ],
)
def test_a_wrong_service_is_refused_in_one_line_that_repeats_no_secret(wrong, said):
    with pytest.raises(StudyError, match=said) as error:
        load_study({"explain": wrong})
    assert not any(part in str(error.value) for part in ("pw", "key=1", "sk-123"))
    assert list(explain_problems(ExplainSettings())) == []


def test_features_are_drawn_from_each_onset_in_turn():
    timing = pd.DataFrame(
        {"feature": range(12), "class": ["dead"] + ["emergent"] * 11, "onset_hi": [4] * 8 + [8, 8, 16, np.nan]}
    )
    examples = pd.DataFrame({"feature": range(11)})
    drawn = sampled_features(timing, examples, most=4, rng=np.random.default_rng(0))
    onsets = timing.set_index("feature").loc[drawn, "onset_hi"].value_counts().to_dict()
    assert onsets == {4: 2, 8: 1, 16: 1}
    assert sampled_features(timing, examples, most=0, rng=np.random.default_rng(0)) == list(range(1, 11))


def example_rows(n_top):
    return pd.DataFrame(
        [
            {"kind": "top", "rank": rank, "act": 10.0 - rank, "tokens": ["x", f"top{rank}", "y"], "focus": 1}
            for rank in range(n_top)
        ]
        + [{"kind": "quantile", "rank": 0, "act": 1.0, "tokens": ["x", "low", "y"], "focus": 1}]
    )


def test_held_back_contexts_are_never_shown():
    silent = [f"⟦no{i}⟧" for i in range(6)]
    case = make_case(3, example_rows(6), silent, top=9, quantile=2, held_out=2, rng=np.random.default_rng(0))
    assert sum(case.active) == 2
    assert len(case.held_out) == 4
    assert [text for text, on in zip(case.held_out, case.active, strict=True) if not on] == [
        text for text in case.held_out if "no" in text
    ]
    asked = explain_messages(case)[-1]["content"]
    assert not any(text in asked for text in case.held_out)
    assert asked.splitlines()[:2] == ["[9] x⟦top0⟧y", "[8] x⟦top1⟧y"]
    told = detect_messages(case, "fires")[-1]["content"]
    assert all(text in told for text in case.held_out)
    assert "[9]" not in told


def test_with_too_few_examples_nothing_is_held_back():
    case = make_case(3, example_rows(1), [], top=9, quantile=2, held_out=2, rng=np.random.default_rng(0))
    assert (case.held_out, case.active) == ((), ())
    assert len(case.shown) == 2


def test_a_context_is_marked_and_stays_on_one_line():
    assert marked(["a", "\n", "b", "c"], 2) == "a⏎⟦b⟧c"


@given(st.lists(st.booleans(), min_size=1, max_size=5), st.lists(st.booleans(), min_size=1, max_size=5))
def test_detection_is_scored_by_balanced_accuracy(on, off):
    score = balanced_accuracy([*on, *off], [True] * len(on) + [False] * len(off))
    assert score == pytest.approx((sum(on) / len(on) + 1 - sum(off) / len(off)) / 2)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text):
    for read in (read_judgement, lambda said: read_detection(said, n=2)):
        said = ""
        try:
            read(text)
        except ValueError as error:
            said = str(error)
        assert "\n" not in said


@pytest.mark.parametrize("value", ["true", "0", "6", "2.5", '"3"', "null", "[]"])
def test_levels_other_than_one_to_five_are_refused(value):
    with pytest.raises(ValueError, match="complexity is not a whole number"):
        read_judgement('{"explanation": "x", "consistency": 1, "complexity": ' + value + "}")
