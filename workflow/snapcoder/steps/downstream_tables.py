"""Step `downstream_tables`: what the dictionary costs at all snapshots of a layer, and all scores side by side."""

from snapcoder.job import Job
from snapcoder.storage.tables import joined, read_table, write_table
from snapcoder.tables.downstream import DOWNSTREAM_PERFORMANCE, RECONSTRUCTION_LOSS, TASK_RECONSTRUCTION
from snapcoder.tasks.downstream import downstream_performance


def downstream_tables(job: Job) -> None:
    """Write the tables reconstruction_loss, task_reconstruction and downstream_performance."""
    losses = joined([read_table(path) for path in job.paths("losses")], RECONSTRUCTION_LOSS)
    tasks = joined([read_table(path) for path in job.paths("tasks")], TASK_RECONSTRUCTION)
    write_table(job.output("losses"), losses, RECONSTRUCTION_LOSS, job.core)
    write_table(job.output("tasks"), tasks, TASK_RECONSTRUCTION, job.core)
    scores = downstream_performance(
        losses,
        tasks,
        read_table(job.path("performance")),
        [read_table(path) for path in job.paths("harness")],
        layer=int(job.value("layer")),
    )
    write_table(job.output("scores"), scores, DOWNSTREAM_PERFORMANCE, job.core)
