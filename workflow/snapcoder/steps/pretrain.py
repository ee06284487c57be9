"""Train the study's language model and write its snapshots.

Snakemake deletes the declared outputs of a killed job. So weights and checkpoints grow in a work folder that is not
declared, and are copied to their final names once everything is there.
"""

import logging
import shutil
from pathlib import Path

import pandas as pd
import torch

from snapcoder.job import Job
from snapcoder.snapshots.checkpoint import restore_checkpoint, save_checkpoint, save_weights
from snapcoder.snapshots.integrity import describe_snapshot, fixed_batch_loss
from snapcoder.snapshots.pretrain import TrainingState, initial_state, model_config, train
from snapcoder.storage.atomic import atomic_path, write_text
from snapcoder.storage.hashing import json_sha256
from snapcoder.storage.json_file import write_json
from snapcoder.storage.tables import write_table
from snapcoder.storage.tokens import HELDOUT, TRAIN, read_tokens
from snapcoder.study.snapshots import PretrainSettings
from snapcoder.tables.snapshots import TRAINING_LOG

logger = logging.getLogger("snapcoder.pretrain")


def pretrain(job: Job) -> None:
    """Write weights, configuration and facts of every saved step, and the training log."""
    settings = job.section("pretrain", PretrainSettings)
    table = read_tokens(job.path("tokens"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(job.threads)
    tokens = torch.from_numpy(table.tokens.astype("int64"))
    train_tokens = tokens[table.split == TRAIN].to(device)
    fixed = tokens[table.split == HELDOUT][: job.value("fixed_batch")].to(device)
    config = model_config(
        settings, vocab_size=table.vocab_size, context_length=table.context_length, end_of_text=table.end_of_text
    )
    state = initial_state(settings, config, device=device)
    work, key = job.output("log").parent.parent / "snapshots" / ".pretrain", json_sha256(job.core)
    losses = _resumed(work, state, key)

    def snapshot(at: TrainingState) -> None:
        save_weights(work / f"step{at.step}.safetensors", at)
        at.model.eval()
        losses[at.step] = fixed_batch_loss(at.model, fixed)
        at.model.train()

    def checkpoint(at: TrainingState) -> None:
        save_checkpoint(work / "checkpoint.safetensors", at, key=key, losses=losses)

    train(state, train_tokens, settings, on_snapshot=snapshot, on_checkpoint=checkpoint)
    checkpoint(state)  # so that a kill during the copying below does not train again
    tokens_per_step = settings.batch_size * table.context_length
    for index, step in enumerate(sorted(settings.save_steps)):
        weights, facts = job.outputs["weights"][index], job.outputs["facts"][index]
        with atomic_path(weights) as part:
            shutil.copyfile(work / f"step{step}.safetensors", part)
        write_text(job.outputs["configs"][index], config.to_json_string(use_diff=False))
        described = describe_snapshot(
            facts.parent, step=step, tokens=step * tokens_per_step, source="pretrain", location=".", loss=losses[step]
        )
        write_json(facts, described, job.core)
    write_table(job.output("log"), pd.DataFrame(state.log), TRAINING_LOG, job.core)
    shutil.rmtree(work)


def _resumed(work: Path, state: TrainingState, key: str) -> dict[int, float]:
    """Restore the last checkpoint of this very job; whatever else lies in the work folder belongs to another one."""
    checkpoint = work / "checkpoint.safetensors"
    losses = restore_checkpoint(checkpoint, state, key=key) if checkpoint.is_file() else None
    if losses is not None and all((work / f"step{step}.safetensors").is_file() for step in losses):
        logger.info("pre-training: resuming from step %d", state.step)
        return losses
    if losses is not None:
        raise ValueError(f"{work}: weights of a finished step are gone; delete the folder and rerun")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return {}
