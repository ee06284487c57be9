"""Step `heldout_snapshots`: how well each snapshot is predicted by decoders interpolated between others."""

from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, vstack

from snapcoder.evolution.activation_spectrum import spaced_rows
from snapcoder.evolution.heldout_snapshots import heldout_snapshots as predict_snapshots
from snapcoder.job import Job
from snapcoder.storage.activations import BLOCK_ROWS, CacheError, iterate_cache, read_header, require_same_rows
from snapcoder.storage.codes import iterate_codes, read_code_rows
from snapcoder.storage.dictionaries import open_dictionary
from snapcoder.storage.tables import write_table
from snapcoder.study.timing import TimingSettings
from snapcoder.tables.timing import HELDOUT_SNAPSHOTS

_BLOCKS = 16  # blocks of a cache that are read, at most: the cost does not grow with the cache


def heldout_snapshots(job: Job) -> None:
    """Write the table heldout_snapshots from dictionary, code and base caches; of each cache a few blocks are read."""
    settings = job.section("timing", TimingSettings)
    dictionary, codes = open_dictionary(job.path("dictionary")), job.path("codes")
    table = require_same_rows(job.paths("caches"))
    if table.sha256 != read_code_rows(codes).sha256:
        raise CacheError(f"{codes}: holds other tokens than the caches; delete it and rerun")
    caches = {read_header(path).step: path for path in job.paths("caches")}
    if missing := sorted(set(dictionary.steps) - set(caches)):
        raise ValueError(f"no activation cache of snapshots {missing}, which the dictionary holds")
    train, heldout = (spread(np.flatnonzero(table.split == split), settings.heldout_rows) for split in (0, 1))
    result = predict_snapshots(
        dictionary,
        some_codes(codes, heldout),
        doc=table.doc[heldout],
        heldout=lambda step: read_some(caches[step], heldout),
        train=lambda step: read_some(caches[step], train),
        settings=settings,
    )
    write_table(job.output("table"), result, HELDOUT_SNAPSHOTS, job.core)


def spread(rows: np.ndarray, at_most: int) -> np.ndarray:
    """Return at most `at_most` of the rows (ascending), spread evenly over a few blocks that are spread evenly."""
    blocks = np.unique(rows // BLOCK_ROWS)
    chosen = blocks[spaced_rows(len(blocks), at_most=_BLOCKS)]
    rows = rows[np.isin(rows // BLOCK_ROWS, chosen)]
    return rows[spaced_rows(len(rows), at_most=at_most)]


def some_codes(path: Path, rows: np.ndarray) -> csr_array:
    """Return some rows (ascending) of the code, holding one block at a time."""
    taken, start = [], 0
    for block in iterate_codes(path):
        stop = start + block.shape[0]
        taken.append(block[rows[(rows >= start) & (rows < stop)] - start])
        start = stop
    return vstack(taken, format="csr")


def read_some(path: Path, rows: np.ndarray) -> np.ndarray:
    """Read some rows (ascending) of a cache, [row, model] float32, touching only the blocks that hold them."""
    numbers = np.unique(rows // BLOCK_ROWS)
    blocks = zip(numbers, iterate_cache(path, [int(number) for number in numbers]), strict=True)
    return np.concatenate([block[rows[rows // BLOCK_ROWS == number] - number * BLOCK_ROWS] for number, block in blocks])
