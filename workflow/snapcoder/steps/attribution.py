"""Step `attribution`: which features carry each task that one snapshot can do, and how many of them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from snapcoder.job import Job
from snapcoder.language_model import load
from snapcoder.storage.dictionaries import Dictionary, read_dictionary, read_extension
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.json_file import read_json
from snapcoder.storage.prompts import PromptActivations, PromptError, read_prompts, require_same_prompts
from snapcoder.storage.tables import TableSchema, read_table, write_table
from snapcoder.storage.task_examples import Example, cluster_ids, read_examples, task_lines
from snapcoder.study.analysis import TaskSettings
from snapcoder.tables.tasks import ABLATION_CURVES, ATTRIBUTION, ATTRIBUTION_QUALITY
from snapcoder.tasks.ablation import ablation_curves, ablation_sizes, curve_rows, rankings
from snapcoder.tasks.attribution import TaskPrompts, attribute, metric_ends, path_gradient
from snapcoder.tasks.attribution_tables import attribution_rows, feature_ranking, not_acquired_row, quality_row
from snapcoder.tasks.continuation import Continuation, continue_from
from snapcoder.tasks.performance import task_performance
from snapcoder.tasks.prompt_codes import SnapshotDictionary, of_snapshot, prompt_codes
from snapcoder.tasks.selection import split_halves, task_rng

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Snapshot:
    """Everything about the snapshot that does not depend on the task."""

    step: int
    layer: int
    dictionary: Dictionary
    here: SnapshotDictionary
    base: Sequence[PromptActivations]
    own: PromptActivations


def attribution(job: Job) -> None:
    """Write attributions, their quality, and ablation curves of every task; tasks not acquired get a row that says so."""
    settings, step, layer = job.section("tasks", TaskSettings), int(job.value("step")), int(job.value("layer"))
    # From the snapshot's own scores, not from the table of all: adding a snapshot must not touch the others.
    scored, tasks = read_table(job.path("examples")), read_table(job.path("table"))
    here = task_performance(scored, tasks, bootstrap=settings.bootstrap, seed=settings.seed)
    acquired = [str(task) for task in here.loc[here["acquired"], "task"]]
    quality = [not_acquired_row(row, step=step, layer=layer) for _, row in here[~here["acquired"]].iterrows()]
    attributed: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    if acquired:
        examples, snapshot = read_examples(job.path("tasks")), _snapshot(job)
        halves = split_halves(task_lines(examples), cluster_ids(examples), largest=settings.attribution_examples)
        facts, device = job.path("facts"), torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load(facts.parent / read_json(facts)["folder"]).to(device)  # type: ignore[arg-type]
        with continue_from(model, layer=layer) as run:
            for task in acquired:
                ranking, evaluation = (_prompts(snapshot, examples, lines) for lines in halves[task])
                found = _carried(run, snapshot, ranking, evaluation, task, settings)
                attributed.append(found[0])
                quality.append(found[1])
                curves.append(found[2])
    write_table(job.output("attribution"), _joined(attributed, ATTRIBUTION), ATTRIBUTION, job.core)
    write_table(
        job.output("quality"), _joined([pd.DataFrame(quality)], ATTRIBUTION_QUALITY), ATTRIBUTION_QUALITY, job.core
    )
    write_table(job.output("curves"), _joined(curves, ABLATION_CURVES), ABLATION_CURVES, job.core)
    logger.info("attribution: step %d: %d of %d tasks acquired", step, len(acquired), len(quality))


def _snapshot(job: Job) -> _Snapshot:
    step, layer = int(job.value("step")), int(job.value("layer"))
    examples_sha256 = file_sha256(job.path("tasks"))
    dictionary = read_dictionary(job.path("dictionary"))
    by_step: dict[int, PromptActivations] = {}
    for path in (*job.paths("prompts"), job.path("own")):
        prompts = read_prompts(path)
        require_same_prompts(prompts, path, examples_sha256=examples_sha256, layer=layer)
        by_step[prompts.step] = prompts
    missing = [base for base in (*dictionary.steps, step) if base not in by_step]
    if missing:
        raise PromptError(f"no prompt activations of step {missing[0]}; rerun the step prompts for it")
    extensions = [read_extension(path) for path in job.paths("extension")]
    return _Snapshot(
        step=step,
        layer=layer,
        dictionary=dictionary,
        here=of_snapshot(dictionary, step, extensions[0] if extensions else None),
        base=[by_step[base] for base in dictionary.steps],
        own=by_step[step],
    )


def _prompts(snapshot: _Snapshot, examples: Sequence[Example], lines: np.ndarray) -> TaskPrompts:
    at = snapshot.own.positions(lines)
    codes = [
        prompt_codes(
            snapshot.dictionary,
            snapshot.here,
            [getattr(base, side)[base.positions(lines)] for base in snapshot.base],
            getattr(snapshot.own, side)[at],
        )
        for side in ("clean", "patch")
    ]
    lengths = [len(examples[line].clean_tokens) for line in lines]
    return TaskPrompts(
        examples=[examples[line] for line in lines],
        offset=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        clean=snapshot.own.clean[at],
        patch=snapshot.own.patch[at],
        delta=codes[0] - codes[1],
    )


def _carried(
    run: Continuation,
    snapshot: _Snapshot,
    ranking: TaskPrompts,
    evaluation: TaskPrompts,
    task: str,
    settings: TaskSettings,
) -> tuple[pd.DataFrame, dict[str, object], pd.DataFrame]:
    """Attribute on the ranking half, ablate on the evaluation half; return the rows of the three tables."""
    step, layer = snapshot.step, snapshot.layer
    path = path_gradient(run, ranking, points=settings.ig_steps)
    found = attribute(ranking, snapshot.here, path)
    ranked = rankings(
        feature_ranking(found),
        np.linalg.norm(snapshot.here.decoder, axis=1),
        np.asarray(abs(ranking.delta).sum(axis=0)).ravel() > 0,
        draws=settings.random_draws,
        rng=task_rng(f"random rankings of {task}", settings.seed),
    )
    ks = ablation_sizes(settings.k_grid, snapshot.dictionary.n_features)
    curves = ablation_curves(run, evaluation, snapshot.here, ranked, ks)
    return (
        attribution_rows(
            found, path, points=settings.ig_steps, top=settings.top_features, task=task, step=step, layer=layer
        ),
        quality_row(found, path, task=task, step=step, layer=layer),
        curve_rows(
            curves,
            metric_ends(run, evaluation)[1],
            cluster_ids(evaluation.examples),
            bootstrap=settings.bootstrap,
            seed=settings.seed,
            task=task,
            step=step,
            layer=layer,
        ),
    )


def _joined(frames: list[pd.DataFrame], schema: TableSchema) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return pd.DataFrame(columns=[column.name for column in schema.columns])
