"""Step `tasks`: the examples of every task, built in and from files, for the study's tokenizer."""

import logging
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from snapcoder.job import Job
from snapcoder.storage.tables import write_table
from snapcoder.storage.task_examples import write_examples
from snapcoder.storage.tokens import HELDOUT, TokenTable, read_tokens
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.tasks import TASKS
from snapcoder.tasks.agreement import agreement_tasks, mine_agreement
from snapcoder.tasks.files import Candidate, parse_task_lines, tokenize_candidates
from snapcoder.tasks.induction import make_induction
from snapcoder.tasks.selection import TaskDraft, select_tasks, task_rng, with_texts
from snapcoder.tasks.templates import template_candidates

logger = logging.getLogger(__name__)


def tasks(job: Job) -> None:
    """Write the examples of all tasks and one row per task, dropped ones included."""
    settings = job.section("tasks", TaskSettings)
    table = read_tokens(job.path("tokens"))
    tokenizer = Tokenizer.from_file(str(job.path("tokenizer")))
    drafts = _from_files(job.paths("files"), tokenizer, table.context_length)
    if settings.built_in:
        drafts += _agreement(table, tokenizer, settings)
        candidates = template_candidates()
        drafts += _drafts(candidates, tokenizer, table.context_length)
        drafts.append(_induction(table, tokenizer, settings))
    examples, rows = select_tasks(
        drafts, max_examples=settings.max_examples, min_examples=settings.min_examples, seed=settings.seed
    )
    write_examples(job.output("examples"), examples)
    write_table(job.output("table"), rows, TASKS, job.core)
    logger.info("tasks: %d ready, %d dropped", (rows.status == "ready").sum(), (rows.status == "dropped").sum())


def _from_files(paths: tuple[Path, ...], tokenizer: Tokenizer, context_length: int) -> list[TaskDraft]:
    candidates: list[Candidate] = []
    for path in paths:
        candidates += parse_task_lines(path.read_text(encoding="utf-8"), file=str(path), task=path.stem)
    return _drafts(candidates, tokenizer, context_length)


def _drafts(candidates: list[Candidate], tokenizer: Tokenizer, context_length: int) -> list[TaskDraft]:
    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    examples, rejected = tokenize_candidates(candidates, encode, context_length=context_length)
    kinds = {candidate.task: candidate.kind for candidate in candidates}
    return [
        TaskDraft(task, kinds[task], [example for example in examples if example.task == task], n_rejected)
        for task, n_rejected in rejected.items()
    ]


def _agreement(table: TokenTable, tokenizer: Tokenizer, settings: TaskSettings) -> list[TaskDraft]:
    drafts = []
    length = min(settings.prefix_tokens, table.context_length - 1)
    vocabulary = tokenizer.get_vocab()
    space = "Ġ" if any(piece.startswith("Ġ") for piece in vocabulary) else "▁"  # byte-level BPE or SentencePiece
    for task in agreement_tasks(vocabulary, space=space):
        rng = task_rng(f"mine {task.name}", settings.seed)
        mined = mine_agreement(table, task, length=length, max_examples=settings.max_examples, rng=rng)
        logger.info("tasks: %s: %d pairs of contexts; %s", task.name, len(mined.examples), task.described)
        examples = [with_texts(example, tokenizer.decode) for example in mined.examples]
        drafts.append(TaskDraft(task.name, "agreement", examples, mined.n_rejected, task.described))
    return drafts


def _induction(table: TokenTable, tokenizer: Tokenizer, settings: TaskSettings) -> TaskDraft:
    held_out = table.tokens[table.sequences(HELDOUT)]
    counts = np.bincount(held_out.ravel(), minlength=table.vocab_size)
    counts[table.end_of_text] = 0
    made = make_induction(
        np.flatnonzero(counts),  # tokens that the text uses: the others are untrained
        n_examples=settings.max_examples,
        context_length=table.context_length,
        rng=task_rng("make induction", settings.seed),
    )
    note = "" if made else "the context or the vocabulary is too small for repeated blocks"
    return TaskDraft("induction", "induction", [with_texts(example, tokenizer.decode) for example in made], 0, note)
