"""Step `sae_series`: a sparse autoencoder of one snapshot alone, by the engine of the dictionary itself."""

from snapcoder.job import Job
from snapcoder.steps.crosscoder import crosscoder


def sae_series(job: Job) -> None:
    """Train on one cache (S = 1) and write the autoencoder with its held-out scores."""
    history = job.output("metrics").with_suffix(".work.parquet")
    made = {
        "dictionary": job.outputs["dictionary"],
        "training": (history,),
        "metrics": job.outputs["metrics"],
    }
    crosscoder(Job("crosscoder", job.inputs, made, job.settings, job.threads, job.core))
    history.unlink()
