"""Examples of tasks, one JSON object per line: the format of sparse feature circuits, with our tokens beside the text."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snapcoder.storage.atomic import write_text
from snapcoder.storage.hashing import canonical_json

SCORINGS = ("answer", "sequence")


@dataclass(frozen=True)
class Example:
    """One question, in one of two ways of scoring.

    answer: two prefixes of equal length, and the single tokens that rightly continue them. The metric is
    logit(clean_token) − logit(patch_token) at the last position of the clean prefix; with the patch prefix, the other
    answer is right, which is what attribution needs.

    sequence: two texts of any length, the clean one right and the patch one wrong, each behind an end-of-text token.
    The metric is log p(clean) − log p(patch) over the tokens from `clean_start` and `patch_start` on. There is no
    prefix after which the other is right, so these are scored and never attributed. Answers are empty and −1.
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
    scoring: str = "answer"
    clean_start: int = 0
    patch_start: int = 0

    @property
    def attributable(self) -> bool:
        """Whether the patch prefix makes the other answer right, so that the metric can be traced to what differs."""
        return self.scoring == "answer"

    def __post_init__(self) -> None:
        if self.scoring not in SCORINGS:
            raise ValueError(f"task {self.task}: scoring is {self.scoring!r}, must be one of {', '.join(SCORINGS)}")
        if self.scoring == "sequence":
            for tokens, start in ((self.clean_tokens, self.clean_start), (self.patch_tokens, self.patch_start)):
                if not 1 <= start < len(tokens):
                    raise ValueError(
                        f"task {self.task}: scored from token {start} of {len(tokens)}; there must be one before it"
                    )
        elif len(self.clean_tokens) != len(self.patch_tokens) or not self.clean_tokens:
            raise ValueError(
                f"task {self.task}: prefixes of {len(self.clean_tokens)} and {len(self.patch_tokens)} tokens; "
                "both must have the same length, at least 1"
            )


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Write examples in the order given.

    The lines hold no provenance, so that the format stays what other tools read; the step's record has it.
    """
    write_text(path, "".join(canonical_json(vars(example)) + "\n" for example in examples))


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
    """Return, for each task that can be attributed, in order of first appearance, the lines (from 0) of its examples."""
    lines: dict[str, list[int]] = {}
    for line, example in enumerate(examples):
        if example.attributable:
            lines.setdefault(example.task, []).append(line)
    return {task: np.array(of_task, dtype=np.int64) for task, of_task in lines.items()}
