"""Step `formation`: how far each feature has formed in one snapshot's activations."""

import numpy as np

from snapcoder.evolution.formation import formation as measure_formation
from snapcoder.evolution.formation_rows import partners
from snapcoder.job import Job
from snapcoder.storage.activations import CacheError, iterate_cache, read_header, read_rows
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.order import FormationSettings
from snapcoder.tables.order import FORMATION


def formation(job: Job) -> None:
    """Write the table formation of one snapshot, reading its cache twice in memory-sized blocks."""
    settings = job.section("formation", FormationSettings)
    cache, chosen = job.path("cache"), read_table(job.path("rows"))
    header, rows = read_header(cache), read_rows(cache)
    row = chosen["row"].to_numpy()
    inside = not len(row) or row.max() < len(rows)
    if (
        not inside
        or not np.array_equal(rows.doc[row], chosen["doc"])
        or not np.array_equal(rows.token[row], chosen["token"])
    ):
        raise CacheError(f"{cache}: was captured on other tokens than {job.path('rows')}; delete it and rerun")
    table = measure_formation(
        chosen,
        partners(rows, seed=settings.seed),
        lambda: iterate_cache(cache),
        mean=header.mean,
        permutations=settings.permutations,
        directions=settings.directions,
        seed=settings.seed,
    )
    write_table(job.output("table"), table.assign(layer=header.layer, step=header.step), FORMATION, job.core)
