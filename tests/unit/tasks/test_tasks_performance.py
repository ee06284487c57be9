import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from planted_tasks import make_examples

from snapcoder.storage.tables import read_table, write_table
from snapcoder.storage.task_examples import cluster_ids, task_lines
from snapcoder.tables.tasks import TASK_EXAMPLES, TASK_PERFORMANCE, TASK_SPLITS
from snapcoder.tasks.intervals import bootstrap_weights, mean_interval
from snapcoder.tasks.performance import split_rows, task_performance
from snapcoder.tasks.scoring import batches_by_length, score_examples
from snapcoder.tasks.selection import split_halves


def scored(logit_diffs, task="t", step=0, cluster=None):
    n = len(logit_diffs)
    probability = 1 / (1 + np.exp(-np.asarray(logit_diffs, dtype=float)))
    return pd.DataFrame(
        {
            "step": step,
            "task": task,
            "example": np.arange(n),
            "cluster": np.arange(n) if cluster is None else cluster,
            "logit_diff": logit_diffs,
            "prob_correct": probability,
            "loss_answer": -np.log(probability),
        }
    )


def performance(frame, tasks=(("t", "ready"),)):
    rows = pd.DataFrame(tasks, columns=["task", "status"]).assign(attributable=True)
    return task_performance(frame, rows, bootstrap=300, seed=0)


def test_scores_equal_one_full_forward_pass_per_example(model):
    examples = make_examples("t", 11, np.random.default_rng(3), lengths=(3, 8, 5))
    frame = score_examples(model, examples, step=7, batch_size=2)
    assert frame["example"].tolist() == list(range(11))
    for row, example in zip(frame.itertuples(), examples, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([example.clean_tokens])).logits[0, -1].double()
        expected = float(logits[example.clean_token] - logits[example.patch_token])
        assert row.logit_diff == pytest.approx(expected, abs=1e-4)
        assert row.prob_correct == pytest.approx(float(logits.softmax(0)[example.clean_token]), abs=1e-6)
        assert row.loss_answer == pytest.approx(-np.log(row.prob_correct), abs=1e-4)


def test_scores_do_not_depend_on_the_batch_and_fit_their_table(model, examples, tmp_path):
    small = score_examples(model, examples, step=0, batch_size=1)
    large = score_examples(model, examples, step=0, batch_size=64)
    np.testing.assert_allclose(small["logit_diff"], large["logit_diff"], atol=1e-5)
    write_table(tmp_path / "scores.parquet", large, TASK_EXAMPLES, {})
    assert len(read_table(tmp_path / "scores.parquet")) == len(examples)


def test_every_example_is_in_exactly_one_batch_of_its_length(examples):
    batches = list(batches_by_length(examples, 4))
    assert sorted(index for batch in batches for index in batch) == list(range(len(examples)))
    for batch in batches:
        assert len({len(examples[index].clean_tokens) for index in batch}) == 1
        assert len(batch) <= 4


def test_a_clear_ability_is_acquired_and_guessing_is_not():
    rng = np.random.default_rng(0)
    good, guess = rng.normal(2.0, 1.0, size=120), rng.normal(0.0, 1.0, size=120)
    rows = performance(pd.concat([scored(good, step=8), scored(guess, step=0)]))
    assert rows["step"].tolist() == [0, 8]
    assert rows["acquired"].tolist() == [False, True]
    assert rows["accuracy"].tolist() == [np.mean(guess > 0), np.mean(good > 0)]
    assert (rows["accuracy_ci_lo"] <= rows["accuracy"]).all()
    assert (rows["accuracy"] <= rows["accuracy_ci_hi"]).all()


def test_being_right_often_by_a_little_and_wrong_rarely_by_a_lot_is_not_acquired():
    rows = performance(scored(np.array([0.1] * 90 + [-5.0] * 10)))
    assert rows["accuracy_ci_lo"][0] > 0.5
    assert not rows["acquired"][0]


def test_a_dropped_task_keeps_a_row_per_snapshot_and_all_rows_fit_their_table(tmp_path):
    frame = pd.concat([scored([1.0] * 10, step=step) for step in (0, 4)])
    rows = performance(frame, tasks=(("t", "ready"), ("few", "dropped")))
    write_table(tmp_path / "performance.parquet", rows, TASK_PERFORMANCE, {})
    table = read_table(tmp_path / "performance.parquet")
    dropped = table[table["task"] == "few"]
    assert dropped["step"].tolist() == [0, 4]
    assert dropped["accuracy"].isna().all()
    assert not dropped["acquired"].any()
    assert table.loc[table["task"] == "t", "accuracy_ci_hi"].tolist() == [1.0, 1.0]


def test_a_task_without_scores_at_a_snapshot_is_an_error_that_names_both():
    with pytest.raises(ValueError, match="task other was not scored at step 0"):
        performance(scored([1.0, 2.0]), tasks=(("t", "ready"), ("other", "ready")))


def test_snapshots_that_were_scored_on_other_examples_are_refused():
    second = scored([1.0, 2.0], step=4).assign(example=[0, 7])
    with pytest.raises(ValueError, match="task t: snapshots were scored on other examples"):
        performance(pd.concat([scored([1.0, 2.0]), second]))


def test_the_table_of_halves_names_the_lines_that_attribution_takes(tmp_path):
    rng = np.random.default_rng(0)
    examples = [dataclasses.replace(e, cluster=str(n // 3)) for n, e in enumerate(make_examples("one", 30, rng))]
    sentences = [
        dataclasses.replace(e, task="whole", scoring="sequence", clean_start=1, patch_start=1) for e in examples[:5]
    ]
    mixed = [*examples, *sentences, *make_examples("two", 9, rng)]
    frame = pd.concat([scored(np.ones(n), task=task) for task, n in (("one", 30), ("whole", 5), ("two", 9))])
    frame = frame.assign(example=np.arange(44), cluster=cluster_ids(mixed))
    tasks = pd.DataFrame({"task": ["one", "two", "whole"], "attributable": [True, True, False]})
    rows = split_rows(frame, tasks, largest=6)
    write_table(tmp_path / "splits.parquet", rows, TASK_SPLITS, {})
    table = read_table(tmp_path / "splits.parquet")
    halves = split_halves(task_lines(mixed), cluster_ids(mixed), largest=6)
    for task, (ranking, evaluation) in halves.items():
        of_task = table[table["task"] == task]
        assert of_task.loc[of_task["split"] == "ranking", "example"].tolist() == ranking.tolist()
        assert of_task.loc[of_task["split"] == "evaluation", "example"].tolist() == evaluation.tolist()
    assert set(table.loc[table["task"] == "whole", "split"]) == {"unused"}
    assert table["split"].value_counts().to_dict() == {"unused": 24, "ranking": 10, "evaluation": 10}
    shared = table[table["split"] != "unused"].groupby(["task", "cluster"])["split"].nunique()
    assert (shared == 1).all(), "no cluster in both halves"


def test_the_bootstrap_interval_covers_the_normal_theory_interval():
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    weights = bootstrap_weights(np.arange(400), draws=2000, rng=np.random.default_rng(0))
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)
    low, high = mean_interval(values, weights)
    half = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_repeating_every_example_ten_times_makes_no_interval_narrower():
    values = np.random.default_rng(2).normal(0.3, 1.0, size=40)
    once = performance(scored(values))
    again = performance(scored(np.repeat(values, 10), cluster=np.repeat(np.arange(40), 10)))
    naive = performance(scored(np.repeat(values, 10)))
    for column in ("accuracy_ci_lo", "accuracy_ci_hi", "logit_diff_ci_lo", "logit_diff_ci_hi"):
        assert again[column][0] == pytest.approx(once[column][0])
    assert naive["accuracy_ci_lo"][0] > again["accuracy_ci_lo"][0]
