"""Step `integrity`: put the facts of all snapshots side by side and name those that share their weights."""

import logging

from snapcoder.job import Job
from snapcoder.snapshots.facts import snapshot_table
from snapcoder.storage.json_file import read_json
from snapcoder.storage.tables import write_table
from snapcoder.tables.snapshots import SNAPSHOTS

logger = logging.getLogger("snapcoder.integrity")


def integrity(job: Job) -> None:
    """Write the snapshots table; duplicates are reported, not refused (Pythia's steps 0 and 1 are nearly equal)."""
    frame = snapshot_table([read_json(path) for path in job.paths("facts")], added=job.value("added"))
    for _, row in frame[frame["duplicate_of"].notna()].iterrows():
        logger.warning("integrity: step %d has the very same weights as step %d", row["step"], row["duplicate_of"])
    write_table(job.output("table"), frame, SNAPSHOTS, job.core)
