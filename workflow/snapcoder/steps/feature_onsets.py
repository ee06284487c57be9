"""Step `feature_onsets`: one onset per feature from all evidence."""

import pandas as pd

from snapcoder.evolution.feature_onsets import feature_onsets as combine_onsets
from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.study.presence import PresenceSettings
from snapcoder.tables.presence import FEATURE_ONSETS, FEATURE_PRESENCE


def feature_onsets(job: Job) -> None:
    """Write the tables feature_onsets and feature_presence."""
    evolution, presence = job.section("evolution", EvolutionSettings), job.section("presence", PresenceSettings)
    onsets, rows = combine_onsets(
        pd.concat([read_table(path) for path in job.paths("presence")], ignore_index=True),
        read_table(job.path("trajectory"), columns=["feature", "snapshot", "step", "norm", "norm_rel", "alive"]),
        read_table(job.path("timing")),
        alpha=evolution.alpha,
        consecutive=evolution.consecutive,
        fdr=presence.fdr,
        auroc=presence.probe_auroc,
    )
    write_table(job.output("onsets"), onsets, FEATURE_ONSETS, job.core)
    write_table(job.output("presence"), rows, FEATURE_PRESENCE, job.core)
