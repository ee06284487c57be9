"""Which examples a study keeps: a random but reproducible cap per task, and a row for every task, kept or dropped."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from snapcoder.storage.task_examples import Example, cluster_ids


@dataclass(frozen=True)
class TaskDraft:
    """All examples of one task that passed its filters, before capping.

    `rejected` counts the candidates that are none, by reason (`rejections`). `note` says why there may be few; it ends
    up in the reason of a dropped task.
    """

    task: str
    kind: str
    examples: list[Example]
    rejected: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


def select_tasks(
    drafts: list[TaskDraft], *, max_examples: int, min_examples: int, seed: int
) -> tuple[list[Example], pd.DataFrame]:
    """Return the examples kept, task by task in the order of their names, and the rows of the table `tasks`.

    Examples are shuffled (seeded by `seed` and the task's name, so that adding a task changes no other) and capped;
    the two directions of one question stay together, so that no answer is favoured. A task with fewer than
    `min_examples` independent ones (clusters) is dropped with a reason.
    Raises ValueError when two drafts share a name, or a draft mixes ways of scoring.
    """
    names = [draft.task for draft in drafts]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two tasks are called {name}; rename the task file or its key task")
    examples: list[Example] = []
    rows = []
    for draft in sorted(drafts, key=lambda draft: draft.task):
        if len({example.scoring for example in draft.examples}) > 1:
            raise ValueError(f"task {draft.task} mixes examples that are scored in different ways; split the task file")
        order = _chosen(draft.examples, max_examples, task_rng(draft.task, seed))
        n_independent = len(set(cluster_ids(draft.examples).tolist()))
        enough = n_independent >= min_examples
        kept = [draft.examples[index] for index in order]
        if enough:
            examples += kept
        rows.append(
            {
                "task": draft.task,
                "kind": draft.kind,
                "attributable": all(example.attributable for example in draft.examples),
                "n_examples": len(kept) if enough else len(draft.examples),
                "n_clusters": len(set(cluster_ids(kept).tolist())) if enough else n_independent,
                "n_rejected": sum(draft.rejected.values()),
                "status": "ready" if enough else "dropped",
                "reason": "" if enough else _reason(draft, n_independent, min_examples),
            }
        )
    columns = ["task", "kind", "attributable", "n_examples", "n_clusters", "n_rejected", "status", "reason"]
    return examples, pd.DataFrame(rows, columns=columns)


def _chosen(examples: list[Example], largest: int, rng: np.random.Generator) -> list[int]:
    """Return the indices of at most `largest` examples in random order, both directions of a question side by side."""
    questions: dict[frozenset[tuple[tuple[int, ...], int]], list[int]] = {}
    for index, example in enumerate(examples):
        sides = ((example.clean_tokens, example.clean_token), (example.patch_tokens, example.patch_token))
        questions.setdefault(frozenset(sides), []).append(index)
    members = list(questions.values())
    chosen: list[int] = []
    for question in rng.permutation(len(members)).tolist():
        if len(chosen) + len(members[question]) <= largest:
            chosen += members[question]
    return chosen


def _reason(draft: TaskDraft, n_independent: int, min_examples: int) -> str:
    few = (
        f"{n_independent} independent among {len(draft.examples)} valid examples, tasks.min_examples is {min_examples}"
    )
    return f"{few}; {draft.note}" if draft.note else few


def task_rng(task: str, seed: int) -> np.random.Generator:
    """Return a generator that depends on the seed and the task's name only."""
    return np.random.default_rng([seed, *task.encode()])


def with_texts(example: Example, decode: Callable[[list[int]], str]) -> Example:
    """Return the example with its texts filled in from its tokens."""
    return dataclasses.replace(
        example,
        clean_prefix=decode(list(example.clean_tokens)),
        patch_prefix=decode(list(example.patch_tokens)),
        clean_answer=decode([example.clean_token]),
        patch_answer=decode([example.patch_token]),
    )


def split_halves(
    lines: Mapping[str, np.ndarray], clusters: np.ndarray, *, largest: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, for each task, the lines that rank features and the lines that ablations are scored on.

    clusters [line]: examples of one cluster stay in one half, or the score would know what it was ranked on. The
    halves are equally long, at most `largest`, and the same for every snapshot; examples were shuffled by
    `select_tasks`, so taking them in order is taking them at random.
    """
    halves = {}
    for task, of_task in lines.items():
        members: dict[int, list[int]] = {}
        for line in of_task.tolist():
            members.setdefault(int(clusters[line]), []).append(line)
        sides: tuple[list[int], list[int]] = ([], [])
        for cluster in members.values():
            sides[len(sides[1]) < len(sides[0])].extend(cluster)
        size = min(largest, *map(len, sides))
        first, second = (np.sort(np.array(side[:size], dtype=np.int64)) for side in sides)
        halves[task] = (first, second)
    return halves
