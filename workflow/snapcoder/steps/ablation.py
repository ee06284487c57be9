"""Step `ablation`: how many features carry each task that one snapshot can do."""

import logging

import numpy as np
import pandas as pd
import torch

from snapcoder.attribution.ablation import ablation_curves, ablation_sizes, curve_rows, rankings
from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.gradients import metric_ends
from snapcoder.attribution.rows import feature_order
from snapcoder.attribution.task_prompts import read_snapshot_prompts
from snapcoder.job import Job
from snapcoder.language_model import load
from snapcoder.storage.json_file import read_json
from snapcoder.storage.tables import joined, read_table, write_table
from snapcoder.storage.task_examples import cluster_ids
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.attribution import primary_attribution
from snapcoder.tables.tasks import ABLATION_CURVES
from snapcoder.tasks.selection import task_rng

logger = logging.getLogger(__name__)


def ablation(job: Job) -> None:
    """Write the ablation curves of every task that was attributed at this snapshot."""
    settings, step, layer = job.section("tasks", TaskSettings), int(job.value("step")), int(job.value("layer"))
    attributed = primary_attribution(read_table(job.path("attribution")))
    curves: list[pd.DataFrame] = []
    if len(attributed):
        snapshot = read_snapshot_prompts(
            job.path("tasks"),
            (*job.paths("prompts"), job.path("own")),
            job.path("dictionary"),
            job.paths("extension"),
            step=step,
            layer=layer,
            largest=settings.attribution_examples,
        )
        ks = ablation_sizes(settings.k_grid, snapshot.dictionary.n_features)
        facts, device = job.path("facts"), torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load(facts.parent / read_json(facts)["folder"]).to(device)  # type: ignore[arg-type]
        with continue_from(model, layer=layer) as run:
            for task, of_task in attributed.groupby("task"):
                evaluation = snapshot.evaluation(str(task))
                ranked = rankings(
                    feature_order(of_task, n_features=snapshot.dictionary.n_features),
                    np.linalg.norm(snapshot.here.decoder, axis=1),
                    np.asarray(abs(snapshot.ranking(str(task)).delta).sum(axis=0)).ravel() > 0,
                    draws=settings.random_draws,
                    rng=task_rng(f"random rankings of {task}", settings.seed),
                )
                curves.append(
                    curve_rows(
                        ablation_curves(run, evaluation, snapshot.here, ranked, ks),
                        metric_ends(run, evaluation)[1],
                        cluster_ids(evaluation.examples),
                        bootstrap=settings.bootstrap,
                        seed=settings.seed,
                        task=str(task),
                        step=step,
                        layer=layer,
                    )
                )
    write_table(job.output("curves"), joined(curves, ABLATION_CURVES), ABLATION_CURVES, job.core)
    logger.info("ablation: step %d: %d tasks", step, len(curves))
