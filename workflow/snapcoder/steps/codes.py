"""Write the sparse code of all cached rows, once for all later stages."""

import torch

from snapcoder.crosscoder.codes import sparse_code
from snapcoder.crosscoder.model import from_dictionary
from snapcoder.crosscoder.normalise import Normaliser
from snapcoder.job import Job
from snapcoder.storage.aligned import iterate_aligned, read_aligned_headers
from snapcoder.storage.codes import write_code_blocks
from snapcoder.storage.dictionaries import read_dictionary


def codes(job: Job) -> None:
    """Encode every row and write the entries that are on at some snapshot, block by block."""
    torch.set_num_threads(job.threads)
    dictionary = read_dictionary(job.path("dictionary"))
    rows, headers = read_aligned_headers(job.paths("caches"))
    steps = tuple(header.step for header in headers)
    if steps != dictionary.steps:
        raise ValueError(
            f"{job.path('dictionary')}: was trained on snapshots {dictionary.steps}, the caches are {steps}"
        )
    normaliser = Normaliser.of(dictionary.center, dictionary.scale)
    z = sparse_code(
        from_dictionary(dictionary),
        torch.from_numpy(dictionary.threshold),
        (normaliser.normalise(torch.from_numpy(block)) for block in iterate_aligned(job.paths("caches"))),
        gate=dictionary.gate,
    )
    write_code_blocks(job.output("codes"), z, rows=rows, n_features=dictionary.n_features, provenance=job.core)
