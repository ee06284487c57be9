"""Train and score the per-snapshot counterpart of one dictionary of a sweep: a sparse autoencoder of one snapshot."""

from snapcoder.job import Job
from snapcoder.steps.sweep_point import train_point


def sweep_sae(job: Job) -> None:
    """Train the same engine on one snapshot's cache alone (S = 1), and write its held-out scores."""
    train_point(job, kind="sae")
