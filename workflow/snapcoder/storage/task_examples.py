"""Examples of tasks, one JSON object per line: the format of sparse feature circuits, with our tokens beside the text."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snapcoder.storage.atomic import write_text
from snapcoder.storage.hashing import canonical_json


@dataclass(frozen=True)
class Example:
    """Two prefixes of equal length, and the single tokens that rightly continue them.

    The metric is logit(clean_token) − logit(patch_token) at the last position.
    """

    task: str
    kind: str
    case: str
    clean_prefix: str
    patch_prefix: str
    clean_answer: str
    patch_answer: str
    clean_tokens: tuple[int, ...]
    patch_tokens: tuple[int, ...]
    clean_token: int
    patch_token: int
    cluster: str = ""  # examples of one task that share it are not independent; empty: independent of all others

    def __post_init__(self) -> None:
        if len(self.clean_tokens) != len(self.patch_tokens) or not self.clean_tokens:
            raise ValueError(
                f"task {self.task}: prefixes of {len(self.clean_tokens)} and {len(self.patch_tokens)} tokens; "
                "both must have the same length, at least 1"
            )


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Write examples in the order given.

    The lines hold no provenance, so that the format stays what other tools read; the step's record has it.
    """
    write_text(path, "".join(canonical_json(dataclasses.asdict(example)) + "\n" for example in examples))


def read_examples(path: str | Path) -> list[Example]:
    """Read examples written by `write_examples`; raise ValueError naming the first line that is not one."""
    examples = []
    # Not splitlines(): texts may hold other line separators of Unicode.
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").rstrip("\n").split("\n"), start=1):
        if not line:
            continue
        try:
            values = json.loads(line)
            values["clean_tokens"] = tuple(values["clean_tokens"])
            values["patch_tokens"] = tuple(values["patch_tokens"])
            examples.append(Example(**values))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: line {number} is not a task example ({error}); delete the file and rerun"
            ) from error
    return examples


def cluster_ids(examples: Sequence[Example]) -> np.ndarray:
    """Return a number for each example that it shares with those of its task and cluster, [example] int64."""
    first: dict[tuple[str, ...], int] = {}
    return np.array(
        [
            first.setdefault((example.task, example.cluster), line) if example.cluster else line
            for line, example in enumerate(examples)
        ],
        dtype=np.int64,
    )


def task_lines(examples: Iterable[Example]) -> dict[str, np.ndarray]:
    """Return, for each task in order of first appearance, the lines (from 0) of its examples."""
    lines: dict[str, list[int]] = {}
    for line, example in enumerate(examples):
        lines.setdefault(example.task, []).append(line)
    return {task: np.array(of_task, dtype=np.int64) for task, of_task in lines.items()}
