import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_tasks import make_examples

from snapcoder.storage.tables import read_table, write_table
from snapcoder.storage.task_examples import read_examples, task_lines, write_examples
from snapcoder.tables.tasks import TASK_REJECTIONS
from snapcoder.tasks.rejections import REASONS, rejection_rows
from snapcoder.tasks.selection import TaskDraft, select_tasks, split_halves, with_texts


def draft(task, n, note=""):
    examples = make_examples(task, n, np.random.default_rng(len(task)))
    return TaskDraft(task, "file", examples, rejected={"duplicate": 2, "same_answer": 1}, note=note)


def test_a_task_with_too_few_examples_is_dropped_with_its_reason():
    examples, rows = select_tasks(
        [draft("big", 9), draft("small", 3, "no words")], max_examples=8, min_examples=5, seed=0
    )
    assert {example.task for example in examples} == {"big"}
    big, small = rows.to_dict("records")
    assert (big["n_examples"], big["status"], big["reason"]) == (8, "ready", "")
    assert (small["n_examples"], small["status"], small["n_rejected"]) == (3, "dropped", 3)
    assert (big["attributable"], big["n_clusters"]) == (True, 8)
    assert small["reason"] == "3 independent among 3 valid examples, tasks.min_examples is 5; no words"


def test_the_cap_is_random_but_reproducible_and_another_task_changes_nothing():
    drafts = [draft("one", 30), draft("two", 30)]
    both, _ = select_tasks(drafts, max_examples=10, min_examples=5, seed=0)
    alone, _ = select_tasks(drafts[1:], max_examples=10, min_examples=5, seed=0)
    other, _ = select_tasks(drafts[1:], max_examples=10, min_examples=5, seed=1)
    assert [example for example in both if example.task == "two"] == alone
    assert alone != other
    assert set(alone) <= set(drafts[1].examples)


def test_two_tasks_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two tasks are called same"):
        select_tasks([draft("same", 5), draft("same", 6)], max_examples=5, min_examples=1, seed=0)


def test_many_examples_of_few_clusters_are_too_few():
    many = [dataclasses.replace(e, cluster=str(n % 4)) for n, e in enumerate(draft("repeated", 80).examples)]
    _, rows = select_tasks([TaskDraft("repeated", "template", many)], max_examples=200, min_examples=5, seed=0)
    assert rows["status"].tolist() == ["dropped"]
    assert rows["reason"][0].startswith("4 independent among 80 valid examples")


def test_every_refusal_is_a_row_and_the_counts_add_up(tmp_path):
    drafts = [draft("one", 9), TaskDraft("two", "file", [], {"no_partner": 7, "duplicate": 0})]
    _, tasks = select_tasks(drafts, max_examples=9, min_examples=1, seed=0)
    rows = rejection_rows((one.task, one.rejected) for one in drafts)
    write_table(tmp_path / "rejections.parquet", rows, TASK_REJECTIONS, {})
    table = read_table(tmp_path / "rejections.parquet")
    assert table.values.tolist() == [["one", "duplicate", 2], ["one", "same_answer", 1], ["two", "no_partner", 7]]
    assert table.groupby("task")["n"].sum().to_dict() == tasks.set_index("task")["n_rejected"].to_dict()
    (reason,) = (column for column in TASK_REJECTIONS.columns if column.name == "reason")
    assert set(reason.categories) == set(REASONS)
    write_table(tmp_path / "empty.parquet", rejection_rows([]), TASK_REJECTIONS, {})
    assert read_table(tmp_path / "empty.parquet").empty


def test_halves_are_disjoint_equally_long_capped_and_within_their_task():
    lines = {"a": np.arange(0, 11), "b": np.arange(11, 15)}
    halves = split_halves(lines, np.arange(15), largest=4)
    assert [half.tolist() for half in halves["a"]] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert [half.tolist() for half in halves["b"]] == [[11, 13], [12, 14]]


@given(st.lists(st.integers(0, 6), min_size=4, max_size=40), st.integers(1, 12))
def test_no_cluster_is_in_both_halves(clusters, largest):
    ids = np.array(clusters)
    ranking, scoring = split_halves({"t": np.arange(len(ids))}, ids, largest=largest)["t"]
    assert len(ranking) == len(scoring) <= largest
    assert not set(ids[ranking]) & set(ids[scoring])


def test_examples_survive_the_file_and_a_broken_line_is_named(tmp_path):
    examples = [
        dataclasses.replace(example, case="ü/\u2028") for example in make_examples("t", 4, np.random.default_rng(0))
    ]
    path = tmp_path / "examples.jsonl"
    write_examples(path, examples)
    assert read_examples(path) == examples
    assert task_lines(examples)["t"].tolist() == [0, 1, 2, 3]
    path.write_text(path.read_text().replace('"task":"t"', '"name":"t"', 1))
    with pytest.raises(ValueError, match="line 1 is not a task example"):
        read_examples(path)


def test_texts_are_decoded_from_the_tokens():
    (example,) = make_examples("t", 1, np.random.default_rng(0))
    filled = with_texts(example, lambda tokens: "-".join(map(str, tokens)))
    assert filled.clean_prefix == "-".join(map(str, example.clean_tokens))
    assert filled.patch_answer == str(example.patch_token)
