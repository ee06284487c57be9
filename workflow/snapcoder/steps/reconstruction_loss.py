"""Step `reconstruction_loss`: text and tasks of one snapshot, read through the dictionary's reconstruction."""

import logging

import numpy as np
from scipy.sparse import csr_array

from snapcoder.attribution.continuation import continue_from
from snapcoder.attribution.reconstruction import (
    HeldOutText,
    gated,
    held_out_text,
    loss_rows,
    reconstruction,
    text_losses,
)
from snapcoder.attribution.task_prompts import read_snapshot_prompts
from snapcoder.attribution.task_reconstruction import task_rows
from snapcoder.job import Job
from snapcoder.language_model import load_snapshot
from snapcoder.storage.activations import CacheError, read_header
from snapcoder.storage.codes import read_code_rows, read_codes_header, read_codes_of
from snapcoder.storage.tables import joined, write_table
from snapcoder.storage.tokens import read_tokens
from snapcoder.study.analysis import TaskSettings
from snapcoder.study.evaluation import EvaluationSettings
from snapcoder.tables.downstream import RECONSTRUCTION_LOSS, TASK_RECONSTRUCTION

logger = logging.getLogger(__name__)


def reconstruction_loss(job: Job) -> None:
    """Write the losses of held-out text and the scores of all tasks, clean, reconstructed and ablated."""
    evaluation, tasks = job.section("evaluation", EvaluationSettings), job.section("tasks", TaskSettings)
    step, layer = int(job.value("step")), int(job.value("layer"))
    snapshot = read_snapshot_prompts(
        job.path("tasks"),
        (*job.paths("prompts"), job.path("own")),
        job.path("dictionary"),
        job.paths("extension"),
        step=step,
        layer=layer,
        largest=tasks.attribution_examples,
    )
    model = load_snapshot(job.path("facts"))
    text, code, mean = _held_out(job, evaluation)
    code = code if job.paths("own_codes") else gated(code, snapshot.here)
    losses = text_losses(model, text, lambda rows: reconstruction(code[rows], snapshot.here), mean=mean, layer=layer)
    where = {"step": step, "layer": layer}
    rows = loss_rows(losses, **where, bootstrap=evaluation.bootstrap, seed=evaluation.seed)
    write_table(job.output("losses"), rows, RECONSTRUCTION_LOSS, job.core)
    with continue_from(model, layer=layer) as run:
        scored = task_rows(run, snapshot, **where, bootstrap=tasks.bootstrap, seed=tasks.seed)
    write_table(job.output("tasks"), joined([scored], TASK_RECONSTRUCTION), TASK_RECONSTRUCTION, job.core)
    loss = rows.set_index("activation")["loss"]
    logger.info(
        "reconstruction: step %d: loss %.3f clean, %.3f reconstructed, %.3f with the mean", step,
        loss["clean"], loss["reconstructed"], loss["mean"],
    )  # fmt: skip


def _held_out(job: Job, settings: EvaluationSettings) -> tuple[HeldOutText, csr_array, np.ndarray]:
    """Return the text, the codes of its cached rows (an added snapshot's own are gated already) and the mean activation."""
    header, shared = read_header(job.path("cache")), job.path("codes")
    rows, own = read_code_rows(shared), job.paths("own_codes")
    for path, sha256 in [
        (job.path("cache"), header.rows_sha256),
        *((path, read_codes_header(path).rows_sha256) for path in own),
    ]:
        if sha256 != rows.sha256:
            raise CacheError(f"{path}: holds other tokens than {shared}; delete it and rerun")
    text = held_out_text(read_tokens(job.path("tokens")), rows, sequences=settings.sequences, seed=settings.seed)
    return text, read_codes_of(own[0] if own else shared, text.cached), header.mean
