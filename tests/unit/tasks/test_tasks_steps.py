"""The steps of this room, one after the other, on a tiny study: files in, files out."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from planted_tasks import D_MODEL, N_FEATURES, STEPS, VOCAB, make_dictionary
from tokenizers import Tokenizer, models, pre_tokenizers

from snapcoder.attribution.task_prompts import read_snapshot_prompts
from snapcoder.job import Job
from snapcoder.language_model import load, run_from
from snapcoder.ngram_fitting import fit_ngrams
from snapcoder.steps.ablation import ablation
from snapcoder.steps.ablation_tables import ablation_tables
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
from snapcoder.storage.activations import RowTable, read_rows, write_cache
from snapcoder.storage.dictionaries import write_dictionary
from snapcoder.storage.json_file import write_json
from snapcoder.storage.ngram_text import read_ngram_text
from snapcoder.storage.ngrams import write_ngrams
from snapcoder.storage.prompts import PromptError, read_prompts
from snapcoder.storage.tables import read_table, write_table
from snapcoder.storage.task_examples import read_examples
from snapcoder.storage.tokens import TokenTable, read_tokens, write_tokens
from snapcoder.tables.attribution import primary_attribution
from snapcoder.tables.snapshot_features import SNAPSHOT_FEATURES
from snapcoder.tasks.cloze import BEYOND, WITHIN
from snapcoder.tasks.scoring import sequence_log_probs

SETTINGS = {
    "tasks": {
        "max_examples": 30, "min_examples": 10, "prefix_tokens": 6, "attribution_examples": 6, "ig_steps": 27,
        "attributions": ["atp_corrupted", "ig_zero", "ig_mean"], "ig_tolerance": 0.05, "sign_flips": 200, "exact_top": 3,
        "exact_random": 4, "shown_examples": 2, "shown_features": 3, "batch_tokens": 300,
        "top_features": 5, "k_grid": [0, 1, 4], "k_shares": [0.1], "control_sizes": [2], "random_draws": 2,
        "matched_draws": 3, "single_features": 3, "bootstrap": 40, "seed": 0,
        "cloze_examples": 20, "cloze_contexts": 500,
    },
    "activations": {"tokens": 600, "heldout_tokens": 300},
    "evaluation": {"sequences": 10, "bootstrap": 40},
    "behaviour": {"sequences": 8, "bootstrap": 20, "batch_size": 4, "text_sequences": 6, "seed": 0},
}  # fmt: skip
ATTRIBUTED = ("attribution", "quality", "positions")
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
            {"tokens": "tokens.h5", "tokenizer": "tokenizer.json", "files": ["known.jsonl", "judged.txt"]},
            {"examples": "text.jsonl", "table": "text.parquet", "rejections": "text_rejections.parquet"},
        )
        self.run(
            cloze,
            {
                "examples": "text.jsonl",
                "table": "text.parquet",
                "rejections": "text_rejections.parquet",
                "tokens": "tokens.h5",
                "tokenizer": "tokenizer.json",
                "ngrams": "ngrams.h5",
                "facts": f"step{STEPS[-1]}/snapshot.json",
            },
            {"examples": "examples.jsonl", "table": "tasks.parquet", "rejections": "rejections.parquet"},
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
            {"table": "performance.parquet", "splits": "splits.parquet"},
        )
        for step in STEPS:
            self.attribution(step)
        for step in STEPS:
            self.ablation(step)
        self.run(
            attribution_tables,
            {name: [f"{name}{step}.parquet" for step in STEPS] for name in ATTRIBUTED},
            {name: f"{name}.parquet" for name in ATTRIBUTED},
        )
        self.run(
            ablation_tables,
            {name: [f"{name}{step}.parquet" for step in STEPS] for name in ("curves", "summary")},
            {name: f"{name}.parquet" for name in ("curves", "summary")},
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
                "tokenizer": "tokenizer.json",
                "features": f"features{step}.parquet",
            },
            {name: f"{name}{step}.parquet" for name in ATTRIBUTED},
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
                "final": [f"attribution{base}.parquet" for base in STEPS],
                "prompts": [f"p{base}.h5" for base in STEPS],
                "own": f"p{step}.h5",
                "dictionary": "dictionary.safetensors",
                "extension": [],
                "features": "features.parquet",
                "cache": "cache.h5",
            },
            {name: f"{name}{step}.parquet" for name in ("curves", "summary")},
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
        mean_active = np.where(np.arange(N_FEATURES) % 5, 0.8, np.nan)  # some features never fire
        measured = {"feature": np.arange(N_FEATURES), "rate": 0.25 * ~np.isnan(mean_active), "mean_active": mean_active}
        pd.DataFrame(measured).to_parquet(root / f"features{step}.parquet")
    (root / "known.jsonl").write_text(known_task(model, rng))
    (root / "judged.txt").write_text(judged_task(model, rng))
    dictionary = make_dictionary(rng)
    write_dictionary(root / "dictionary.safetensors", dictionary, {})
    write_cached(root, rng)
    study = Study(root)
    study.caches()
    study.everything()
    return study


def write_cached(root, rng):
    """Activations and feature statistics of cached rows, one file each for all snapshots."""
    zeros = np.zeros(60, dtype=np.int32)
    rows = RowTable(np.arange(60, dtype=np.int32), zeros, zeros, zeros, (np.arange(60) >= 50).astype(np.uint8))
    write_cache(
        root / "cache.h5", [rng.normal(size=(60, D_MODEL)).astype(np.float32)], rows=rows, step=0, layer=1,
        site="blocks.1.resid_post", d_model=D_MODEL, dtype="float32", provenance={},
    )  # fmt: skip
    numbers = {column.name: rng.uniform(0, 1, N_FEATURES) for column in SNAPSHOT_FEATURES.columns}
    table = pd.DataFrame({**numbers, "layer": 1, "feature": np.arange(N_FEATURES), "step": 0, "added": False})
    table.loc[0, ["rate", "mean_active"]] = 0, np.nan  # one that never fires
    write_table(root / "features.parquet", table, SNAPSHOT_FEATURES, {})


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


def judged_task(model, rng):
    """Pairs of sentences in the layout of CLAMS, the right one being what the random model finds more probable."""
    lines = []
    for _ in range(20):
        pair = [tuple(rng.integers(3, VOCAB, size=5).tolist()) for _ in range(2)]
        log_probs = sequence_log_probs(model, [((0, *tokens), 1) for tokens in pair], batch_size=2)
        for judgement, at in ((True, log_probs.argmax()), (False, log_probs.argmin())):
            lines.append(f"{judgement}\t" + " ".join(WORDS[token - 3] for token in pair[at]) + "\n")
    return "".join(lines)


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


def test_a_task_done_by_the_model_is_acquired_attributed_and_ablated(study):
    performance = read_table(study.root / "performance.parquet")
    known = performance[performance["task"] == "known"]
    assert known["accuracy"].tolist() == [1.0] * len(STEPS)
    assert known["acquired"].all()
    quality = read_table(study.root / "quality.parquet")
    kinds = [("atp", "corrupted"), ("ig", "corrupted"), ("ig", "mean"), ("ig", "zero")]
    for step in STEPS:
        rows = quality[(quality["task"] == "known") & (quality["step"] == step)].set_index(["method", "baseline"])
        assert sorted(rows.index) == kinds
        assert (rows["status"] == "attributed").all()
        assert (rows.loc["ig", "completeness_gap"] < 0.1).all()
        assert (rows["n_examples"] == rows["n_clusters"]).all()
        assert set(rows["n_examples"]) == {6}
        assert rows.loc[[("atp", "corrupted")], "ig_steps"].tolist() == [1]
    primary = primary_attribution(quality)
    assert len(primary) == len(performance)
    others = primary[primary["status"] != "attributed"]
    assert others["reason"].str.len().min() > 10
    assert len(others) + (quality["status"] == "attributed").sum() == len(quality)
    attributed = read_table(study.root / "attribution.parquet")
    assert set(attributed["task"]) == set(quality.loc[quality["status"] == "attributed", "task"])
    assert (attributed.groupby(["task", "step", "method", "baseline"])["feature"].min() == -1).all()


def test_the_strongest_and_some_random_features_are_verified_and_kept(study):
    everything = read_table(study.root / "attribution8.parquet")
    kept = read_table(study.root / "attribution.parquet")
    for (task, method, baseline), rows in everything.groupby(["task", "method", "baseline"]):
        features = rows[rows["feature"] >= 0]
        verified = features["exact_effect"].notna()
        assert verified[features["rank"] <= 3].all()
        assert 7 <= verified.sum() <= 3 * 2 + 4  # by each method of the baseline, and the random ones
        assert (features["exact_effect_heldout"].notna() == verified).all()
        here = kept[(kept["step"] == 8) & (kept["task"] == task)]
        here = here[(here["method"] == method) & (here["baseline"] == baseline) & (here["feature"] >= 0)]
        assert set(here["feature"]) == set(features.loc[verified | (features["rank"] <= 5), "feature"])
    corrupted = everything[everything["baseline"] == "corrupted"].pivot(
        index=["task", "feature"], columns="method", values="exact_effect"
    )
    both = corrupted.dropna()
    assert (both["ig"] == both["atp"]).all()  # the truth does not depend on what approximates it


def test_exact_effects_and_mean_codes_of_the_step_are_those_of_the_definition(study, model):
    """One verified feature, replaced by its mean code by hand in a full pass of the model."""
    rows = read_table(study.root / "attribution8.parquet")
    rows = rows[(rows["task"] == "known") & (rows["method"] == "ig") & (rows["baseline"] == "mean")]
    row = rows[rows["exact_effect"].notna()].sort_values("rank").iloc[0]
    snapshot = read_snapshot_prompts(
        study.root / "examples.jsonl", [study.root / f"p{step}.h5" for step in STEPS],
        study.root / "dictionary.safetensors", [], step=8, layer=1, largest=6,
    )  # fmt: skip
    feature, here = int(row["feature"]), snapshot.here
    for half, column in (
        (snapshot.ranking("known"), "exact_effect"), (snapshot.evaluation("known"), "exact_effect_heldout"),
    ):  # fmt: skip
        changes = []
        for index, example in enumerate(half.examples):
            here_rows = slice(half.offset[index], half.offset[index + 1])
            moved = half.clean_code.toarray()[here_rows, feature] - (0.2 if feature % 5 else 0.0)
            shift = np.outer(moved, here.decoder[feature]) / here.scale
            activation = torch.from_numpy((half.clean[here_rows] - shift).astype(np.float32))[None]
            tokens = torch.tensor([example.clean_tokens])
            with torch.no_grad():
                before = model(tokens).logits[0, -1]
                after = run_from(model, activation, tokens=tokens, layer=1)[0, -1]
            pair = [example.clean_token, example.patch_token]
            changes.append(float((before[pair[0]] - before[pair[1]]) - (after[pair[0]] - after[pair[1]])))
        assert row[column] == pytest.approx(np.mean(changes), abs=1e-4)


def test_positions_show_the_strongest_features_on_ranking_examples_and_add_up(study):
    positions = read_table(study.root / "positions.parquet")
    attributed = primary_attribution(read_table(study.root / "attribution.parquet"))
    examples = read_examples(study.root / "examples.jsonl")
    for (task, step), rows in positions.groupby(["task", "step"]):
        here = attributed[(attributed["task"] == task) & (attributed["step"] == step)]
        strongest = here[(here["rank"] >= 1) & (here["rank"] <= 3)]["feature"]
        assert set(rows["feature"]) == {-2, -1, *strongest}
        assert rows["example"].nunique() == 2
        for line, of_example in rows.groupby("example"):
            assert examples[line].task == task
            shown = of_example[of_example["feature"] == -2].sort_values("position")
            assert shown["position"].tolist() == list(range(len(examples[line].clean_tokens)))
            assert "".join(shown["token"]).strip() == examples[line].clean_prefix.replace("Ġ", "").strip()


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
    ranked = {("attr_here", ablation, "feature", 0) for ablation in ("zero", "mean", "resample")}
    ranked |= {(ranking, "resample", "feature", 0) for ranking in ("attr_final", "norm")}
    controls = {(name, "resample", "feature", draw) for name, n in (("random", 2), ("matched", 3)) for draw in range(n)}
    baselines = {("attr_here", "resample", unit, 0) for unit in ("neuron", "pca")}
    names = ["ranking", "ablation", "unit", "draw"]
    assert set(curves[names].itertuples(index=False, name=None)) == ranked | controls | baselines
    drawn = curves["ranking"].isin(["random", "matched"])
    assert set(curves.loc[drawn, "k"]) == {2}
    of_features = curves[~drawn & (curves["unit"] == "feature")]
    assert set(of_features["k"]) == {0, 1, 2, 4, N_FEATURES}
    assert set(curves.loc[curves["unit"] == "pca", "k"]) == {0, 1, 2, 4, D_MODEL}
    for _, here in of_features.groupby(["step", "ablation"]):
        at = here.groupby(["mode", "k"])["metric"]
        spread, ends = at.max() - at.min(), at.first()
        assert spread[("disrupt", 0)] == spread[("restore", N_FEATURES)] == 0
        assert ends[("disrupt", 0)] == ends[("restore", N_FEATURES)]
        assert ends[("restore", 0)] == ends[("disrupt", N_FEATURES)]


def test_the_final_ranking_is_that_of_the_last_base_snapshot(study):
    curves = read_table(study.root / "curves.parquet").set_index(["step", "mode", "ablation", "k"])
    curves = curves.xs("resample", level="ablation")
    here, final = (curves[curves["ranking"] == name]["metric"] for name in ("attr_here", "attr_final"))
    here = here[(curves["unit"] == "feature")[curves["ranking"] == "attr_here"]]
    pd.testing.assert_series_equal(here.loc[STEPS[-1]], final.loc[STEPS[-1]], check_names=False)
    assert not here.loc[STEPS[0]].equals(final.loc[STEPS[0]])


def test_every_full_curve_has_a_summary_and_only_the_main_one_is_tested(study):
    curves, summary = read_table(study.root / "curves.parquet"), read_table(study.root / "summary.parquet")
    key = ["task", "step", "mode", "ranking", "ablation", "unit"]
    full = curves[~curves["ranking"].isin(["random", "matched"])][key].drop_duplicates()
    assert sorted(summary[key].itertuples(index=False)) == sorted(full.itertuples(index=False))
    main = (summary["ranking"] == "attr_here") & (summary["ablation"] == "resample") & (summary["unit"] == "feature")
    assert (summary["matched_k"].notna() == main).all()
    assert (summary["nonadditivity"].notna() == (main & (summary["mode"] == "disrupt"))).all()
    assert summary.loc[main, "p_matched_holm"].between(0.25, 1).all()
    neurons = summary[summary["unit"] == "neuron"]
    np.testing.assert_allclose(neurons["effect_share"].dropna(), 1, atol=1e-4)


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
