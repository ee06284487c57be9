"""Step `tasks`: the examples of every task, built in and from files, for the study's tokenizer."""

import logging

from tokenizers import Tokenizer

from snapcoder.features.token_text import token_strings
from snapcoder.job import Job
from snapcoder.storage.tables import write_table
from snapcoder.storage.task_examples import write_examples
from snapcoder.storage.tokens import read_tokens
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.tasks import TASK_REJECTIONS, TASKS
from snapcoder.tasks.built_in import Language, Limits, built_in_drafts
from snapcoder.tasks.files import Candidate
from snapcoder.tasks.formats import parse_task_file, task_names
from snapcoder.tasks.from_files import file_drafts
from snapcoder.tasks.minimal_pairs import MinimalPair
from snapcoder.tasks.rejections import rejection_rows
from snapcoder.tasks.selection import select_tasks

logger = logging.getLogger(__name__)


def tasks(job: Job) -> None:
    """Write the examples of all tasks, one row per task, dropped ones included, and why candidates were refused."""
    settings = job.section("tasks", TaskSettings)
    table = read_tokens(job.path("tokens"))
    tokenizer = Tokenizer.from_file(str(job.path("tokenizer")))

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    texts = token_strings(job.path("tokenizer"), vocab_size=table.vocab_size)
    language = Language(encode, tokenizer.decode, tokenizer.get_vocab(), texts)
    parsed: list[Candidate | MinimalPair] = []
    for path, name in zip(job.paths("files"), task_names(job.paths("files")), strict=True):
        parsed += parse_task_file(path.read_text(encoding="utf-8"), file=str(path), task=name)
    drafts = file_drafts(
        parsed, language, start_token=table.end_of_text, context_length=table.context_length, seed=settings.seed
    )
    if settings.built_in:
        limits = Limits(settings.max_examples, settings.min_examples, settings.prefix_tokens, settings.seed)
        drafts += built_in_drafts(table, language, limits)
    examples, rows = select_tasks(
        drafts, max_examples=settings.max_examples, min_examples=settings.min_examples, seed=settings.seed
    )
    write_examples(job.output("examples"), examples)
    write_table(job.output("table"), rows, TASKS, job.core)
    rejected = rejection_rows((draft.task, draft.rejected) for draft in drafts)
    write_table(job.output("rejections"), rejected, TASK_REJECTIONS, job.core)
    logger.info("tasks: %d ready, %d dropped", (rows.status == "ready").sum(), (rows.status == "dropped").sum())
