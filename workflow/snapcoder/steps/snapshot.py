"""Step `snapshot`: describe one snapshot that lies on this machine as a Hugging Face checkpoint."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from snapcoder.job import Job
from snapcoder.language_model import load
from snapcoder.snapshots.fixed_batch import fixed_batch
from snapcoder.snapshots.integrity import describe_snapshot, fixed_batch_loss
from snapcoder.storage.json_file import write_json
from snapcoder.storage.tokens import TokenTable, read_tokens


def snapshot(job: Job) -> None:
    """Write snapshot.json: hashes, tensor fingerprint, and the loss on the study's fixed batch."""
    folder, step = Path(job.value("folder")), job.value("step")
    table = read_tokens(job.path("tokens"))
    model = load(folder)
    _require_fit(model, table, folder)
    fixed = torch.from_numpy(fixed_batch(table, job.value("fixed_batch")))
    per_step = job.value("tokens_per_step")
    described = describe_snapshot(
        folder,
        step=step,
        tokens=None if per_step is None else step * per_step,
        source="local",
        location=str(folder.resolve()),
        n_parameters=model.num_parameters(),
        loss=fixed_batch_loss(model, fixed, batch_size=8),
    )
    write_json(job.output("facts"), described, job.core)


def _require_fit(model: PreTrainedModel, table: TokenTable, folder: Path) -> None:
    n_embeddings = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[index]
    largest = max(int(table.tokens.max()), table.vocab_size - 1)
    if largest >= n_embeddings:
        raise ValueError(
            f"{folder}: the model knows {n_embeddings} tokens, the corpus uses {largest + 1}; "
            "set corpus.tokenizer.path to the model's own tokenizer.json"
        )
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and table.context_length > longest:
        raise ValueError(
            f"{folder}: the model reads {longest} positions, sequences have {table.context_length}; "
            "lower corpus.context_length"
        )
