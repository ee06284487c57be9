"""Train and score one dictionary of a sweep: a crosscoder over all base snapshots."""

from dataclasses import asdict

from snapcoder.job import Job
from snapcoder.steps.crosscoder import crosscoder
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.crosscoder import CrosscoderSettings
from snapcoder.study.sweep import SweepPoint
from snapcoder.tables.sweep import SWEEP_METRICS


def sweep_point(job: Job) -> None:
    """Train at one size, sparsity, arm and seed, and write the held-out scores per snapshot and pooled."""
    train_point(job, kind="crosscoder")


def train_point(job: Job, *, kind: str) -> None:
    """Run the step `crosscoder` itself on the job's caches, and write its scores with the point that they belong to.

    One cache makes a sparse autoencoder of one snapshot. Dictionary and training history lie beside the scores while
    the job runs, so that a killed job resumes as step `crosscoder` does; the dictionary stays when the rule asks for it.
    """
    metrics, kept = job.output("metrics"), job.outputs.get("dictionary", ())
    made = {
        "dictionary": kept or (metrics.with_name("dictionary.safetensors"),),
        "training": (metrics.with_name("training.work.parquet"),),
        "metrics": (metrics.with_name("scores.work.parquet"),),
    }
    crosscoder(Job("crosscoder", job.inputs, made, job.settings, job.threads, job.core))
    point = SweepPoint.of(asdict(job.section("crosscoder", CrosscoderSettings)))
    scores = read_table(made["metrics"][0]).drop(columns="dict_size")
    if kind == "sae":
        scores = scores[scores["snapshot"] >= 0]  # pooling one snapshot says the same again
    scores = scores.assign(
        kind=kind, arm=point.arm, n_features=point.n_features, sparsity=point.sparsity, seed=point.seed
    )
    write_table(metrics, scores, SWEEP_METRICS, job.core)
    for paths in made.values():
        for path in paths:
            if path not in kept:
                path.unlink()
