"""Step `attribution_report`: which features carry which ability, when, and since when."""

import pandas as pd

from snapcoder.attribution.carriers import FeatureHistory
from snapcoder.attribution.connection import connect
from snapcoder.evolution.snapshot_decoders import merge_decoders
from snapcoder.job import Job
from snapcoder.storage.dictionaries import read_dictionary, read_extension
from snapcoder.storage.tables import joined, read_table, write_table
from snapcoder.study.carriers import CarrierSettings
from snapcoder.tables.carriers import ATTRIBUTION_REPORT, HANDOVER, RELIE, RELIE_CHECK, TASK_FEATURE_TIMING

_READ = ["step", "feature", "norm", "rate", "alive"]


def attribution_report(job: Job) -> None:
    """Write the tables relie, relie_check, attribution_report, task_feature_timing and handover.

    From the attributions of every feature, snapshot by snapshot: shares of the whole need the weak ones too.
    """
    extensions = [read_extension(path) for path in job.paths("extensions")]
    decoders = merge_decoders(read_dictionary(job.path("dictionary")), extensions)
    found = connect(
        pd.concat([read_table(path) for path in job.paths("attribution")], ignore_index=True),
        read_table(job.path("performance")),
        FeatureHistory.of(read_table(job.path("trajectory"), columns=_READ), read_table(job.path("onsets"))),
        decoders,
        settings=job.section("carriers", CarrierSettings),
    )
    for name, schema in (
        ("relie", RELIE), ("check", RELIE_CHECK), ("report", ATTRIBUTION_REPORT), ("timing", TASK_FEATURE_TIMING),
        ("handover", HANDOVER),
    ):  # fmt: skip
        rows = getattr(found, name)
        write_table(job.output(name), joined([rows.assign(layer=decoders.layer)], schema), schema, job.core)
