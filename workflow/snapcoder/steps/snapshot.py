"""Describe one snapshot that lies on this machine as a Hugging Face checkpoint."""

from pathlib import Path

import torch

from snapcoder.job import Job
from snapcoder.language_model import load
from snapcoder.snapshots.integrity import describe_snapshot, fixed_batch_loss
from snapcoder.storage.json_file import write_json
from snapcoder.storage.tokens import HELDOUT, read_tokens


def snapshot(job: Job) -> None:
    """Write snapshot.json: hashes, tensor fingerprint, and the loss on the study's fixed batch."""
    folder, step = Path(job.value("folder")), job.value("step")
    table = read_tokens(job.path("tokens"))
    model = load(folder)
    n_embeddings = int(model.get_input_embeddings().weight.shape[0])
    if table.vocab_size > n_embeddings:
        raise ValueError(
            f"{folder}: the model knows {n_embeddings} tokens, the corpus uses {table.vocab_size}; "
            "set corpus.tokenizer.path to the model's own tokenizer.json"
        )
    fixed = torch.from_numpy(table.tokens[table.split == HELDOUT][: job.value("fixed_batch")].astype("int64"))
    per_step = job.value("tokens_per_step")
    described = describe_snapshot(
        folder,
        step=step,
        tokens=None if per_step is None else step * per_step,
        source="local",
        location=str(folder.resolve()),
        loss=fixed_batch_loss(model, fixed, batch_size=8),
    )
    write_json(job.output("facts"), described, job.core)
