"""Step `onset_distribution`: the censored distribution of onsets, its rates, and its tests against nulls."""

import numpy as np
import pandas as pd

from snapcoder.evolution.onset_distribution import OnsetEvidence
from snapcoder.evolution.onset_distribution import onset_distribution as distribute
from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.timing import TimingSettings
from snapcoder.tables.timing import ONSET_DISTRIBUTION, ONSET_TESTS


def onset_distribution(job: Job) -> None:
    """Write the tables onset_distribution and onset_tests.

    The input `onsets`, a table with onset_lo, onset_hi and class, is optional: the onsets by combined evidence.
    """
    timing = read_table(
        job.path("timing"), columns=["class", "onset_lo", "onset_hi", "onset_alive_lo", "onset_alive_hi"]
    )
    steps = np.unique(read_table(job.path("trajectory"), columns=["step"])["step"].to_numpy())
    evidence = {"norm": _evidence(timing, "onset"), "firing": _evidence(timing, "onset_alive")}
    for path in job.paths("onsets"):
        evidence["combined"] = _evidence(read_table(path, columns=["class", "onset_lo", "onset_hi"]), "onset")
    distribution, tests = distribute(
        evidence, steps, settings=job.section("timing", TimingSettings), layer=int(job.value("layer"))
    )
    write_table(job.output("distribution"), distribution, ONSET_DISTRIBUTION, job.core)
    write_table(job.output("tests"), tests, ONSET_TESTS, job.core)


def _evidence(table: pd.DataFrame, prefix: str) -> OnsetEvidence:
    lo, hi = (table[f"{prefix}_{end}"].to_numpy(dtype=np.float64, na_value=np.nan) for end in ("lo", "hi"))
    return OnsetEvidence(lo, hi, table["class"].to_numpy())
