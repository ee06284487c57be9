"""Step `behaviour`: one snapshot's predictions on held-out text and on sampled text, and its answers to all tasks."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from snapcoder.features.token_text import token_strings
from snapcoder.job import Job
from snapcoder.language_model import load_snapshot
from snapcoder.phases.class_losses import class_sums
from snapcoder.phases.ngram_text import text_losses, text_metrics
from snapcoder.phases.predictions import collect_scores, summarise_scores
from snapcoder.phases.token_classes import token_classes
from snapcoder.storage.ngram_text import read_ngram_text
from snapcoder.storage.ngrams import read_ngrams
from snapcoder.storage.tables import write_table
from snapcoder.storage.task_examples import read_examples
from snapcoder.storage.tokens import HELDOUT, TokenTable, read_tokens
from snapcoder.study.analysis import BehaviourSettings
from snapcoder.tables.behaviour import TOKEN_CLASS_SUMS
from snapcoder.tables.phases import BEHAVIOUR, BEHAVIOUR_DRAWS
from snapcoder.tables.tasks import TASK_EXAMPLES
from snapcoder.tasks.scoring import score_examples


def behaviour(job: Job) -> None:
    """Write the metrics of the snapshot's predictions, their bootstrap draws, the losses of classes of tokens, and the
    scores of all task examples.
    """
    settings, step = job.section("behaviour", BehaviourSettings), int(job.value("step"))
    size = settings.batch_size
    model = load_snapshot(job.path("facts"))
    table, ngrams = read_tokens(job.path("tokens")), read_ngrams(job.path("ngrams"))
    chosen = _held_out(table, settings)
    tokens, doc = table.tokens[chosen].astype(np.int64), table.doc[chosen]
    batches = ((log_probs, tokens[rows], doc[rows]) for rows, log_probs in _log_probs(model, tokens, size))
    scores = collect_scores(batches, ngrams=ngrams)
    text = read_ngram_text(job.path("text"))
    sampled = (log_probs for _, log_probs in _log_probs(model, text.tokens.reshape(-1, text.tokens.shape[-1]), size))
    options = {"bootstrap": settings.bootstrap, "seed": settings.seed}
    found = [summarise_scores(scores, **options), text_metrics(text_losses(sampled, text), **options)]
    metrics, draws = (pd.concat(parts, ignore_index=True).assign(step=step) for parts in zip(*found, strict=True))
    write_table(job.output("table"), metrics, BEHAVIOUR, job.core)
    write_table(job.output("draws"), draws, BEHAVIOUR_DRAWS, job.core)
    families = token_classes(
        tokens,
        doc,
        (scores.row("sequence"), scores.row("position")),
        ngrams=ngrams,
        texts=token_strings(job.path("tokenizer"), vocab_size=table.vocab_size),
        end_of_text=table.end_of_text,
    )
    write_table(job.output("classes"), class_sums(scores, families).assign(step=step), TOKEN_CLASS_SUMS, job.core)
    answers = score_examples(model, read_examples(job.path("tasks")), step=step, batch_size=4 * size)
    write_table(job.output("tasks"), answers, TASK_EXAMPLES, job.core)


def _held_out(table: TokenTable, settings: BehaviourSettings) -> np.ndarray:
    """Return the held-out sequences to score, the same at every snapshot."""
    held_out = table.sequences(HELDOUT)
    rng = np.random.default_rng(settings.seed)
    return np.sort(rng.choice(held_out, size=min(settings.sequences, len(held_out)), replace=False))


@torch.no_grad()
def _log_probs(model: PreTrainedModel, tokens: np.ndarray, batch_size: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows of tokens [sequence, position] and log-probabilities [row, position, vocab] after each of theirs."""
    for start in range(0, len(tokens), batch_size):
        rows = slice(start, start + batch_size)
        logits = model(torch.from_numpy(tokens[rows]).to(model.device), use_cache=False).logits.float()
        yield rows, torch.log_softmax(logits, dim=-1).cpu().numpy()
