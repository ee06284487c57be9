"""Step `timing`: when each feature appears, peaks, turns, settles and fades."""

from snapcoder.evolution.timing import ROTATION_COLUMNS, TRAJECTORY_COLUMNS
from snapcoder.evolution.timing import timing as time_features
from snapcoder.job import Job
from snapcoder.storage.dictionaries import open_dictionary
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.study.timing import TimingSettings
from snapcoder.tables.evolution import FEATURE_TIMING


def timing(job: Job) -> None:
    """Write the table feature_timing."""
    table = time_features(
        read_table(job.path("trajectory"), columns=list(TRAJECTORY_COLUMNS)),
        read_table(job.path("rotation"), list(ROTATION_COLUMNS), where=[("kind", "in", ("adjacent", "to_final"))]),
        threshold=open_dictionary(job.path("dictionary")).threshold,
        settings=job.section("evolution", EvolutionSettings),
        sigmoid_r2=job.section("timing", TimingSettings).sigmoid_r2,
    )
    write_table(job.output("table"), table, FEATURE_TIMING, job.core)
