"""A tiny study: the steps about tasks, one after the other, on a random model; files in, files out."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from planted_tasks import N_FEATURES, STEPS, VOCAB, make_dictionary
from tokenizers import Tokenizer, models, pre_tokenizers

from snapcoder.job import Job
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
from snapcoder.storage.dictionaries import write_dictionary
from snapcoder.storage.json_file import write_json
from snapcoder.storage.ngrams import write_ngrams
from snapcoder.storage.tokens import TokenTable, write_tokens
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
                "features": f"features{step}.parquet",
                "cache": f"a{step}.h5",
            },
            {name: f"{name}{step}.parquet" for name in ("curves", "summary")},
            layer=1,
            step=step,
        )


@pytest.fixture(scope="session")
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


def judged_task(model, rng):
    """Pairs of sentences in the layout of CLAMS, the right one being what the random model finds more probable."""
    lines = []
    for _ in range(20):
        pair = [tuple(rng.integers(3, VOCAB, size=5).tolist()) for _ in range(2)]
        log_probs = sequence_log_probs(model, [((0, *tokens), 1) for tokens in pair], batch_size=2)
        for judgement, at in ((True, log_probs.argmax()), (False, log_probs.argmin())):
            lines.append(f"{judgement}\t" + " ".join(WORDS[token - 3] for token in pair[at]) + "\n")
    return "".join(lines)
