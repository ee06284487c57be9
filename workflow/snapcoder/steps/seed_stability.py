"""Step `seed_stability`: which features and onsets the study's dictionary shares with those of other seeds."""

from collections.abc import Mapping

from snapcoder.evolution.seed_stability import SeededRun
from snapcoder.evolution.seed_stability import seed_stability as compare_seeds
from snapcoder.job import Job
from snapcoder.storage.codes import read_codes
from snapcoder.storage.dictionaries import read_dictionary
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables.controls import FEATURE_STABILITY, SEED_STABILITY


def seed_stability(job: Job) -> None:
    """Write the tables seed_stability and feature_stability; inputs come in the order of the setting `seeds`, study first."""
    settings = job.section("evolution", EvolutionSettings)
    runs = [
        SeededRun(
            read_dictionary(dictionary),
            read_codes(codes).z,
            read_table(timing, columns=["feature", "class", "onset_hi"]),
        )
        for dictionary, codes, timing in zip(
            job.paths("dictionaries"), job.paths("codes"), job.paths("timings"), strict=True
        )
    ]
    others: Mapping[int, SeededRun] = dict(zip(job.value("seeds"), runs[1:], strict=True))
    pairs, features = compare_seeds(runs[0], others, bootstrap=settings.bootstrap, seed=settings.seed)
    write_table(job.output("pairs"), pairs, SEED_STABILITY, job.core)
    write_table(job.output("features"), features, FEATURE_STABILITY, job.core)
