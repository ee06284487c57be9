"""Fit an added snapshot's share of a frozen dictionary."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array
from torch import Tensor

from snapcoder.crosscoder.codes import stack_rows
from snapcoder.crosscoder.extension import (
    Adapted,
    SnapshotDecoder,
    adapt,
    code_correlation,
    gated_fit,
    neighbours,
    ridge_decoder,
)
from snapcoder.crosscoder.gates import gate_norms
from snapcoder.crosscoder.metrics import reconstruction_scores
from snapcoder.crosscoder.model import encode, from_dictionary
from snapcoder.crosscoder.normalise import Normaliser, fit_normaliser
from snapcoder.job import Job
from snapcoder.storage.activations import BLOCK_ROWS, read_cache
from snapcoder.storage.aligned import iterate_aligned, read_aligned_headers
from snapcoder.storage.codes import Codes, read_codes, write_codes
from snapcoder.storage.dictionaries import Dictionary, Extension, read_dictionary, write_extension
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.crosscoder import CrosscoderSettings, ExtensionSettings
from snapcoder.tables.crosscoder import EXTENSION_METRICS


def extension(job: Job) -> None:
    """Fit the decoder of one added snapshot, at level `adapted` also its own encoder term; write both and the scores."""
    settings = job.section("crosscoder", CrosscoderSettings)
    torch.set_num_threads(job.threads)
    dictionary, codes = read_dictionary(job.path("dictionary")), read_codes(job.path("codes"))
    caches = (*job.paths("caches"), job.path("cache"))
    rows, headers = read_aligned_headers(caches)
    if rows.sha256 != codes.rows.sha256:
        raise ValueError(f"{job.path('codes')}: was made of other tokens than {job.path('cache')}; delete it and rerun")
    step, n_train = headers[-1].step, int((rows.split == 0).sum())
    normaliser = fit_normaliser(headers[-1:], center=settings.center)
    x = normaliser.normalise(torch.from_numpy(read_cache(job.path("cache")))[:, None])[:, 0]  # [row, model]

    ridge, frozen_code = settings.extension.ridge, codes.z
    ungated = ridge_decoder(frozen_code[:n_train], x[:n_train].numpy(), ridge=ridge)
    frozen = ungated
    if dictionary.gate == "per_snapshot":
        frozen, frozen_code = gated_fit(ungated, codes.z, x.numpy(), dictionary.threshold, n_train=n_train, ridge=ridge)
    fitted = [("frozen", frozen, frozen_code)]
    result = _frozen_file(dictionary, frozen, normaliser, step=step)
    base = read_table(job.path("metrics")).set_index("snapshot")
    nearest = base.loc[neighbours(step, dictionary.steps)]
    if settings.extension.level == "adapted":
        target = float(nearest["l0"].mean())
        # From the ungated fit, so that features that are off now can come on.
        own, code = _adapt(
            job.paths("caches"), dictionary, ungated, x, n_train, target, settings.extension, settings.seed
        )
        decoder = SnapshotDecoder(own.decoder.numpy().astype(np.float64), own.decoder_bias.numpy().astype(np.float64))
        fitted.append(("adapted", decoder, code))
        result = _adapted_file(own, normaliser, step=step, layer=dictionary.layer)
    records = []
    for level, decoder, code in fitted:
        held = code[n_train:]
        ev, ev_legacy, nrmse = reconstruction_scores(x[n_train:].numpy(), decoder.reconstruct(held))
        records.append(
            {
                "layer": dictionary.layer,
                "step": step,
                "level": level,
                "ev": ev,
                "ev_legacy": ev_legacy,
                "ev_neighbours": float(nearest["ev"].mean()),
                "l0": held.nnz / held.shape[0],
                "nrmse": nrmse,
                "code_correlation": code_correlation(held, frozen_code[n_train:]),
                "extrapolated": not min(dictionary.steps) <= step <= max(dictionary.steps),
                "used": level == fitted[-1][0],
            }
        )
    write_extension(job.output("extension"), result, job.core)
    write_codes(job.output("codes"), Codes(z=fitted[-1][2], rows=rows), job.core)
    write_table(job.output("metrics"), pd.DataFrame(records), EXTENSION_METRICS, job.core)


def _adapt(
    caches: Sequence[Path],
    dictionary: Dictionary,
    start: SnapshotDecoder,
    x: Tensor,
    n_train: int,
    l0: float,
    settings: ExtensionSettings,
    seed: int,
) -> tuple[Adapted, csr_array]:
    """Train the own term on the first train rows, then return it with its gated code of all rows."""
    parameters, base = from_dictionary(dictionary), Normaliser.of(dictionary.center, dictionary.scale)
    n_fit = min(n_train, settings.rows)
    parts = []
    for number, block in enumerate(iterate_aligned(caches)):
        if number * BLOCK_ROWS >= n_fit:
            break
        # Training only ever sees these through bfloat16 products; the final code below is exact.
        parts.append(encode(parameters, base.normalise(torch.from_numpy(block)), precision="bf16"))
    z = torch.cat(parts)[:n_fit]
    own = adapt(
        start, z, x[:n_fit], l0=l0, steps=settings.steps, lr=settings.lr, batch_size=settings.batch_size, seed=seed
    )
    del z, parts
    coded = []
    for number, block in enumerate(iterate_aligned(caches)):
        at = number * BLOCK_ROWS
        exact = encode(parameters, base.normalise(torch.from_numpy(block)))
        coded.append(own.code(exact, x[at : at + len(block)]))
    return own, stack_rows(coded, n_features=dictionary.n_features)


def _frozen_file(dictionary: Dictionary, fitted: SnapshotDecoder, normaliser: Normaliser, *, step: int) -> Extension:
    threshold = dictionary.threshold
    if dictionary.gate == "shared":
        # z · ‖decoder‖ > threshold must say the same as the base's z · rms > θ, whatever this snapshot's norm is.
        rms = gate_norms(torch.from_numpy(dictionary.decoder_norms()), gate="shared")[0].numpy()
        threshold = threshold * fitted.norms() / np.maximum(rms, np.finfo(np.float32).tiny)
    d_model = fitted.decoder.shape[1]
    return Extension(
        decoder=fitted.decoder,
        decoder_bias=fitted.bias,
        scale=float(normaliser.scale[0]),
        center=normaliser.center[0].numpy(),
        encoder=np.zeros((d_model, dictionary.n_features), dtype=np.float32),
        encoder_bias=np.zeros(dictionary.n_features, dtype=np.float32),
        threshold=threshold,
        step=step,
        level="frozen",
        layer=dictionary.layer,
    )


def _adapted_file(own: Adapted, normaliser: Normaliser, *, step: int, layer: int) -> Extension:
    return Extension(
        decoder=own.decoder.numpy(),
        decoder_bias=own.decoder_bias.numpy(),
        scale=float(normaliser.scale[0]),
        center=normaliser.center[0].numpy(),
        encoder=own.encoder.numpy(),
        encoder_bias=own.encoder_bias.numpy(),
        threshold=np.full(len(own.encoder_bias), own.threshold, dtype=np.float32),
        step=step,
        level="adapted",
        layer=layer,
    )
