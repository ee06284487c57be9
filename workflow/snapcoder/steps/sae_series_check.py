"""Step `sae_series_check`: the shared dictionary against autoencoders that saw one snapshot each."""

from snapcoder.evolution.sae_series import sae_series_check as check_series
from snapcoder.evolution.sae_series import sae_series_match
from snapcoder.evolution.snapshot_decoders import alive_matrix, merge_decoders
from snapcoder.evolution.timing import presence_by_norm
from snapcoder.job import Job
from snapcoder.storage.dictionaries import read_dictionary
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables.controls import SAE_SERIES_CHECK, SAE_SERIES_MATCH


def sae_series_check(job: Job) -> None:
    """Write the tables sae_series_match and sae_series_check."""
    settings = job.section("evolution", EvolutionSettings)
    decoders = merge_decoders(read_dictionary(job.path("dictionary")))
    series = {saes.steps[0]: saes.decoder[0] for saes in map(read_dictionary, job.paths("saes"))}
    saes = [series[step] for step in decoders.steps]
    trajectory = read_table(job.path("trajectory"), columns=["feature", "step", "alive", "added"])
    alive = alive_matrix(trajectory[~trajectory["added"]], decoders.steps)
    present = presence_by_norm(decoders.norms(), alpha=settings.alpha)
    match = sae_series_match(decoders, saes, present=present, alive=alive)
    check = check_series(match, decoders, saes, seed=settings.seed)
    write_table(job.output("match"), match, SAE_SERIES_MATCH, job.core)
    write_table(job.output("check"), check, SAE_SERIES_CHECK, job.core)
