"""Join the scores of all dictionaries of a sweep."""

import pandas as pd

from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table
from snapcoder.tables.sweep import SWEEP_METRICS


def sweep_table(job: Job) -> None:
    """Write the scores of all points and of their per-snapshot baselines as one table.

    Raises ValueError when two points were scored on different numbers of held-out rows: such scores do not compare.
    """
    parts = {path: read_table(path) for path in job.paths("parts")}
    rows = {path: int(part["n_rows"].iloc[0]) for path, part in parts.items()}
    first = next(iter(rows))
    for path, n_rows in rows.items():
        if n_rows != rows[first]:
            raise ValueError(
                f"{path}: scored on {n_rows} held-out rows, but {first} on {rows[first]}; delete it and rerun"
            )
    write_table(job.output("table"), pd.concat(parts.values(), ignore_index=True), SWEEP_METRICS, job.core)
