"""Tasks from JSONL files in the format of sparse feature circuits (Marks et al. 2024), filtered for a tokenizer."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from snapcoder.storage.task_examples import Example

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
    candidates: Iterable[Candidate], encode: Encode, *, context_length: int
) -> tuple[list[Example], dict[str, int]]:
    """Return the candidates that are valid examples for a tokenizer, and how many of each task were refused.

    Valid: both answers are exactly one token and differ, the prefixes have the same number of tokens and fit the
    context, and no token spans the join of prefix and answer (the filters of Marks et al.).
    """
    examples: list[Example] = []
    rejected: dict[str, int] = {}
    for candidate in candidates:
        example = _tokenized(candidate, encode, context_length)
        rejected.setdefault(candidate.task, 0)
        if example is None:
            rejected[candidate.task] += 1
        else:
            examples.append(example)
    return examples, rejected


def _tokenized(candidate: Candidate, encode: Encode, context_length: int) -> Example | None:
    clean, patch = encode(candidate.clean_prefix), encode(candidate.patch_prefix)
    if len(clean) != len(patch) or not 1 <= len(clean) <= context_length:
        return None
    clean_token = _joined_answer(candidate.clean_prefix, clean, candidate.clean_answer, encode)
    # Both answers are scored on the clean prefix, so each must join it cleanly, and the patch answer its own prefix.
    patch_token = _joined_answer(candidate.clean_prefix, clean, candidate.patch_answer, encode)
    own_patch_token = _joined_answer(candidate.patch_prefix, patch, candidate.patch_answer, encode)
    if clean_token is None or patch_token is None or patch_token != own_patch_token or clean_token == patch_token:
        return None
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
        clean_token=clean_token,
        patch_token=patch_token,
        cluster=candidate.cluster,
    )


def _joined_answer(prefix: str, tokens: list[int], answer: str, encode: Encode) -> int | None:
    joined = encode(prefix + answer)
    if len(joined) != len(tokens) + 1 or joined[:-1] != tokens:
        return None
    return joined[-1]
