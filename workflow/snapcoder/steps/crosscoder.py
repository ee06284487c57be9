"""Train the dictionary of one layer on the caches of all base snapshots."""

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from snapcoder.crosscoder.checkpoints import CheckpointFile
from snapcoder.crosscoder.device import choose_device
from snapcoder.crosscoder.metrics import Scores, evaluate
from snapcoder.crosscoder.normalise import Normaliser, fit_normaliser
from snapcoder.crosscoder.training import Rows, Trained, train
from snapcoder.job import Job
from snapcoder.storage.aligned import open_aligned, read_aligned_headers
from snapcoder.storage.dictionaries import Dictionary, write_dictionary
from snapcoder.storage.hashing import json_sha256
from snapcoder.storage.tables import write_table
from snapcoder.study.crosscoder import CrosscoderSettings
from snapcoder.tables.crosscoder import CROSSCODER_TRAINING, RECON_METRICS

logger = logging.getLogger(__name__)
_BATCH = 4096


def crosscoder(job: Job) -> None:
    """Train, score on held-out rows, and write the dictionary with its two tables.

    A resumable state is kept in a folder beside the dictionary, which Snakemake does not know and so leaves alone when
    the job is killed; it belongs to one set of settings, inputs and code, and goes when the job is done.
    """
    settings = job.section("crosscoder", CrosscoderSettings)
    layer = int(job.value("layer"))
    torch.set_num_threads(job.threads)
    device = choose_device(settings.device)
    rows, headers = read_aligned_headers(job.paths("caches"))
    n_train = int((rows.split == 0).sum())
    normaliser = fit_normaliser(headers, center=settings.center)
    work = job.output("dictionary").with_name("dictionary.work")
    key = json_sha256([job.core, job.settings, [header.content_sha256 for header in headers]])
    checkpoint = CheckpointFile(work / "checkpoint.safetensors", key)
    memory_bytes = int(settings.memory_gb * 2**30)
    with open_aligned(
        job.paths("caches"), headers, memory_bytes=memory_bytes, scratch=work / "activations.raw"
    ) as activations:
        read = reader(activations, normaliser.to(device))
        n_heldout = len(rows) - n_train
        trained = train(read, n_train=n_train, n_heldout=n_heldout, settings=settings, checkpoint=checkpoint)

        def heldout() -> Iterable[Tensor]:
            return (read(np.arange(at, min(at + _BATCH, len(rows)))) for at in range(n_train, len(rows), _BATCH))

        scores = evaluate(
            trained.parameters, trained.threshold, heldout, gate=settings.gate, scale=normaliser.scale.numpy()
        )
    steps = tuple(header.step for header in headers)
    logger.info("crosscoder: held-out explained variance %.3f at L0 %.1f", scores[-1].ev, scores[-1].l0)
    write_table(job.output("training"), training_table(trained, steps, layer), CROSSCODER_TRAINING, job.core)
    write_table(
        job.output("metrics"), metrics_table(scores, steps, layer, settings.n_features), RECON_METRICS, job.core
    )
    dictionary = to_dictionary(trained, normaliser, steps=steps, settings=settings, layer=layer)
    write_dictionary(job.output("dictionary"), dictionary, job.core)
    checkpoint.remove()


def reader(activations: np.ndarray, normaliser: Normaliser) -> Rows:
    """Return a function that gathers rows of [row, snapshot, model] and normalises them on the normaliser's device."""
    stored = torch.from_numpy(activations)

    def read(indices: np.ndarray) -> Tensor:
        return normaliser.normalise(stored[torch.from_numpy(indices)].to(normaliser.center.device))

    return read


def to_dictionary(
    trained: Trained, normaliser: Normaliser, *, steps: tuple[int, ...], settings: CrosscoderSettings, layer: int
) -> Dictionary:
    """Put a trained crosscoder and its stored scales together as a dictionary."""
    weights = {name: tensor.cpu().numpy() for name, tensor in trained.parameters.named().items()}
    return Dictionary(
        encoder=weights["encoder"],
        decoder=weights["decoder"],
        encoder_bias=weights["encoder_bias"],
        decoder_bias=weights["decoder_bias"],
        threshold=trained.threshold.cpu().numpy(),
        scale=normaliser.scale.numpy(),
        center=normaliser.center.numpy(),
        steps=steps,
        gate=settings.gate,
        arm=settings.arm,
        layer=layer,
    )


def training_table(trained: Trained, steps: tuple[int, ...], layer: int) -> pd.DataFrame:
    """Return the history as the table `crosscoder_training`."""
    frame = pd.DataFrame(trained.history)
    frame["step"] = np.array(steps)[frame.pop("snapshot").to_numpy(dtype=int)]
    return frame.assign(layer=layer)


def metrics_table(scores: list[Scores], steps: tuple[int, ...], layer: int, n_features: int) -> pd.DataFrame:
    """Return the scores as the table `recon_metrics`; the pooled row has no step."""
    frame = pd.DataFrame([vars(score) for score in scores])
    frame["step"] = pd.array([*steps, None], dtype="Int64")
    return frame.assign(layer=layer, dict_size=n_features)
