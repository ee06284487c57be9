"""Task prompts at one snapshot: what it thinks on them, and the code that the dictionary gives that."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from snapcoder.attribution.prompt_codes import SnapshotDictionary, of_snapshot, prompt_codes
from snapcoder.storage.dictionaries import Dictionary, read_dictionary, read_extension
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.prompts import PromptActivations, PromptError, read_prompts, require_same_prompts
from snapcoder.storage.tables import read_table
from snapcoder.storage.task_examples import Example, cluster_ids, read_examples, task_lines
from snapcoder.tasks.selection import split_halves


@dataclass(frozen=True)
class Prefixes:
    """Examples whose prefixes lie one behind the other: offset [example + 1] says where each begins."""

    examples: Sequence[Example]
    offset: np.ndarray

    @property
    def example_of_position(self) -> np.ndarray:
        """Example of each position [position]."""
        return np.repeat(np.arange(len(self.examples)), np.diff(self.offset))

    @property
    def distance_to_last(self) -> np.ndarray:
        """How far each position is from the last one of its example [position]; 0 at the last."""
        return np.repeat(self.offset[1:] - 1, np.diff(self.offset)) - np.arange(int(self.offset[-1]))


@dataclass(frozen=True)
class TaskPrompts(Prefixes):
    """One half of a task's examples at one snapshot.

    clean, patch [position, model] raw activations; clean_code, patch_code [position, feature]: gated codes of both prompts.
    """

    clean: np.ndarray
    patch: np.ndarray
    clean_code: csr_array
    patch_code: csr_array

    @cached_property
    def delta(self) -> csr_array:
        """Code on the clean minus code on the patch prompt [position, feature]."""
        return self.clean_code - self.patch_code


@dataclass(frozen=True)
class SnapshotPrompts:
    """The prompts of all tasks at one snapshot, split for ranking and for scoring.

    halves: task → lines of the task file that rank features, lines that ablations are scored on.
    """

    dictionary: Dictionary
    here: SnapshotDictionary
    examples: Sequence[Example]
    halves: dict[str, tuple[np.ndarray, np.ndarray]]
    base: Sequence[PromptActivations]
    own: PromptActivations

    def ranking(self, task: str) -> TaskPrompts:
        """Return the examples of a task that features are ranked on."""
        return self._prompts(self.halves[task][0])

    def evaluation(self, task: str, *, features: np.ndarray | None = None) -> TaskPrompts:
        """Return the examples of a task that ablations are scored on; none of them ranks.

        features: those that the codes are needed of; the codes then have these columns.
        """
        return self._prompts(self.halves[task][1], features)

    def prefixes(self, lines: np.ndarray) -> Prefixes:
        """Return the examples on some lines of the task file."""
        examples = [self.examples[line] for line in lines]
        lengths = [len(example.clean_tokens) for example in examples]
        return Prefixes(examples, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def code(self, lines: np.ndarray, side: str, *, features: np.ndarray | None = None) -> csr_array:
        """Return the gated code [position, feature] of the prompts on some lines; side: clean or patch; features: see above."""
        base = [getattr(one, side)[one.positions(lines)] for one in self.base]
        own = getattr(self.own, side)[self.own.positions(lines)]
        return prompt_codes(self.dictionary, self.here, base, own, features=features)

    def _prompts(self, lines: np.ndarray, features: np.ndarray | None = None) -> TaskPrompts:
        at, prefixes = self.own.positions(lines), self.prefixes(lines)
        return TaskPrompts(
            prefixes.examples,
            prefixes.offset,
            clean=self.own.clean[at],
            patch=self.own.patch[at],
            clean_code=self.code(lines, "clean", features=features),
            patch_code=self.code(lines, "patch", features=features),
        )


def read_snapshot_prompts(
    tasks: Path,
    prompts: Sequence[Path],
    dictionary: Path,
    extension: Sequence[Path],
    *,
    step: int,
    layer: int,
    largest: int,
) -> SnapshotPrompts:
    """Read what attribution and ablation look at: the prompts of the base snapshots and of the one at `step`.

    largest: examples of a task in either half. Raises PromptError when prompts are missing or were captured on other
    examples or another layer.
    """
    examples, examples_sha256 = read_examples(tasks), file_sha256(tasks)
    learned = read_dictionary(dictionary)
    by_step: dict[int, PromptActivations] = {}
    for path in prompts:
        read = read_prompts(path)
        require_same_prompts(read, path, examples_sha256=examples_sha256, layer=layer)
        by_step[read.step] = read
    missing = [base for base in (*learned.steps, step) if base not in by_step]
    if missing:
        raise PromptError(f"no prompt activations of step {missing[0]}; rerun the step prompts for it")
    added = [read_extension(path) for path in extension]
    return SnapshotPrompts(
        dictionary=learned,
        here=of_snapshot(learned, step, added[0] if added else None),
        examples=examples,
        halves=split_halves(task_lines(examples), cluster_ids(examples), largest=largest),
        base=[by_step[base] for base in learned.steps],
        own=by_step[step],
    )


def read_mean_code(features: Path) -> np.ndarray:
    """Read the mean gated code of every feature over a snapshot's cached rows [feature], from its SNAPSHOT_FEATURES."""
    table = read_table(features, ["feature", "rate", "mean_active"]).sort_values("feature")
    mean: np.ndarray = (table["rate"] * table["mean_active"].fillna(0.0)).to_numpy(np.float64)
    return mean
