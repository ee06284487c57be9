"""Step `attribution_tables`: the attributions of all snapshots of a layer in three tables."""

import pandas as pd

from snapcoder.job import Job
from snapcoder.storage.tables import TableSchema, read_table, write_table
from snapcoder.tables.tasks import ABLATION_CURVES, ATTRIBUTION, ATTRIBUTION_QUALITY

_TABLES: dict[str, TableSchema] = {
    "attribution": ATTRIBUTION,
    "quality": ATTRIBUTION_QUALITY,
    "curves": ABLATION_CURVES,
}


def attribution_tables(job: Job) -> None:
    """Write each table of all snapshots together."""
    for name, schema in _TABLES.items():
        parts = [read_table(path) for path in job.paths(name)]
        filled = [part for part in parts if len(part)] or parts[:1]
        write_table(job.output(name), pd.concat(filled, ignore_index=True), schema, job.core)
