"""Step `phase_segments`: the phases of training and how sure their boundaries are."""

import pandas as pd

from snapcoder.job import Job
from snapcoder.phases.feature_curves import feature_table
from snapcoder.phases.segments import phase_segments as cut_phases
from snapcoder.phases.warmup import warmup_length
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import PhaseSettings
from snapcoder.tables.phases import PHASE_SEGMENTS


def phase_segments(job: Job) -> None:
    """Write the table phase_segments."""
    columns = ["feature", "step", "alive", "norm_rel", "dimensionality"]
    trajectories = [job.path("trajectory"), *job.paths("seed_trajectories")]
    logs = [read_table(path, columns=["step", "lr"]) for path in job.paths("training_log")]
    table = cut_phases(
        read_table(job.path("phase_metrics")),
        pd.concat([read_table(path) for path in job.paths("draws")], ignore_index=True),
        [feature_table(read_table(path, columns=columns)) for path in trajectories],
        warmup=warmup_length(logs[0] if logs else None, told=job.value("warmup_steps")),
        settings=job.section("phases", PhaseSettings),
    )
    write_table(job.output("table"), table, PHASE_SEGMENTS, job.core)
