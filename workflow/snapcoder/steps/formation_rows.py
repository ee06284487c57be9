"""Step `formation_rows`: the rows that speak for each feature, in either half of the documents."""

from snapcoder.evolution.formation_rows import BYTES_PER_ENTRY, strongest_rows
from snapcoder.job import Job
from snapcoder.storage.code_columns import iterate_columns
from snapcoder.storage.codes import read_code_rows
from snapcoder.storage.tables import write_table
from snapcoder.study.order import FormationSettings
from snapcoder.tables.order import FORMATION_ROWS


def formation_rows(job: Job) -> None:
    """Write the table formation_rows, a chunk of features at a time."""
    settings = job.section("formation", FormationSettings)
    codes = job.path("codes")
    chunks = iterate_columns(codes, memory_gb=settings.memory_gb, bytes_per_entry=BYTES_PER_ENTRY)
    table = strongest_rows(chunks, read_code_rows(codes), top=settings.top, seed=settings.seed)
    write_table(job.output("table"), table.assign(layer=int(job.value("layer"))), FORMATION_ROWS, job.core)
