"""Step `phase_metrics`: everything measured per snapshot, in one long table."""

import pandas as pd

from snapcoder.job import Job
from snapcoder.phases.metrics import (
    dimensionality_metrics,
    feature_metrics,
    ngram_metrics,
    optimiser_metrics,
    reconstruction_metrics,
    rotation_metrics,
)
from snapcoder.phases.metrics import phase_metrics as join_metrics
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import PhaseSettings
from snapcoder.tables.phases import PHASE_METRICS


def phase_metrics(job: Job) -> None:
    """Write the table phase_metrics."""
    settings = job.section("phases", PhaseSettings)
    snapshots = read_table(job.path("snapshots"))
    behaviour = pd.concat([read_table(path) for path in job.paths("behaviour")], ignore_index=True)
    extensions = [read_table(path) for path in job.paths("extension_metrics")]
    parts = [
        ngram_metrics(behaviour, read_table(job.path("ngram_entropy"))),
        feature_metrics(
            read_table(job.path("trajectory"), columns=["feature", "step", "alive", "norm_rel", "dimensionality"]),
            bootstrap=settings.bootstrap,
            seed=settings.seed,
        ),
        rotation_metrics(read_table(job.path("rotation_summary"))),
        dimensionality_metrics(read_table(job.path("dimensionality"))),
        reconstruction_metrics(read_table(job.path("recon_metrics")), extensions[0] if extensions else None),
    ]
    parts += [optimiser_metrics(read_table(path), snapshots["step"].to_numpy()) for path in job.paths("training_log")]
    table = join_metrics(parts, layer=int(job.value("layer")), snapshots=snapshots)
    write_table(job.output("table"), table, PHASE_METRICS, job.core)
