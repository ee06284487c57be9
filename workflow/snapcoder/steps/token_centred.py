"""Step `token_centred`: an activation cache without the mean activation of each row's token."""

import numpy as np

from snapcoder.capture.token_means import token_centred as subtract_means
from snapcoder.job import Job
from snapcoder.storage.activations import iterate_cache, read_header, read_rows, write_cache


def token_centred(job: Job) -> None:
    """Write one snapshot's cache with each token's mean over train rows subtracted, leaving out the row itself."""
    path = job.path("cache")
    header, rows = read_header(path), read_rows(path)
    write_cache(
        job.output("cache"),
        subtract_means(lambda: iterate_cache(path), rows.token.astype(np.int64), rows.split == 0),
        rows=rows,
        step=header.step,
        layer=header.layer,
        site=f"{header.site}, token means subtracted",
        d_model=header.d_model,
        dtype=header.dtype,
        provenance=job.core,
    )
