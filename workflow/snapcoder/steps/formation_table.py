"""Step `formation_table`: formation at all snapshots of a layer, and when each feature forms."""

import pandas as pd

from snapcoder.evolution.formation_onset import formation_onsets, relative_formation
from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables.order import FEATURE_FORMATION, FORMATION_ONSET


def formation_table(job: Job) -> None:
    """Write the tables feature_formation and formation_onset."""
    parts = pd.concat([read_table(path) for path in job.paths("parts")], ignore_index=True)
    onsets = formation_onsets(parts, settings=job.section("evolution", EvolutionSettings))
    layer = int(job.value("layer"))
    write_table(job.output("formation"), relative_formation(parts), FEATURE_FORMATION, job.core)
    write_table(job.output("onsets"), onsets.assign(layer=layer), FORMATION_ONSET, job.core)
