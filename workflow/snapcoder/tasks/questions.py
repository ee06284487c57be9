"""One question, asked from both sides: each of two prefixes is the clean one once, and the other's patch.

A model that does not see what the prefixes differ in gives both the same logits, so it is right on exactly one side.
The two sides share a cluster.
"""

from collections.abc import Sequence

import numpy as np

from snapcoder.storage.task_examples import Example
from snapcoder.tasks.files import Candidate


def both_texts(
    task: str,
    cases: tuple[str, str],
    prefixes: Sequence[str],
    answers: Sequence[str],
    cluster: str,
    *,
    kind: str = "template",
) -> list[Candidate]:
    """Return the two candidates of a question; prefixes and answers [side], cases: what each side is called."""
    return [
        Candidate(
            task=task,
            kind=kind,
            case=cases[clean],
            clean_prefix=prefixes[clean],
            patch_prefix=prefixes[1 - clean],
            clean_answer=answers[clean],
            patch_answer=answers[1 - clean],
            cluster=cluster,
        )
        for clean in (0, 1)
    ]


def both_sides(
    task: str,
    kind: str,
    case: str,
    prefixes: Sequence[Sequence[int] | np.ndarray],
    answers: Sequence[int],
    cluster: str,
) -> list[Example]:
    """Return the two examples of a question whose tokens are known; prefixes and answers [side]. Texts are left empty."""
    return [
        Example(
            task=task,
            kind=kind,
            case=case,
            clean_prefix="",
            patch_prefix="",
            clean_answer="",
            patch_answer="",
            clean_tokens=tuple(int(token) for token in prefixes[clean]),
            patch_tokens=tuple(int(token) for token in prefixes[1 - clean]),
            clean_token=int(answers[clean]),
            patch_token=int(answers[1 - clean]),
            cluster=cluster,
        )
        for clean in (0, 1)
    ]
