"""Step `order_tests`: what comes before what, with interval, p-value, correction and n."""

import pandas as pd

from snapcoder.evolution.order import order_tests as test_order
from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.order import OrderSettings
from snapcoder.tables.order import ORDER_TESTS


def order_tests(job: Job) -> None:
    """Write the table order_tests; the inputs `onsets` (by combined evidence) and `explanations` may be missing."""
    complexity = read_table(job.path("complexity"))
    for path in job.paths("explanations"):
        judged = read_table(path, columns=["feature", "complexity_llm"]).set_index("feature")["complexity_llm"]
        complexity["complexity_llm"] = complexity["feature"].map(judged)
    onsets = [read_table(path) for path in job.paths("onsets")]
    table = test_order(
        read_table(job.path("timing")),
        complexity,
        read_table(job.path("phase_metrics")),
        pd.concat([read_table(path) for path in job.paths("draws")], ignore_index=True),
        read_table(job.path("formation")),
        onsets=onsets[0] if onsets else None,
        settings=job.section("order", OrderSettings),
    )
    write_table(job.output("table"), table, ORDER_TESTS, job.core)
