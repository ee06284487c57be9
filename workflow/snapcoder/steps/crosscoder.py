"""Train the dictionary of one layer on all base snapshots: on their caches, or on activations made while it trains."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from snapcoder.crosscoder.metrics import Scores, evaluate
from snapcoder.crosscoder.normalise import Normaliser, fit_normaliser
from snapcoder.crosscoder.pools import STREAM_POOL_TOKENS, deal_pools, first_rows
from snapcoder.crosscoder.processes import is_started, joined, own_checkpoint, own_device, own_shard, require_gpus
from snapcoder.crosscoder.rows_ahead import RowsAhead
from snapcoder.crosscoder.schedules import batch_rows
from snapcoder.crosscoder.sharding import Shard, choose_axis
from snapcoder.crosscoder.training import Order, Rows, Trained, train
from snapcoder.job import Job
from snapcoder.ranks import run_in_ranks
from snapcoder.storage.activations import CacheHeader, RowTable
from snapcoder.storage.aligned import AlignedRows, open_aligned, read_aligned_headers
from snapcoder.storage.dictionaries import Dictionary, write_dictionary
from snapcoder.storage.hashing import json_sha256
from snapcoder.storage.json_file import read_json
from snapcoder.storage.tables import write_table
from snapcoder.storage.tokens import TokenTable, read_tokens
from snapcoder.study.activations import ActivationSettings
from snapcoder.study.crosscoder import CrosscoderSettings
from snapcoder.tables.crosscoder import CROSSCODER_TRAINING, RECON_METRICS

logger = logging.getLogger(__name__)
_BATCH = 4096


def crosscoder(job: Job) -> None:
    """Train, score on held-out rows, and write the dictionary with its two tables.

    A resumable state is kept in a folder beside the dictionary, which Snakemake does not know and so leaves alone when
    the job is killed; it belongs to one set of settings, inputs and code, and goes when the job is done. With several
    GPUs, as many processes are started, each of which calls this function and trains its part.
    """
    settings = job.section("crosscoder", CrosscoderSettings)
    torch.set_num_threads(job.threads)
    rows, headers = read_aligned_headers(job.paths("caches"))
    sizes = {"n_features": settings.n_features, "n_snapshots": len(headers), "d_model": headers[0].d_model}
    if settings.gpus > 1 and not is_started():
        require_gpus(settings.device, settings.gpus)
        choose_axis(settings.sharding, **sizes, n_ranks=settings.gpus)  # refused here, before any process starts
        run_in_ranks(job, settings.gpus)
        return
    device = own_device(settings.device)
    with joined(device):
        shard = own_shard(device, sharding=settings.sharding, **sizes)
        _train_and_write(job, settings, rows, headers, shard, device)


def _train_and_write(
    job: Job,
    settings: CrosscoderSettings,
    rows: RowTable,
    headers: Sequence[CacheHeader],
    shard: Shard,
    device: torch.device,
) -> None:
    """Train the part of this process; the first process writes the whole."""
    normaliser = fit_normaliser(headers, center=settings.center)
    work = job.output("dictionary").with_name("dictionary.work")
    checkpoint = own_checkpoint(work, _state_key(job, headers), shard, gate=settings.gate)
    # A study that streams also passes the settings of its activations.
    open_data = _streamed if "activations" in job.settings else _cached
    part, scratch = shard.reads, work / f"activations.{shard.rank}.raw"
    own_normaliser = Normaliser(normaliser.center[part], normaliser.scale[part]).to(device)
    own_settings = replace(settings, memory_gb=settings.memory_gb / shard.n_ranks)
    with open_data(_part_of(job, part), own_settings, rows, headers[part], own_normaliser, scratch) as own:
        data = replace(own, read=lambda indices: shard.complete_rows(own.read(indices)))
        trained = train(
            data.read,
            n_train=data.n_train,
            n_heldout=data.n_heldout,
            settings=settings,
            order=data.order,
            checkpoint=checkpoint,
            shard=shard,
        )

        def heldout() -> Iterable[Tensor]:
            start, stop = data.n_train, data.n_train + data.n_heldout
            return (data.read(np.arange(at, min(at + _BATCH, stop))) for at in range(start, stop, _BATCH))

        scores = evaluate(
            trained.parameters,
            trained.threshold,
            heldout,
            gate=settings.gate,
            scale=normaliser.scale.numpy(),
            shard=shard,
        )
    trained = trained.whole(shard)
    if shard.rank == 0:
        _write(job, settings, trained, scores, normaliser, headers)
    checkpoint.remove()


def _write(
    job: Job,
    settings: CrosscoderSettings,
    trained: Trained,
    scores: list[Scores],
    normaliser: Normaliser,
    headers: Sequence[CacheHeader],
) -> None:
    layer, steps = int(job.value("layer")), tuple(header.step for header in headers)
    logger.info("crosscoder: held-out explained variance %.3f at L0 %.1f", scores[-1].ev, scores[-1].l0)
    write_table(job.output("training"), training_table(trained, steps, layer), CROSSCODER_TRAINING, job.core)
    write_table(
        job.output("metrics"), metrics_table(scores, steps, layer, settings.n_features), RECON_METRICS, job.core
    )
    dictionary = to_dictionary(trained, normaliser, steps=steps, settings=settings, layer=layer)
    write_dictionary(job.output("dictionary"), dictionary, job.core)


def _state_key(job: Job, headers: Sequence[CacheHeader]) -> str:
    """Return what a resumable state belongs to: all that it depends on, which the number of processes is not."""
    facts = {name: value for name, value in job.core.items() if name != "settings"}
    chosen = {name: value for name, value in job.settings["crosscoder"].items() if name not in ("gpus", "sharding")}
    settings = {**job.settings, "crosscoder": chosen}
    return json_sha256([facts, settings, [header.content_sha256 for header in headers]])


def _part_of(job: Job, snapshots: slice) -> Job:
    """Return the job with the files of some snapshots only."""
    parts = {name: job.paths(name)[snapshots] for name in ("caches", "facts")}
    return replace(job, inputs={**job.inputs, **parts})


@dataclass(frozen=True)
class TrainingData:
    """What is trained on: rows 0 … n_train − 1, then n_heldout rows to score on, by number from `read`.

    order gives the rows of each update; None is the global permutation of all train rows.
    """

    read: Rows
    n_train: int
    n_heldout: int
    order: Order | None


@contextmanager
def _cached(
    job: Job,
    settings: CrosscoderSettings,
    rows: RowTable,
    headers: Sequence[CacheHeader],
    normaliser: Normaliser,
    scratch: Path,
) -> Iterator[TrainingData]:
    n_train = int((rows.split == 0).sum())
    order: Order | None = None
    if settings.pool_tokens is not None:
        pools = deal_pools(first_rows(rows.sequence[:n_train]), pool_tokens=settings.pool_tokens, seed=settings.seed)
        order = partial(pools.batch_rows, batch_size=settings.batch_size)
    memory_bytes = int(settings.memory_gb * 2**30)
    n_heldout = len(rows) - n_train
    with open_aligned(job.paths("caches"), headers, memory_bytes=memory_bytes, scratch=scratch) as activations:
        if not normaliser.center.is_cuda:
            yield TrainingData(reader(activations, normaliser), n_train, n_heldout, order)
            return
        every = partial(batch_rows, batch_size=settings.batch_size, n_rows=n_train, seed=settings.seed)
        with RowsAhead(activations, normaliser, order or every) as ahead:
            yield TrainingData(ahead, n_train, n_heldout, ahead.order)
        logger.info("crosscoder: training waited %.1f s for rows", ahead.waited)


@contextmanager
def _streamed(
    job: Job,
    settings: CrosscoderSettings,
    rows: RowTable,
    headers: Sequence[CacheHeader],
    normaliser: Normaliser,
    scratch: Path,
) -> Iterator[TrainingData]:
    # Importing transformers takes seconds, which training on caches need not pay.
    from snapcoder.capture.rows import select_stream
    from snapcoder.capture.stream import PoolShape, StreamedRows, pool_dtype, require_pools_fit
    from snapcoder.capture.truncated import TruncatedSnapshots

    chosen, table = job.section("activations", ActivationSettings), read_tokens(job.path("tokens"))
    folders = checkpoint_folders(job.paths("facts"), headers)
    _require_same_tokens(rows, table, job.paths("caches")[0])
    selection = select_stream(table, chosen)
    pools = deal_pools(selection.first_row, pool_tokens=settings.pool_tokens or STREAM_POOL_TOKENS, seed=settings.seed)
    device, n_cached = normaliser.center.device, int((rows.split == 0).sum())
    shape = PoolShape(len(headers), headers[0].d_model, pool_dtype(chosen.dtype), ahead=device.type == "cuda")
    left = int(settings.memory_gb * 2**30) - require_pools_fit(pools, shape, memory_gb=settings.memory_gb)
    with open_aligned(job.paths("caches"), headers, memory_bytes=left, scratch=scratch) as sample:
        left -= sample.nbytes if sample.nbytes <= left else 0
        snapshots = TruncatedSnapshots.open(folders, layer=headers[0].layer, device=device, memory_bytes=left)
        logger.info(
            "crosscoder: streams %d rows in pools of at most %d, %.2f GB; snapshots are %s",
            selection.n_rows,
            pools.sizes.max(),
            shape.n_bytes(pools) / 2**30,
            "held in memory" if snapshots.resident else "loaded one at a time",
        )
        with StreamedRows(
            snapshots, selection, pools, shape, n_positions=settings.steps * settings.batch_size
        ) as stream:
            n_train, cached = selection.n_rows, reader(sample, normaliser)

            def read(indices: np.ndarray) -> Tensor:
                if indices.min() >= n_train:  # held-out rows are always those of the caches
                    return cached(indices - n_train + n_cached)
                return normaliser.normalise(stream(indices).to(device, non_blocking=True))

            order = partial(stream.batch_rows, batch_size=settings.batch_size)
            yield TrainingData(read, n_train, len(rows) - n_cached, order)


def checkpoint_folders(facts: Sequence[Path], headers: Sequence[CacheHeader]) -> list[Path]:
    """Return the folder of every snapshot's checkpoint, from the snapshots' facts; they come in the order of the caches.

    Raises ValueError naming the file when a snapshot is missing, out of order or of another width than its cache.
    """
    folders = []
    for path, header in zip(facts, headers, strict=True):
        said = read_json(path)
        if (said["step"], said["d_model"]) != (header.step, header.d_model):
            raise ValueError(
                f"{path}: describes step {said['step']} of width {said['d_model']}, the cache beside it is of step "
                f"{header.step}, width {header.d_model}; delete both and rerun"
            )
        folders.append(path.parent / said["folder"])
    return folders


def _require_same_tokens(rows: RowTable, table: TokenTable, cache: Path) -> None:
    inside = int(rows.sequence.max()) < len(table.tokens) and int(rows.position.max()) < table.context_length
    if not inside or not np.array_equal(rows.token, table.tokens[rows.sequence, rows.position]):
        raise ValueError(f"{cache}: was captured on other tokens than those of the corpus; delete it and rerun")


def reader(activations: AlignedRows | np.ndarray, normaliser: Normaliser) -> Rows:
    """Return a function that gathers rows of [row, snapshot, model] and normalises them on the normaliser's device."""

    def read(indices: np.ndarray) -> Tensor:
        return normaliser.normalise(torch.from_numpy(activations[indices]).to(normaliser.center.device))

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
