"""Step `prompts`: one snapshot's activations on the task prompts that attribution will use."""

import numpy as np

from snapcoder.job import Job
from snapcoder.language_model import load_snapshot
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.prompts import write_prompts
from snapcoder.storage.task_examples import cluster_ids, read_examples, task_lines
from snapcoder.study.analysis import TaskSettings
from snapcoder.tasks.prompts import capture_prompts
from snapcoder.tasks.selection import split_halves


def prompts(job: Job) -> None:
    """Write the activations on the clean and patch prompts of both halves of every task."""
    settings = job.section("tasks", TaskSettings)
    examples = read_examples(job.path("tasks"))
    halves = split_halves(task_lines(examples), cluster_ids(examples), largest=settings.attribution_examples)
    used = [half for both in halves.values() for half in both]
    lines = np.sort(np.concatenate(used)) if used else np.zeros(0, dtype=np.int64)
    model = load_snapshot(job.path("facts"))
    captured = capture_prompts(
        model,
        [examples[line] for line in lines],
        lines,
        step=int(job.value("step")),
        layer=int(job.value("layer")),
        examples_sha256=file_sha256(job.path("tasks")),
    )
    write_prompts(job.output("prompts"), captured, job.core)
