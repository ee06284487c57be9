"""The tasks of task files, as drafts: questions with two prefixes, and minimal pairs."""

from collections import Counter
from collections.abc import Sequence

from snapcoder.storage.task_examples import Example
from snapcoder.tasks.built_in import Language, candidate_drafts
from snapcoder.tasks.files import Candidate
from snapcoder.tasks.minimal_pairs import MinimalPair, sentence_examples, two_prefix_examples, word_examples
from snapcoder.tasks.rejections import NO_PARTNER
from snapcoder.tasks.selection import TaskDraft, task_rng


def file_drafts(
    parsed: Sequence[Candidate | MinimalPair], language: Language, *, start_token: int, context_length: int, seed: int
) -> list[TaskDraft]:
    """Return the drafts of everything that was parsed from task files.

    Minimal pairs give up to three tasks: `name`, whole sentences; `name_two_prefix`, where the file has the two
    beginnings; `name_word`, the questions with a patch prefix, where pairs make one for each other.
    """
    candidates = [item for item in parsed if isinstance(item, Candidate)]
    drafts = candidate_drafts(candidates, language, context_length=context_length)
    by_task: dict[str, list[MinimalPair]] = {}
    for item in parsed:
        if isinstance(item, MinimalPair):
            by_task.setdefault(item.task, []).append(item)
    for task, pairs in by_task.items():
        options = {"start_token": start_token, "context_length": context_length}
        drafts.append(TaskDraft(task, "file", *sentence_examples(pairs, language.encode, **options)))
        if any(pair.beginnings for pair in pairs):
            found = two_prefix_examples(pairs, language.encode, **options)
            drafts.append(TaskDraft(f"{task}_two_prefix", "file", *found))
        drafts += _words(task, pairs, language, context_length, seed)
    return drafts


def _words(
    task: str, pairs: Sequence[MinimalPair], language: Language, context_length: int, seed: int
) -> list[TaskDraft]:
    """Return the draft of the questions at the differing word; none where no pair has such a word."""
    rng = task_rng(f"match {task}", seed)
    examples: list[Example]
    rejected: Counter[str]
    examples, rejected = word_examples(pairs, language.encode, context_length=context_length, rng=rng)
    if not examples and not rejected[NO_PARTNER]:
        return []
    note = "a pair needs another with the same two words the other way round, behind a beginning of the same length"
    return [TaskDraft(f"{task}_word", "file", language.written(examples), rejected, note)]
