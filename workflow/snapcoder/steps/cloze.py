"""Step `cloze`: cloze examples that the last base snapshot chooses from held-out text, and all examples together."""

import logging

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer

from snapcoder.job import Job
from snapcoder.language_model import load_snapshot
from snapcoder.storage.ngrams import read_ngrams
from snapcoder.storage.tables import read_table, write_table
from snapcoder.storage.task_examples import read_examples, write_examples
from snapcoder.storage.tokens import read_tokens
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.tasks import TASK_REJECTIONS, TASKS
from snapcoder.tasks.cloze import BEYOND, WITHIN, MinedCloze, draw_contexts, mine_cloze
from snapcoder.tasks.rejections import NO_PATCH, NOT_KNOWN, rejection_rows
from snapcoder.tasks.selection import TaskDraft, select_tasks, task_rng, with_texts

logger = logging.getLogger(__name__)


def cloze(job: Job) -> None:
    """Write the examples of all tasks, those from text first, and one row per task."""
    settings = job.section("tasks", TaskSettings)
    examples, rows = read_examples(job.path("examples")), read_table(job.path("table"))
    rejections = read_table(job.path("rejections"))
    if settings.cloze_examples:
        tokenizer = Tokenizer.from_file(str(job.path("tokenizer")))
        mined = _mined(job, settings)
        drafts = [
            TaskDraft(
                task,
                "cloze",
                [with_texts(example, tokenizer.decode) for example in found],
                {NOT_KNOWN: mined.n_contexts - known, NO_PATCH: known - len(found)},
                f"of {mined.n_contexts} contexts, the model knows {mined.n_beyond} beyond and {mined.n_within} within",
            )
            for task, found, known in ((BEYOND, mined.beyond, mined.n_beyond), (WITHIN, mined.within, mined.n_within))
        ]
        kept, added = select_tasks(
            drafts, max_examples=settings.cloze_examples, min_examples=settings.min_examples, seed=settings.seed
        )
        examples, rows = [*examples, *kept], pd.concat([rows, added], ignore_index=True)
        refused = rejection_rows((draft.task, draft.rejected) for draft in drafts)
        rejections = pd.concat([rejections, refused], ignore_index=True)
    write_examples(job.output("examples"), examples)
    write_table(job.output("table"), rows, TASKS, job.core)
    write_table(job.output("rejections"), rejections, TASK_REJECTIONS, job.core)


def _mined(job: Job, settings: TaskSettings) -> MinedCloze:
    table, ngrams = read_tokens(job.path("tokens")), read_ngrams(job.path("ngrams"))
    model = load_snapshot(job.path("facts"))

    @torch.no_grad()
    def predict(prefixes: np.ndarray) -> np.ndarray:
        parts = []
        for batch in torch.from_numpy(prefixes).split(256):
            logits = model(batch.to(model.device), use_cache=False, logits_to_keep=1).logits[:, -1]
            parts.append(logits.float().cpu().numpy())
        return np.concatenate(parts)

    rng = task_rng("mine cloze", settings.seed)
    length = min(settings.prefix_tokens, table.context_length - 1)
    contexts = draw_contexts(table, length=length, n_contexts=settings.cloze_contexts, rng=rng)
    mined = mine_cloze(contexts, ngrams, predict, max_examples=settings.cloze_examples, rng=rng)
    logger.info(
        "cloze: of %d held-out contexts, the last base snapshot knows %d beyond a trigram model (%d with a patch prefix) "
        "and %d within it",
        mined.n_contexts,
        mined.n_beyond,
        len(mined.beyond),
        mined.n_within,
    )
    return mined
