"""Step `untrained`: one untrained model of the study's architecture, in the place of a snapshot."""

import torch
from safetensors.torch import save_file

from snapcoder.job import Job
from snapcoder.snapshots.fixed_batch import fixed_batch
from snapcoder.snapshots.integrity import describe_snapshot, fixed_batch_loss
from snapcoder.snapshots.untrained import untrained_model
from snapcoder.storage.atomic import atomic_path, write_text
from snapcoder.storage.json_file import write_json
from snapcoder.storage.tokens import read_tokens


def untrained(job: Job) -> None:
    """Write weights, configuration and facts of one initialisation; its number is its seed."""
    number, table = int(job.value("step")), read_tokens(job.path("tokens"))
    # Seeds far from those of pre-training, so that none of these models is the study's own step 0.
    model = untrained_model(job.path("config"), seed=1_000_000 + number)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    tied = set(model.all_tied_weights_keys or ())
    with atomic_path(job.output("weights")) as part:
        kept = {name: tensor for name, tensor in tensors.items() if name not in tied}
        save_file(kept, part, metadata={"format": "pt"})
    write_text(job.output("config"), model.config.to_json_string(use_diff=False))
    described = describe_snapshot(
        job.output("facts").parent,
        step=number,
        tokens=0,
        source="untrained",
        location=".",
        loss=fixed_batch_loss(model, torch.from_numpy(fixed_batch(table, job.value("fixed_batch")))),
        n_parameters=model.num_parameters(),
    )
    write_json(job.output("facts"), described, job.core)
