"""The steps of this room, one after the other, on a tiny study: files in, files out."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from planted_tasks import N_FEATURES, STEPS, VOCAB, make_dictionary
from tokenizers import Tokenizer, models, pre_tokenizers

from snapcoder.job import Job
from snapcoder.language_model import load
from snapcoder.ngram_fitting import fit_ngrams
from snapcoder.steps.ablation import ablation
from snapcoder.steps.activations import activations
from snapcoder.steps.attribution import attribution
from snapcoder.steps.attribution_tables import attribution_tables
from snapcoder.steps.behaviour import behaviour
from snapcoder.steps.cloze import cloze
from snapcoder.steps.codes import codes
from snapcoder.steps.downstream_tables import downstream_tables
from snapcoder.steps.ngram_text import ngram_text
from snapcoder.steps.prompts import prompts
from snapcoder.steps.reconstruction_loss import reconstruction_loss
from snapcoder.steps.task_performance import task_performance
from snapcoder.steps.tasks import tasks
from snapcoder.steps.token_classes import token_classes
from snapcoder.storage.activations import read_rows
from snapcoder.storage.dictionaries import write_dictionary
from snapcoder.storage.json_file import write_json
from snapcoder.storage.ngram_text import read_ngram_text
from snapcoder.storage.ngrams import write_ngrams
from snapcoder.storage.prompts import PromptError
from snapcoder.storage.tables import read_table
from snapcoder.storage.task_examples import read_examples
from snapcoder.storage.tokens import TokenTable, read_tokens, write_tokens
from snapcoder.tasks.cloze import BEYOND, WITHIN

SETTINGS = {
    "tasks": {
        "max_examples": 30, "min_examples": 10, "prefix_tokens": 6, "attribution_examples": 6, "ig_steps": 8,
        "top_features": 5, "k_grid": [0, 1, 4], "random_draws": 2, "bootstrap": 40, "seed": 0,
        "cloze_examples": 20, "cloze_contexts": 500,
    },
    "activations": {"tokens": 600, "heldout_tokens": 300},
    "evaluation": {"sequences": 10, "bootstrap": 40},
    "behaviour": {"sequences": 8, "bootstrap": 20, "batch_size": 4, "text_sequences": 6, "seed": 0},
}  # fmt: skip
WORDS = [f"w{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(VOCAB - 3)]


@dataclasses.dataclass
class Study:
    root: object

    def run(self, function, inputs, outputs, **values):
        def named(paths):
            return {
                name: tuple(
                    self.root / path for path in (paths[name] if isinstance(paths[name], list) else [paths[name]])
                )
                for name in paths
            }

        settings = {**SETTINGS, **values}
        function(Job(function.__name__, named(inputs), named(outputs), settings, 1, {"step": function.__name__}))

    def caches(self):
        for step in STEPS:
            inputs = {"facts": f"step{step}/snapshot.json", "tokens": "tokens.h5"}
            self.run(activations, inputs, {"cache": f"a{step}.h5"}, layer=1, step=step)
        inputs = {"dictionary": "dictionary.safetensors", "caches": [f"a{step}.h5" for step in STEPS]}
        self.run(codes, inputs, {"codes": "codes.h5"}, layer=1)

    def everything(self):
        self.run(
            tasks,
            {"tokens": "tokens.h5", "tokenizer": "tokenizer.json", "files": ["known.jsonl"]},
            {"examples": "text.jsonl", "table": "text.parquet"},
        )
        self.run(
            cloze,
            {
                "examples": "text.jsonl",
                "table": "text.parquet",
                "tokens": "tokens.h5",
                "tokenizer": "tokenizer.json",
                "ngrams": "ngrams.h5",
                "facts": f"step{STEPS[-1]}/snapshot.json",
            },
            {"examples": "examples.jsonl", "table": "tasks.parquet"},
        )
        text = {"tokens": "tokens.h5", "ngrams": "ngrams.h5"}
        self.run(ngram_text, text, {"text": "ngram_text.h5"})
        for step in STEPS:
            model = {"facts": f"step{step}/snapshot.json", "tasks": "examples.jsonl"}
            self.run(
                behaviour,
                {**model, **text, "tokenizer": "tokenizer.json", "text": "ngram_text.h5"},
                {
                    "table": f"b{step}.parquet",
                    "draws": f"d{step}.parquet",
                    "classes": f"c{step}.parquet",
                    "tasks": f"t{step}.parquet",
                },
                step=step,
            )
            self.run(prompts, model, {"prompts": f"p{step}.h5"}, layer=1, step=step)
        self.run(
            token_classes,
            {"sums": [f"c{step}.parquet" for step in STEPS]},
            {name: f"token_{name}.parquet" for name in ("losses", "classes", "contrasts")},
        )
        self.run(
            task_performance,
            {"examples": [f"t{step}.parquet" for step in STEPS], "tasks": "tasks.parquet"},
            {"table": "performance.parquet"},
        )
        for step in STEPS:
            self.attribution(step)
            self.ablation(step)
        self.run(
            attribution_tables,
            {name: [f"{name}{step}.parquet" for step in STEPS] for name in ("attribution", "quality", "curves")},
            {name: f"{name}.parquet" for name in ("attribution", "quality", "curves")},
        )
        for step in STEPS:
            self.reconstruction(step)
        self.run(
            downstream_tables,
            {
                "losses": [f"losses{step}.parquet" for step in STEPS],
                "tasks": [f"kept{step}.parquet" for step in STEPS],
                "performance": "performance.parquet",
                "harness": [],
            },
            {"losses": "losses.parquet", "tasks": "kept.parquet", "scores": "downstream.parquet"},
            layer=1,
        )

    def reconstruction(self, step):
        self.run(
            reconstruction_loss,
            {
                "facts": f"step{step}/snapshot.json",
                "tokens": "tokens.h5",
                "cache": f"a{step}.h5",
                "codes": "codes.h5",
                "own_codes": [],
                "tasks": "examples.jsonl",
                "prompts": [f"p{base}.h5" for base in STEPS],
                "own": f"p{step}.h5",
                "dictionary": "dictionary.safetensors",
                "extension": [],
            },
            {"losses": f"losses{step}.parquet", "tasks": f"kept{step}.parquet"},
            layer=1,
            step=step,
        )

    def attribution(self, step):
        self.run(
            attribution,
            {
                "facts": f"step{step}/snapshot.json",
                "tasks": "examples.jsonl",
                "examples": f"t{step}.parquet",
                "table": "tasks.parquet",
                "prompts": [f"p{base}.h5" for base in STEPS],
                "own": f"p{step}.h5",
                "dictionary": "dictionary.safetensors",
                "extension": [],
            },
            {name: f"{name}{step}.parquet" for name in ("attribution", "quality")},
            layer=1,
            step=step,
        )

    def ablation(self, step):
        self.run(
            ablation,
            {
                "facts": f"step{step}/snapshot.json",
                "tasks": "examples.jsonl",
                "attribution": f"attribution{step}.parquet",
                "prompts": [f"p{base}.h5" for base in STEPS],
                "own": f"p{step}.h5",
                "dictionary": "dictionary.safetensors",
                "extension": [],
            },
            {"curves": f"curves{step}.parquet"},
            layer=1,
            step=step,
        )


@pytest.fixture(scope="module")
def study(tmp_path_factory, model):
    root = tmp_path_factory.mktemp("study")
    vocabulary = {"<|endoftext|>": 0, "Ġhe": 1, "Ġthey": 2} | {f"Ġ{word}": 3 + n for n, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.save(str(root / "tokenizer.json"))
    rng = np.random.default_rng(0)
    tokens = rng.choice(VOCAB, size=(60, 24), p=[0, 0.1, 0.1, *[0.8 / (VOCAB - 3)] * (VOCAB - 3)]).astype(np.uint16)
    for position in range(6, 24):  # some of it is what the model would say, so that it knows some
        with torch.no_grad():
            logits = model(torch.from_numpy(tokens[:, position - 6 : position].astype(np.int64))).logits[:, -1, 1:]
        tokens[:, position] = np.where(rng.random(60) < 0.4, logits.argmax(dim=1).numpy() + 1, tokens[:, position])
    doc = np.repeat(np.arange(60), 24).reshape(60, 24).astype(np.int32)
    table = TokenTable(tokens, doc, (np.arange(60) % 2).astype(np.uint8), VOCAB, 0, "x")
    write_tokens(root / "tokens.h5", table, {})
    train = table.sequences(0)
    write_ngrams(root / "ngrams.h5", fit_ngrams(tokens[train], doc[train], vocab_size=VOCAB, fit_share=0.3), {})
    for step in STEPS:
        model.save_pretrained(root / f"step{step}")
        write_json(
            root / f"step{step}/snapshot.json", {"step": step, "folder": ".", "d_model": model.config.hidden_size}, {}
        )
    (root / "known.jsonl").write_text(known_task(model, rng))
    dictionary = make_dictionary(rng)
    write_dictionary(root / "dictionary.safetensors", dictionary, {})
    study = Study(root)
    study.caches()
    study.everything()
    return study


def known_task(model, rng):
    """A task that the random model can do, because its answers are what the model says; and two invalid lines."""
    lines = []
    while len(lines) < 24:
        prefixes = rng.integers(3, VOCAB, size=(2, 6))
        with torch.no_grad():
            answers = model(torch.from_numpy(prefixes)).logits[:, -1, 3:].argmax(dim=1).numpy() + 3
        if answers[0] != answers[1]:
            texts = [" ".join(WORDS[token - 3] for token in prefix) for prefix in prefixes]
            a, b = (f" {WORDS[answer - 3]}" for answer in answers)
            lines.append({"clean_prefix": texts[0], "patch_prefix": texts[1], "clean_answer": a, "patch_answer": b})
    lines.append({**lines[0], "clean_answer": lines[0]["clean_answer"] + f" {WORDS[1]}"})
    lines.append({**lines[0], "patch_prefix": WORDS[1]})
    return "".join(json.dumps({**line, "case": "known"}) + "\n" for line in lines)


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


def test_a_task_done_by_the_model_is_acquired_attributed_and_ablated(study):
    performance = read_table(study.root / "performance.parquet")
    known = performance[performance["task"] == "known"]
    assert known["accuracy"].tolist() == [1.0] * len(STEPS)
    assert known["acquired"].all()
    quality = read_table(study.root / "quality.parquet").set_index(["task", "step"])
    assert len(quality) == len(performance)
    for step in STEPS:
        row = quality.loc[("known", step)]
        assert row["status"] == "attributed"
        assert row["completeness_gap"] < 0.1
        assert row["n_examples"] == 6
    others = quality[quality["status"] == "not_acquired"]
    assert others["reason"].str.len().min() > 10
    attributed = read_table(study.root / "attribution.parquet")
    assert set(attributed["task"]) == set(quality[quality["status"] == "attributed"].reset_index()["task"])
    assert (attributed.groupby(["task", "step"])["feature"].min() == -1).all()


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


def test_curves_end_where_they_must(study):
    curves = read_table(study.root / "curves.parquet")
    curves = curves[curves["task"] == "known"]
    assert set(curves["k"]) == {0, 1, 4, N_FEATURES}
    assert set(zip(curves["ranking"], curves["draw"], strict=True)) == {
        ("attr_here", 0), ("norm", 0), ("random", 0), ("random", 1),
    }  # fmt: skip
    for _, here in curves.groupby("step"):
        at = here.groupby(["mode", "k"])["metric"]
        spread, ends = at.max() - at.min(), at.first()
        assert spread[("disrupt", 0)] == spread[("restore", N_FEATURES)] == 0
        assert ends[("disrupt", 0)] == ends[("restore", N_FEATURES)]
        assert ends[("restore", 0)] == ends[("disrupt", N_FEATURES)]


def test_running_again_gives_the_same_bytes(study):
    names = ["examples.jsonl", "tasks.parquet", "b8.parquet", "t8.parquet", "p8.h5", "performance.parquet"]
    names += [f"{name}8.parquet" for name in ("attribution", "quality", "curves", "losses", "kept")]
    names += ["text.jsonl", "downstream.parquet"]
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
    names = {"examples": "none.jsonl", "table": "none.parquet"}
    Study(tmp_path).run(cloze, {"examples": "text.jsonl", "table": "text.parquet"}, names, tasks=without)
    assert (tmp_path / "none.jsonl").read_bytes() == (study.root / "text.jsonl").read_bytes()
    assert read_table(tmp_path / "none.parquet").equals(read_table(study.root / "text.parquet"))


def test_the_last_snapshot_is_right_on_every_cloze_example_by_selection(study):
    performance = read_table(study.root / "performance.parquet").set_index(["task", "step"])
    scored = [task for task in (BEYOND, WITHIN) if performance.loc[(task, STEPS[-1]), "status"] == "scored"]
    assert scored
    for task in scored:
        assert performance.loc[(task, STEPS[-1]), "accuracy"] == 1


def test_losses_through_the_dictionary_start_from_the_models_own(study):
    losses = read_table(study.root / "losses.parquet")
    assert set(losses["step"]) == set(STEPS)
    assert (losses.groupby("step")["activation"].nunique() == 4).all()
    clean = losses[losses["activation"] == "clean"].set_index("step")
    assert (clean["kl"] == 0).all()
    with torch.no_grad():
        model = load(study.root / "step8")
        table = read_tokens(study.root / "tokens.h5")
        rows = read_rows(study.root / "a8.h5")
        held = np.unique(rows.sequence[rows.split == 1])
        assert len(held) > 10  # more than asked for: a choice of them was read
        logits = model(torch.from_numpy(table.tokens[held].astype(np.int64))).logits.log_softmax(dim=-1)
    every = -logits[:, 1:-1].gather(2, torch.from_numpy(table.tokens[held, 2:].astype(np.int64))[..., None])
    assert clean.loc[8, "loss"] == pytest.approx(float(every.mean()), abs=0.3)
    assert clean["n_documents"].tolist() == [10] * len(STEPS)


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
