"""The external harness: with the real package where it is installed, else with a stand-in of its documented results."""

import importlib.util
import json
import math
import sys
import types

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from snapcoder.job import Job
from snapcoder.steps.harness import harness
from snapcoder.storage.json_file import write_json
from snapcoder.storage.tables import read_table
from snapcoder.study.load import StudyError, load_study
from snapcoder.study.settings import step_settings
from snapcoder.tasks.harness import harness_rows

INSTALLED = importlib.util.find_spec("lm_eval") is not None
RESULTS = {
    "results": {
        "blimp": {"alias": "blimp", "acc,none": 0.6, "acc_stderr,none": 0.02},
        "blimp_a": {"alias": " - a", "sample_len": 40, "acc,none": 0.55, "acc_stderr,none": 0.05},
        "gsm": {"alias": "gsm", "exact_match,strict": 0.0, "exact_match_stderr,strict": "N/A", "bypass,none": "N/A"},
    },
    "group_subtasks": {"blimp": ["blimp_a", "blimp_b"]},
    "versions": {"blimp_a": 1.0, "gsm": 3},
    "n-samples": {
        "blimp_a": {"original": 1000, "effective": 40},
        "blimp_b": {"original": 1000, "effective": 60},
        "gsm": {"original": 7},
    },
}
TASK = """
task: two_words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: ["{{{{right}}}}", "{{{{wrong}}}}"]
doc_to_target: 0
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""


def test_every_metric_is_a_row_with_its_error_and_its_number_of_questions():
    rows = harness_rows(RESULTS, step=8, harness_version="0.4").set_index(["task", "metric"])
    assert set(rows.index) == {("blimp", "acc"), ("blimp_a", "acc"), ("gsm", "exact_match,strict")}
    assert rows.loc[("blimp", "acc"), ["value", "se", "n"]].tolist() == [0.6, 0.02, 100]
    assert rows.loc[("blimp_a", "acc"), ["n", "task_version"]].tolist() == [40, "1.0"]
    assert math.isnan(rows.loc[("gsm", "exact_match,strict"), "se"])
    assert rows.loc[("gsm", "exact_match,strict"), "n"] == 7


@pytest.fixture
def snapshot(tmp_path, model):
    model.save_pretrained(tmp_path)
    write_json(tmp_path / "snapshot.json", {"step": 8, "folder": "."}, {})
    vocabulary = {"<|endoftext|>": 0} | {f"Ġ{word}": 1 + n for n, word in enumerate("abcdefghijklmnopqrstuvwxyz")}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def score(folder, tasks, include_path=None):
    settings = {"evaluation": {"harness": {"tasks": tasks, "include_path": include_path}}, "step": 8}
    inputs = {"facts": (folder / "snapshot.json",), "tokenizer": (folder / "tokenizer.json",)}
    outputs = {"table": (folder / "harness.parquet",)}
    harness(Job("harness", inputs, outputs, {**settings, "end_of_text": "<|endoftext|>"}, 1, {"step": "harness"}))
    return read_table(folder / "harness.parquet")


@pytest.mark.skipif(not INSTALLED, reason="needs lm-eval")
def test_the_real_harness_scores_a_task_of_ones_own(snapshot, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(snapshot / "cache"))
    folder = snapshot / "own"
    folder.mkdir()
    lines = [{"text": "a b c", "right": " d", "wrong": " e"}, {"text": "f g", "right": " e", "wrong": " d"}]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "two.yaml").write_text(TASK.format(data=folder / "data.jsonl"))
    rows = score(snapshot, ["two_words"], str(folder))
    assert rows[["task", "metric", "n"]].to_numpy().tolist() == [["two_words", "acc", 2]]
    assert rows["value"].item() in (0, 0.5, 1)
    with pytest.raises(ValueError, match="knows no task 'two_word'"):
        score(snapshot, ["two_word"], str(folder))


@pytest.fixture
def stand_in(monkeypatch):
    """Modules like those of lm-eval that remember what they were asked."""
    asked = {}

    class Manager:
        all_tasks = ("blimp", "gsm")

        def __init__(self, include_path):
            asked["include_path"] = include_path

    def simple_evaluate(**options):
        asked.update(options)
        print("a word on standard output")
        return RESULTS

    package = types.ModuleType("lm_eval")
    package.simple_evaluate, package.__version__ = simple_evaluate, "0.4.99"
    tasks, wrapper = types.ModuleType("lm_eval.tasks"), types.ModuleType("lm_eval.models.huggingface")
    tasks.TaskManager = Manager
    wrapper.HFLM = lambda **options: options
    modules = {"lm_eval": package, "lm_eval.tasks": tasks, "lm_eval.models": types.ModuleType("lm_eval.models")}
    for name, module in {**modules, "lm_eval.models.huggingface": wrapper}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return asked


def test_the_snapshot_is_scored_with_the_tokenizer_of_the_study(snapshot, stand_in, capsys):
    rows = score(snapshot, ["blimp", "gsm"], "own")
    assert len(rows) == 3
    assert set(rows["harness_version"]) == {"0.4.99"}
    assert set(rows["step"]) == {8}
    assert (stand_in["tasks"], stand_in["include_path"]) == (["blimp", "gsm"], "own")
    wrapped = stand_in["model"]
    assert wrapped["tokenizer"]("a b")["input_ids"] == [1, 2]
    assert wrapped["tokenizer"].eos_token_id == 0
    assert np.isfinite(wrapped["pretrained"].get_output_embeddings().weight.detach().numpy()).all()
    assert capsys.readouterr().out == ""


def test_an_unknown_task_is_named(snapshot, stand_in):
    with pytest.raises(ValueError, match=r"evaluation.harness.tasks: lm-eval 0.4.99 knows no task 'blmp'"):
        score(snapshot, ["blmp"])


def test_without_the_package_one_line_says_how_to_get_it(snapshot, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"pip install '\.\[lm-eval\]'") as caught:
        score(snapshot, ["blimp"])
    assert "\n" not in str(caught.value)


def test_a_study_names_no_task_and_the_step_gets_no_more_than_it_reads():
    assert load_study({}).evaluation.harness.tasks == ()
    with pytest.raises(StudyError, match=r"evaluation\.harness\.include_path: nowhere is no folder"):
        load_study({"evaluation": {"harness": {"tasks": ["blimp"], "include_path": "nowhere"}}})
    study = load_study({"evaluation": {"harness": {"tasks": ["blimp"]}, "sequences": 5}})
    settings = json.loads(step_settings(study, "harness", snapshot=8))
    assert set(settings) == {"evaluation", "step", "end_of_text"}
    assert set(settings["evaluation"]) == {"harness"}
    assert "harness" not in json.loads(step_settings(study, "reconstruction_loss", layer=0, snapshot=8))["evaluation"]
