"""Which examples a study keeps: a random but reproducible cap per task, and a row for every task, kept or dropped."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.storage.task_examples import Example, cluster_ids


@dataclass(frozen=True)
class TaskDraft:
    """All examples of one task that passed its filters, before capping.

    `note` says why there may be few; it ends up in the reason of a dropped task.
    """

    task: str
    kind: str
    examples: list[Example]
    n_rejected: int
    note: str = ""


def select_tasks(
    drafts: list[TaskDraft], *, max_examples: int, min_examples: int, seed: int
) -> tuple[list[Example], pd.DataFrame]:
    """Return the examples kept, task by task in the order of their names, and the rows of the table `tasks`.

    Examples are shuffled (seeded by `seed` and the task's name, so that adding a task changes no other) and capped;
    a task with fewer than `min_examples` independent ones (clusters) is dropped with a reason.
    Raises ValueError when two drafts share a name.
    """
    names = [draft.task for draft in drafts]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two tasks are called {name}; rename the task file or its key task")
    examples: list[Example] = []
    rows = []
    for draft in sorted(drafts, key=lambda draft: draft.task):
        order = task_rng(draft.task, seed).permutation(len(draft.examples))[:max_examples]
        n_independent = len(set(cluster_ids(draft.examples).tolist()))
        enough = n_independent >= min_examples
        if enough:
            examples += [draft.examples[index] for index in order.tolist()]
        rows.append(
            {
                "task": draft.task,
                "kind": draft.kind,
                "n_examples": len(order) if enough else len(draft.examples),
                "n_rejected": draft.n_rejected,
                "status": "ready" if enough else "dropped",
                "reason": "" if enough else _reason(draft, n_independent, min_examples),
            }
        )
    columns = ["task", "kind", "n_examples", "n_rejected", "status", "reason"]
    return examples, pd.DataFrame(rows, columns=columns)


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
