"""Step `activations`: capture the residual stream of one snapshot after one block, for the rows that all snapshots share."""

import logging

import torch

from snapcoder.capture.capture import captured_blocks
from snapcoder.capture.rows import select_rows
from snapcoder.job import Job
from snapcoder.language_model import load
from snapcoder.storage.activations import write_cache
from snapcoder.storage.json_file import read_json
from snapcoder.storage.tokens import read_tokens
from snapcoder.study.activations import ActivationSettings

logger = logging.getLogger(__name__)
_NOTABLE_NOISE = 1e-3  # of the variance: what explained variance may lose by the rounding of stored values


def activations(job: Job) -> None:
    """Write the activation cache of one snapshot and layer."""
    settings, layer, step = job.section("activations", ActivationSettings), job.value("layer"), job.value("step")
    torch.set_num_threads(job.threads)
    facts_path = job.path("facts")
    facts, table = read_json(facts_path), read_tokens(job.path("tokens"))
    if facts["step"] != step:
        raise ValueError(f"{facts_path}: describes step {facts['step']}, not step {step}; delete it and rerun")
    rows = select_rows(table, settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load(facts_path.parent / facts["folder"])
    torch.nn.Module.to(model, device)
    header = write_cache(
        job.output("cache"),
        captured_blocks(model, table, rows, layer=layer, batch_size=settings.batch_size, device=device),
        rows=rows,
        step=step,
        layer=layer,
        site=f"blocks.{layer}.resid_post",
        d_model=facts["d_model"],
        dtype=settings.dtype,
        provenance=job.core,
    )
    if header.noise_share > _NOTABLE_NOISE:
        logger.warning(
            "%s: storing as %s loses %.2g of the variance; set activations.dtype to float16 or float32 to keep it",
            job.output("cache"),
            settings.dtype,
            header.noise_share,
        )
