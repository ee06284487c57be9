"""Step `pretrain`: train the study's language model and write its snapshots.

Snakemake deletes the declared outputs of a killed job. So weights and checkpoints grow in a work folder that is not
declared, get their final names once everything is there, and the work folder goes last: a kill at any moment costs at
most the updates since the last checkpoint.
"""

import logging
import math
import os
import shutil
from pathlib import Path

import pandas as pd
import torch

from snapcoder.job import Job
from snapcoder.snapshots.checkpoint import checkpoint_losses, restore_checkpoint, save_checkpoint, save_weights
from snapcoder.snapshots.fixed_batch import fixed_batch
from snapcoder.snapshots.integrity import describe_snapshot, fixed_batch_loss
from snapcoder.snapshots.pretrain import TrainingState, initial_state, model_config, train
from snapcoder.storage.atomic import atomic_path, write_text
from snapcoder.storage.hashing import json_sha256
from snapcoder.storage.json_file import write_json
from snapcoder.storage.tables import write_table
from snapcoder.storage.tokens import TRAIN, read_tokens
from snapcoder.study.snapshots import PretrainSettings
from snapcoder.tables.snapshots import TRAINING_LOG

logger = logging.getLogger("snapcoder.pretrain")


def pretrain(job: Job) -> None:
    """Write weights, configuration and facts of every saved step, and the training log."""
    settings = job.section("pretrain", PretrainSettings)
    table = read_tokens(job.path("tokens"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(job.threads)
    train_tokens = torch.from_numpy(table.tokens[table.sequences(TRAIN)].astype("int64")).to(device)
    fixed = torch.from_numpy(fixed_batch(table, job.value("fixed_batch"))).to(device)
    config = model_config(
        settings, vocab_size=table.vocab_size, context_length=table.context_length, end_of_text=table.end_of_text
    )
    state = initial_state(settings, config, device=device)
    work, key = work_folder(job.output("log")), json_sha256(job.core)
    losses = _resumed(work, state, key)

    def snapshot(at: TrainingState) -> None:
        save_weights(_saved(work, at.step), at)
        at.model.eval()
        losses[at.step] = fixed_batch_loss(at.model, fixed)
        if not math.isfinite(losses[at.step]):
            raise ValueError(f"training diverged: the held-out loss at step {at.step} is not finite; lower pretrain.lr")
        at.model.train()

    def checkpoint(at: TrainingState) -> None:
        save_checkpoint(work / "checkpoint.safetensors", at, key=key, losses=losses)

    train(state, train_tokens, settings, on_snapshot=snapshot, on_checkpoint=checkpoint)
    checkpoint(state)  # so that a kill from here on does not train again
    for index, step in enumerate(sorted(settings.save_steps)):
        _publish(_saved(work, step), job.outputs["weights"][index])
        write_text(job.outputs["configs"][index], config.to_json_string(use_diff=False))
        facts = job.outputs["facts"][index]
        described = describe_snapshot(
            facts.parent,
            step=step,
            tokens=step * settings.batch_size * table.context_length,
            source="pretrain",
            location=".",
            loss=losses[step],
            n_parameters=state.model.num_parameters(),
        )
        write_json(facts, described, job.core)
    write_table(job.output("log"), pd.DataFrame(state.log), TRAINING_LOG, job.core)
    shutil.rmtree(work)


def work_folder(log: Path) -> Path:
    """Return where training keeps what it needs to go on after a kill, from the path of the training log."""
    return log.parent.parent / "snapshots" / ".pretrain"


def _saved(work: Path, step: int) -> Path:
    return work / f"step{step}.safetensors"


def _publish(saved: Path, final: Path) -> None:
    """Give finished weights their final name without losing them in the work folder."""
    with atomic_path(final) as part:
        try:
            os.link(saved, part)
        except OSError:  # a file system without hard links
            shutil.copyfile(saved, part)


def _resumed(work: Path, state: TrainingState, key: str) -> dict[int, float]:
    """Restore the last checkpoint of this very job; whatever else lies in the work folder belongs to another one."""
    checkpoint = work / "checkpoint.safetensors"
    if checkpoint.is_file():
        losses = checkpoint_losses(checkpoint, key=key)
        if losses is not None and all(_saved(work, step).is_file() for step in losses):
            restore_checkpoint(checkpoint, state, key=key)
            logger.info("pre-training: resuming from step %d", state.step)
            return losses
        logger.info("pre-training: the work folder belongs to other settings, text or code; starting afresh")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return {}
