"""The built-in tasks of a study's text and tokenizer, as drafts."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snapcoder.storage.task_examples import Example
from snapcoder.storage.tokens import HELDOUT, TokenTable
from snapcoder.tasks.agreement import MinedTask, agreement_tasks, mine_agreement
from snapcoder.tasks.closing import MARKS, closing_marks, mine_closing
from snapcoder.tasks.copying import make_token_copy, mine_ngram_copy
from snapcoder.tasks.files import Candidate, Encode, tokenize_candidates
from snapcoder.tasks.induction import make_induction
from snapcoder.tasks.names import name_candidates
from snapcoder.tasks.numbers import STYLES, number_candidates
from snapcoder.tasks.rejections import NO_PARTNER
from snapcoder.tasks.selection import TaskDraft, task_rng, with_texts
from snapcoder.tasks.templates import template_candidates

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Language:
    """What making examples needs of a tokenizer; texts [token id]: what each token stands for."""

    encode: Encode
    decode: Callable[[list[int]], str]
    vocabulary: Mapping[str, int]
    texts: Sequence[str]

    @property
    def space(self) -> str:
        """How the vocabulary writes a leading space: as byte-level BPE does, or as SentencePiece."""
        return "Ġ" if any(piece.startswith("Ġ") for piece in self.vocabulary) else "▁"

    def written(self, examples: Iterable[Example]) -> list[Example]:
        """Return the examples with their texts filled in from their tokens."""
        return [with_texts(example, self.decode) for example in examples]


@dataclass(frozen=True)
class Limits:
    """How many examples to make, how long mined contexts are, and the seed."""

    max_examples: int
    min_examples: int
    prefix_tokens: int
    seed: int

    @property
    def both_ways(self) -> int:
        """Examples of a task that asks every question from both sides: two of them tell less than two questions."""
        return max(2, self.max_examples // 2)


def built_in_drafts(table: TokenTable, language: Language, limits: Limits) -> list[TaskDraft]:
    """Return a draft of every built-in task, those that the text or the tokenizer does not permit included."""
    length = min(limits.prefix_tokens, table.context_length - 1)
    usable = _usable(table)
    drafts = _agreement(table, language, limits, length)
    drafts += candidate_drafts(template_candidates(), language, context_length=table.context_length)
    seen = set(usable.tolist())
    drafts.append(_names(language, limits, table.context_length, seen))
    drafts.append(_numbers(language, limits, table.context_length, seen))
    drafts.append(_induction(table, language, limits, usable))
    copies = make_token_copy(usable, n_examples=limits.both_ways, rng=task_rng("make copy_token", limits.seed))
    drafts.append(TaskDraft("copy_token", "copy", language.written(copies)))
    rng = task_rng("mine copy_ngram", limits.seed)
    mined = mine_ngram_copy(table, length=length, max_examples=limits.both_ways, rng=rng)
    drafts.append(_mined("copy_ngram", "copy", mined, language))
    for task in MARKS:
        marks = closing_marks(task, language.texts)
        rng, note = task_rng(f"mine {task}", limits.seed), "marks: " + (", ".join(m.name for m in marks) or "none")
        mined = mine_closing(table, task, marks, language.texts, length=length, max_examples=limits.both_ways, rng=rng)
        drafts.append(_mined(task, "closing", mined, language, note))
    return drafts


def candidate_drafts(
    candidates: Sequence[Candidate],
    language: Language,
    *,
    context_length: int,
    seen: Collection[int] | None = None,
    note: str = "",
) -> list[TaskDraft]:
    """Return one draft per task of the candidates, filtered for the tokenizer."""
    examples, rejected = tokenize_candidates(candidates, language.encode, context_length=context_length, seen=seen)
    kinds = {candidate.task: candidate.kind for candidate in candidates}
    return [
        TaskDraft(task, kinds[task], [example for example in examples if example.task == task], counts, note)
        for task, counts in rejected.items()
    ]


def _usable(table: TokenTable) -> np.ndarray:
    """Return the tokens that the held-out text uses, [token]: the others are untrained."""
    counts = np.bincount(table.tokens[table.sequences(HELDOUT)].ravel(), minlength=table.vocab_size)
    counts[table.end_of_text] = 0
    return np.flatnonzero(counts)


def _mined(task: str, kind: str, mined: MinedTask, language: Language, note: str = "") -> TaskDraft:
    return TaskDraft(task, kind, language.written(mined.examples), {NO_PARTNER: mined.n_rejected}, note)


def _agreement(table: TokenTable, language: Language, limits: Limits, length: int) -> list[TaskDraft]:
    drafts = []
    for task in agreement_tasks(language.vocabulary, space=language.space):
        rng = task_rng(f"mine {task.name}", limits.seed)
        mined = mine_agreement(table, task, length=length, max_examples=limits.max_examples, rng=rng)
        logger.info("tasks: %s: %d pairs of contexts; %s", task.name, len(mined.examples), task.described)
        drafts.append(_mined(task.name, "agreement", mined, language, task.described))
    return drafts


def _names(language: Language, limits: Limits, context_length: int, seen: Collection[int]) -> TaskDraft:
    candidates, note = name_candidates(language.vocabulary, space=language.space, largest=2 * limits.max_examples)
    drafts = candidate_drafts(candidates, language, context_length=context_length, seen=seen, note=note)
    return drafts[0] if drafts else TaskDraft("ioi", "template", [], {}, note)


def _numbers(language: Language, limits: Limits, context_length: int, seen: Collection[int]) -> TaskDraft:
    """Return the draft of the first style with enough examples, or that with most of them."""
    drafts, note = [], "none of the ways to write numbers has enough: " + ", ".join(STYLES)
    for style in STYLES:
        made = candidate_drafts(number_candidates(style), language, context_length=context_length, seen=seen, note=note)
        drafts += made
        if len({example.cluster for example in made[0].examples}) >= limits.min_examples:
            break
    best = max(drafts, key=lambda draft: len(draft.examples))
    rejected = sum((Counter(draft.rejected) for draft in drafts), Counter())
    return TaskDraft(best.task, best.kind, best.examples, rejected, best.note)


def _induction(table: TokenTable, language: Language, limits: Limits, usable: np.ndarray) -> TaskDraft:
    made = make_induction(
        usable,
        n_examples=limits.max_examples,
        context_length=table.context_length,
        rng=task_rng("make induction", limits.seed),
    )
    note = "" if made else "the context or the vocabulary is too small for repeated blocks"
    return TaskDraft("induction", "induction", language.written(made), {}, note)
