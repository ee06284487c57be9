"""The steps that make, score and summarise tasks, on a tiny study: files in, files out."""

import pytest
from planted_tasks import STEPS
from tasks_study import ATTRIBUTED, SETTINGS, Study

from snapcoder.steps.cloze import cloze
from snapcoder.storage.ngram_text import read_ngram_text
from snapcoder.storage.prompts import PromptError, read_prompts
from snapcoder.storage.tables import read_table
from snapcoder.storage.task_examples import read_examples
from snapcoder.tasks.cloze import BEYOND, WITHIN


def test_whole_sentences_are_scored_at_every_snapshot_and_never_attributed(study):
    rows = read_table(study.root / "tasks.parquet").set_index("task")
    assert (rows.loc["judged", "status"], rows.loc["judged", "attributable"]) == ("ready", False)
    performance = read_table(study.root / "performance.parquet").set_index(["task", "step"]).loc["judged"]
    assert performance["accuracy"].tolist() == [1.0] * len(STEPS)
    assert performance["acquired"].all()
    quality = read_table(study.root / "quality.parquet").set_index(["task", "step"]).loc["judged"]
    assert set(quality["status"]) == {"not_attributable"}
    assert quality["reason"].str.contains("no patch prefix").all()
    assert "judged" not in set(read_table(study.root / "attribution.parquet")["task"])
    assert "judged" not in set(read_table(study.root / "curves.parquet")["task"])


def test_the_table_of_halves_is_what_prompts_were_captured_for(study):
    splits = read_table(study.root / "splits.parquet")
    used = splits.loc[splits["split"] != "unused", "example"]
    assert sorted(used) == read_prompts(study.root / "p8.h5").line.tolist()
    examples = read_examples(study.root / "examples.jsonl")
    assert [examples[line].task for line in splits["example"]] == splits["task"].tolist()
    assert set(splits.loc[splits["task"] == "judged", "split"]) == {"unused"}


def test_refusals_are_counted_by_reason(study):
    rejections = read_table(study.root / "rejections.parquet").set_index(["task", "reason"])["n"]
    assert rejections["known"].to_dict() == {"answer_not_one_token": 1, "lengths_differ": 1}
    rows = read_table(study.root / "tasks.parquet").set_index("task")["n_rejected"]
    totals = rejections.groupby("task").sum()
    assert totals.to_dict() == rows[rows > 0].to_dict()


def test_tasks_come_from_files_and_from_text_and_the_rest_is_dropped_with_a_reason(study):
    rows = read_table(study.root / "tasks.parquet").set_index("task")
    assert (rows.loc["known", "n_examples"], rows.loc["known", "n_rejected"]) == (24, 2)
    assert rows.loc["pronoun_number", "status"] == "ready"
    assert rows.loc["verb_number", "reason"].endswith("word pairs of single tokens: none")
    examples = read_examples(study.root / "examples.jsonl")
    assert {example.task for example in examples} == set(rows.index[rows["status"] == "ready"])
    mined = next(example for example in examples if example.task == "pronoun_number")
    assert len(mined.clean_tokens) == 6
    assert {mined.clean_answer, mined.patch_answer} == {"Ġhe", "Ġthey"}


def test_every_class_of_tokens_has_its_share_of_the_loss(study):
    behaviour = read_table(study.root / f"b{STEPS[0]}.parquet").set_index("metric")
    losses = read_table(study.root / "token_losses.parquet")
    first = losses[losses["step"] == STEPS[0]]
    for family in ("all", "form", "frequency", "repetition", "position"):
        part = first[first["family"] == family]
        assert part["n"].sum() == behaviour.n["loss"]
        assert (part["n"] * part["loss"]).sum() / part["n"].sum() == pytest.approx(behaviour.value["loss"])
        for order in (1, 2, 3):
            gap = (part["n"] * part[f"gap_h{order}"]).sum() / part["n"].sum()
            assert gap == pytest.approx(behaviour.value[f"gap_h{order}"])
    # every snapshot of this study has the same weights: nothing is learnt, so nothing has an age
    assert read_table(study.root / "token_classes.parquet")["aoa_step"].isna().all()
    assert behaviour.n["excess_on_bigram_text"] == 6 * (24 - 1) - excluded(study)


def excluded(study):
    """Sampled bigram tokens that follow an end of text, and so are not scored."""
    text = read_ngram_text(study.root / "ngram_text.h5")
    return int((text.doc[1, :, 1:] != text.doc[1, :, :-1]).sum())


def test_running_again_gives_the_same_bytes(study):
    names = ["examples.jsonl", "tasks.parquet", "rejections.parquet", "splits.parquet", "b8.parquet", "t8.parquet"]
    names += ["p8.h5", "performance.parquet", "text.jsonl", "downstream.parquet"]
    names += [f"{name}8.parquet" for name in (*ATTRIBUTED, "curves", "summary", "losses", "kept")]
    before = {name: (study.root / name).read_bytes() for name in names}
    study.everything()
    assert [name for name in names if (study.root / name).read_bytes() != before[name]] == []


def test_cloze_examples_come_behind_those_from_text_and_only_when_asked_for(study, tmp_path):
    text, everything = (read_examples(study.root / f"{name}.jsonl") for name in ("text", "examples"))
    assert everything[: len(text)] == text
    assert {example.kind for example in everything[len(text) :]} <= {"cloze"}
    rows = read_table(study.root / "tasks.parquet").set_index("task")
    assert set(rows.index) - set(read_table(study.root / "text.parquet")["task"]) == {BEYOND, WITHIN}
    for task in (BEYOND, WITHIN):
        n = sum(example.task == task for example in everything)
        status = rows.loc[task, "status"]
        assert n == (rows.loc[task, "n_examples"] if status == "ready" else 0)
        assert (rows.loc[task, "reason"] == "") == (status == "ready")
    for path in study.root.iterdir():
        (tmp_path / path.name).symlink_to(path)
    without = {**SETTINGS["tasks"], "cloze_examples": 0}
    names = {"examples": "none.jsonl", "table": "none.parquet", "rejections": "none_rejections.parquet"}
    inputs = {"examples": "text.jsonl", "table": "text.parquet", "rejections": "text_rejections.parquet"}
    Study(tmp_path).run(cloze, inputs, names, tasks=without)
    assert (tmp_path / "none.jsonl").read_bytes() == (study.root / "text.jsonl").read_bytes()
    assert read_table(tmp_path / "none.parquet").equals(read_table(study.root / "text.parquet"))


def test_the_last_snapshot_is_right_on_every_cloze_example_by_selection(study):
    performance = read_table(study.root / "performance.parquet").set_index(["task", "step"])
    scored = [task for task in (BEYOND, WITHIN) if performance.loc[(task, STEPS[-1]), "status"] == "scored"]
    assert scored
    for task in scored:
        assert performance.loc[(task, STEPS[-1]), "accuracy"] == 1


def test_every_score_is_in_the_long_table(study):
    scores = read_table(study.root / "downstream.parquet").set_index(["step", "source", "task", "metric"])["value"]
    performance = read_table(study.root / "performance.parquet").set_index(["task", "step"])
    kept = read_table(study.root / "kept.parquet").set_index(["task", "step"])
    losses = read_table(study.root / "losses.parquet").set_index(["activation", "step"])
    assert scores[8, "model", "known", "accuracy"] == performance.loc[("known", 8), "accuracy"]
    assert scores[8, "reconstruction", "known", "recovered"] == kept.loc[("known", 8), "recovered"]
    assert scores[8, "reconstruction", "text", "kl"] == losses.loc[("reconstructed", 8), "kl"]
    assert scores[8, "model", "text", "loss"] == losses.loc[("clean", 8), "loss"]
    dropped = set(performance.query("status == 'dropped'").reset_index()["task"])
    assert not dropped & set(scores.reset_index()["task"])
    n_scored = (performance["status"] == "scored").sum()
    assert len(scores) == 2 * n_scored + 3 * len(kept) + 5 * len(STEPS)


def test_prompts_of_other_examples_are_refused(study, tmp_path):
    for path in study.root.iterdir():
        (tmp_path / path.name).symlink_to(path)
    examples = (study.root / "examples.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "examples.jsonl").unlink()
    (tmp_path / "examples.jsonl").write_text("".join(examples[:-1]))
    with pytest.raises(PromptError, match="was captured on other task examples"):
        Study(tmp_path).attribution(8)
