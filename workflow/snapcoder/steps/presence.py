"""Step `presence`: what one snapshot's activations say of every feature beside its norm."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from snapcoder.evolution.presence import Block, Side, measure_presence
from snapcoder.job import Job
from snapcoder.storage.activations import BLOCK_ROWS, CacheError, CacheHeader, iterate_cache, read_header, read_rows
from snapcoder.storage.codes import iterate_codes, read_code_rows
from snapcoder.storage.dictionaries import Dictionary, Extension, read_dictionary, read_extension
from snapcoder.storage.tables import write_table
from snapcoder.study.presence import PresenceSettings
from snapcoder.tables.presence import PRESENCE


def presence(job: Job) -> None:
    """Write presence/block{layer}/step{step}.parquet from dictionary, codes and the snapshot's cache."""
    step, cache_path = int(job.value("step")), job.path("cache")
    dictionary, header, rows = read_dictionary(job.path("dictionary")), read_header(cache_path), read_rows(cache_path)
    extensions = [read_extension(path) for path in job.paths("extension")]
    if header.step != step:
        raise CacheError(f"{cache_path}: is of step {header.step}, not {step}; delete it and rerun")
    codes, *own_codes = (_codes_of(path, header) for path in (job.path("codes"), *job.paths("extension_codes")))
    side, center, scale = _side(dictionary, extensions, step)

    def blocks() -> Iterator[Block]:
        own = own_codes[0]() if own_codes else repeat(None)
        for z, f, activations in zip(codes(), own, iterate_cache(cache_path), strict=False):
            yield Block(z, f, (activations - center) * scale)

    table = measure_presence(
        side,
        codes=codes,
        blocks=blocks,
        doc=rows.doc,
        settings=job.section("presence", PresenceSettings),
        stream=step,
    )
    table = table.assign(layer=dictionary.layer, step=step, added=bool(extensions))
    write_table(job.output("table"), table, PRESENCE, job.core)


def _side(dictionary: Dictionary, extensions: list[Extension], step: int) -> tuple[Side, np.ndarray, np.float32]:
    """Return the snapshot's share of the dictionary or of its extension, with center and scale of its activations."""
    peak = dictionary.decoder_norms().argmax(axis=0)
    reference = dictionary.decoder[peak, np.arange(dictionary.n_features)]
    shared = dictionary.gate == "shared"
    if extensions:
        own = extensions[0]
        side = Side(own.decoder, own.decoder_bias, own.encoder, own.threshold, reference, shared)
        return side, own.center, np.float32(own.scale)
    if step not in dictionary.steps:
        raise ValueError(f"snapshot {step} is neither in the dictionary nor has it an extension; rerun the crosscoder")
    s = dictionary.steps.index(step)
    side = Side(
        dictionary.decoder[s],
        dictionary.decoder_bias[s],
        dictionary.encoder[s],
        dictionary.threshold,
        reference,
        shared,
    )
    return side, dictionary.center[s], np.float32(dictionary.scale[s])


def _codes_of(path: Path, header: CacheHeader) -> Callable[[], Iterator[csr_array]]:
    """Return what iterates the code in blocks of a cache's rows; raise CacheError when it is of other rows."""
    if read_code_rows(path).sha256 != header.rows_sha256:
        raise CacheError(f"{path}: is of other tokens than the cache of snapshot {header.step}; delete it and rerun")
    return partial(iterate_codes, path, rows_per_block=BLOCK_ROWS)
