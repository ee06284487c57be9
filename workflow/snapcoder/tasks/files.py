"""Tasks from JSONL files in the format of sparse feature circuits (Marks et al. 2024), filtered for a tokenizer."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from snapcoder.storage.task_examples import Example
from snapcoder.tasks.rejections import (
    CONTEXT_TOO_LONG,
    DUPLICATE,
    LENGTHS_DIFFER,
    MERGED_AT_JOIN,
    NOT_ONE_TOKEN,
    SAME_ANSWER,
    UNSEEN,
)

Encode = Callable[[str], list[int]]
"""Text to token ids, without special tokens."""

_TEXTS = ("clean_prefix", "patch_prefix", "clean_answer", "patch_answer")


@dataclass(frozen=True)
class Candidate:
    """One example as text, before the tokenizer has been asked."""

    task: str
    kind: str
    case: str
    clean_prefix: str
    patch_prefix: str
    clean_answer: str
    patch_answer: str
    cluster: str = ""


def parse_task_lines(text: str, *, file: str, task: str) -> list[Candidate]:
    """Parse the lines of one task file; blank lines are skipped.

    `file` names the file in errors. `task` is the task of lines that do not name one themselves (key "task").
    Raises ValueError naming the file, the line and the key that is missing or not a string.
    """
    candidates = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}: line {number} is not valid JSON ({error.msg})") from error
        if not isinstance(values, dict):
            raise ValueError(f"{file}: line {number} is not a JSON object")
        for key in _TEXTS:
            if not isinstance(values.get(key), str) or not values[key]:
                raise ValueError(f"{file}: line {number} needs the key {key} with a non-empty string")
        name, case = values.get("task", task), values.get("case", "")
        if not isinstance(name, str) or not name or not isinstance(case, str):
            raise ValueError(f"{file}: line {number}: task and case must be strings")
        # The same two prefixes, asked from either side, are not two independent examples.
        cluster = values.get("cluster") or " / ".join(sorted((values["clean_prefix"], values["patch_prefix"])))
        if not isinstance(cluster, str):
            raise ValueError(f"{file}: line {number}: cluster must be a string")
        texts = {key: values[key] for key in _TEXTS}
        candidates.append(Candidate(task=name, kind="file", case=case, cluster=cluster, **texts))
    return candidates


def tokenize_candidates(
    candidates: Iterable[Candidate],
    encode: Encode,
    *,
    context_length: int,
    seen: Collection[int] | None = None,
) -> tuple[list[Example], dict[str, Counter[str]]]:
    """Return the candidates that are valid examples for a tokenizer, and for each task how many were refused and why.

    Valid: both answers are exactly one token and differ, the prefixes have the same number of tokens and fit the
    context, no token spans the join of prefix and answer (the filters of Marks et al.), and no candidate of the task
    gave the same tokens before. With `seen`, all tokens must be among it. The reasons are those of `rejections`;
    a candidate with several faults counts under the first.
    """
    examples: list[Example] = []
    refused: dict[str, Counter[str]] = {}
    known: set[tuple[object, ...]] = set()
    ids: dict[str, list[int]] = {}

    def cached(text: str) -> list[int]:  # templates ask for one prefix many times
        if text not in ids:
            ids[text] = encode(text)
        return ids[text]

    for candidate in candidates:
        example = _tokenized(candidate, cached, context_length)
        counts = refused.setdefault(candidate.task, Counter())
        if isinstance(example, str):
            counts[example] += 1
            continue
        tokens = (*example.clean_tokens, *example.patch_tokens, example.clean_token, example.patch_token)
        if seen is not None and not all(token in seen for token in tokens):
            counts[UNSEEN] += 1
        elif (candidate.task, tokens) in known:
            counts[DUPLICATE] += 1
        else:
            known.add((candidate.task, tokens))
            examples.append(example)
    return examples, refused


def _tokenized(candidate: Candidate, encode: Encode, context_length: int) -> Example | str:
    """Return the example, or the reason why the candidate is none."""
    clean, patch = encode(candidate.clean_prefix), encode(candidate.patch_prefix)
    if len(clean) != len(patch):
        return LENGTHS_DIFFER
    if len(clean) > context_length:
        return CONTEXT_TOO_LONG
    # Both answers are scored on the clean prefix, so each must join it cleanly, and the patch answer its own prefix.
    answers: list[int] = []
    for prefix, tokens, answer in (
        (candidate.clean_prefix, clean, candidate.clean_answer),
        (candidate.clean_prefix, clean, candidate.patch_answer),
        (candidate.patch_prefix, patch, candidate.patch_answer),
    ):
        joined = encode(prefix + answer)
        if not tokens or joined[: len(tokens)] != tokens:
            return MERGED_AT_JOIN
        if len(joined) != len(tokens) + 1:
            return NOT_ONE_TOKEN
        answers.append(joined[-1])
    if answers[0] == answers[1]:
        return SAME_ANSWER
    return Example(
        task=candidate.task,
        kind=candidate.kind,
        case=candidate.case,
        clean_prefix=candidate.clean_prefix,
        patch_prefix=candidate.patch_prefix,
        clean_answer=candidate.clean_answer,
        patch_answer=candidate.patch_answer,
        clean_tokens=tuple(clean),
        patch_tokens=tuple(patch),
        clean_token=answers[0],
        patch_token=answers[1],
        cluster=candidate.cluster,
    )
