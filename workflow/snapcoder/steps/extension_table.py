"""Join the metrics of all extensions of a layer."""

import pandas as pd

from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table
from snapcoder.tables.crosscoder import EXTENSION_METRICS


def extension_table(job: Job) -> None:
    """Write the extension metrics of all added snapshots as one table."""
    parts = [read_table(path) for path in job.paths("parts")]
    write_table(job.output("table"), pd.concat(parts, ignore_index=True), EXTENSION_METRICS, job.core)
