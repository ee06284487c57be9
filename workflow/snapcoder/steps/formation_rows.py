"""Step `formation_rows`: the rows that speak for each feature, in either half of the documents."""

from snapcoder.evolution.formation_rows import strongest_rows
from snapcoder.job import Job
from snapcoder.storage.codes import read_codes
from snapcoder.storage.tables import write_table
from snapcoder.study.order import FormationSettings
from snapcoder.tables.order import FORMATION_ROWS


def formation_rows(job: Job) -> None:
    """Write the table formation_rows."""
    settings = job.section("formation", FormationSettings)
    codes = read_codes(job.path("codes"))
    table = strongest_rows(codes.z, codes.rows, top=settings.top, seed=settings.seed)
    write_table(job.output("table"), table.assign(layer=int(job.value("layer"))), FORMATION_ROWS, job.core)
