"""Step `trajectories`: what each feature is over all shown snapshots."""

from snapcoder.evolution.trajectories import trajectories as trace_features
from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table_parts
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables.evolution import FEATURE_TRAJECTORY


def trajectories(job: Job) -> None:
    """Write the table feature_trajectory from the parts of single snapshots, chunk by chunk of features."""
    settings = job.section("evolution", EvolutionSettings)
    parts = [read_table(path) for path in job.paths("parts")]
    table = trace_features(parts, rate_floor=settings.rate_floor)
    write_table_parts(job.output("table"), table, FEATURE_TRAJECTORY, job.core)
