"""Step `attribution_tables`: the attributions of all snapshots of a layer in one table each."""

import pandas as pd

from snapcoder.job import Job
from snapcoder.storage.tables import joined, read_table, write_table
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.attribution import ATTRIBUTION, ATTRIBUTION_POSITIONS, ATTRIBUTION_QUALITY


def attribution_tables(job: Job) -> None:
    """Write each table of all snapshots together; of the attributions, the strongest and the verified ones."""
    top = job.section("tasks", TaskSettings).top_features
    attributed = [read_table(path) for path in job.paths("attribution")]
    strongest = [part[(part["rank"] <= top) | part["exact_effect"].notna()] for part in attributed]
    write_table(job.output("attribution"), joined(strongest, ATTRIBUTION), ATTRIBUTION, job.core)
    for name, schema in (("quality", ATTRIBUTION_QUALITY), ("positions", ATTRIBUTION_POSITIONS)):
        parts: list[pd.DataFrame] = [read_table(path) for path in job.paths(name)]
        write_table(job.output(name), joined(parts, schema), schema, job.core)
