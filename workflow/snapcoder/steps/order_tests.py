"""Step `order_tests`: what comes before what, with interval, p-value, correction and n."""

import pandas as pd

from snapcoder.evolution.order import order_tests as test_order
from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.order import OrderSettings
from snapcoder.tables.order import ORDER_TESTS


def order_tests(job: Job) -> None:
    """Write the table order_tests; the input `onsets` (onsets by combined evidence) may be missing."""
    onsets = [read_table(path) for path in job.paths("onsets")]
    table = test_order(
        read_table(job.path("timing")),
        read_table(job.path("complexity")),
        read_table(job.path("phase_metrics")),
        pd.concat([read_table(path) for path in job.paths("draws")], ignore_index=True),
        read_table(job.path("formation")),
        onsets=onsets[0] if onsets else None,
        settings=job.section("order", OrderSettings),
    )
    write_table(job.output("table"), table, ORDER_TESTS, job.core)
