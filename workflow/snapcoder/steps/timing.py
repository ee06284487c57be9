"""Step `timing`: when each feature appears, peaks, turns, settles and fades."""

from snapcoder.evolution.timing import timing as time_features
from snapcoder.job import Job
from snapcoder.storage.dictionaries import read_dictionary
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables.evolution import FEATURE_TIMING

_TURNS = ["feature", "kind", "step_a", "cos", "angle_deg", "both_alive"]


def timing(job: Job) -> None:
    """Write the table feature_timing."""
    table = time_features(
        read_table(job.path("trajectory")),
        read_table(job.path("rotation"), _TURNS, where=[("kind", "in", ("adjacent", "to_final"))]),
        threshold=read_dictionary(job.path("dictionary")).threshold,
        settings=job.section("evolution", EvolutionSettings),
    )
    write_table(job.output("table"), table, FEATURE_TIMING, job.core)
