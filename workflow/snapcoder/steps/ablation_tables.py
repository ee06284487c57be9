"""Step `ablation_tables`: the ablations of all snapshots of a layer in two tables."""

from snapcoder.job import Job
from snapcoder.storage.tables import joined, read_table, write_table
from snapcoder.tables.ablation import ABLATION_CURVES, ABLATION_SUMMARY


def ablation_tables(job: Job) -> None:
    """Write the curves of all snapshots together, and their summaries."""
    for name, schema in (("curves", ABLATION_CURVES), ("summary", ABLATION_SUMMARY)):
        write_table(job.output(name), joined([read_table(path) for path in job.paths(name)], schema), schema, job.core)
