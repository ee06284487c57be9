"""Step `attribution_tables`: the attributions of all snapshots of a layer in two tables."""

from snapcoder.job import Job
from snapcoder.storage.tables import joined, read_table, write_table
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.tasks import ATTRIBUTION, ATTRIBUTION_QUALITY


def attribution_tables(job: Job) -> None:
    """Write each table of all snapshots together; of the attributions, the strongest features and the error term."""
    top = job.section("tasks", TaskSettings).top_features
    attributed = [read_table(path) for path in job.paths("attribution")]
    strongest = [part[part["rank"] <= top] for part in attributed]
    write_table(job.output("attribution"), joined(strongest, ATTRIBUTION), ATTRIBUTION, job.core)
    quality = [read_table(path) for path in job.paths("quality")]
    write_table(job.output("quality"), joined(quality, ATTRIBUTION_QUALITY), ATTRIBUTION_QUALITY, job.core)
