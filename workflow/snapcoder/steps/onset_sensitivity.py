"""Step `onset_sensitivity`: whether onsets and classes survive other thresholds, fewer snapshots, and any order of them."""

from snapcoder.evolution.curves import COLUMNS, FeatureCurves
from snapcoder.evolution.sensitivity import snapshot_sensitivity, threshold_sensitivity
from snapcoder.evolution.shuffled_order import shuffled_order
from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.study.timing import TimingSettings
from snapcoder.tables.timing import SHUFFLED_ORDER, SNAPSHOT_SENSITIVITY, THRESHOLD_SENSITIVITY


def onset_sensitivity(job: Job) -> None:
    """Write the tables threshold_sensitivity, snapshot_sensitivity and shuffled_order."""
    curves = FeatureCurves.of(read_table(job.path("trajectory"), columns=list(COLUMNS)))
    rotation = read_table(job.path("rotation_summary"), columns=["step_a", "step_b", "cos_median"])
    evolution, settings = job.section("evolution", EvolutionSettings), job.section("timing", TimingSettings)
    layer = int(job.value("layer"))
    thresholds = threshold_sensitivity(curves, evolution=evolution, settings=settings, layer=layer)
    snapshots = snapshot_sensitivity(curves, rotation, evolution=evolution, settings=settings, layer=layer)
    shuffled = shuffled_order(
        curves, settings=evolution, permutations=settings.shuffles, seed=settings.seed, layer=layer
    )
    write_table(job.output("shuffled"), shuffled, SHUFFLED_ORDER, job.core)
    write_table(job.output("thresholds"), thresholds, THRESHOLD_SENSITIVITY, job.core)
    write_table(job.output("snapshots"), snapshots, SNAPSHOT_SENSITIVITY, job.core)
