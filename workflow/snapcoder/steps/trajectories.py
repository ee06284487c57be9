"""Step `trajectories`: what each feature is at each snapshot."""

from functools import partial
from pathlib import Path

from scipy.sparse import csr_array

from snapcoder.evolution.snapshot_decoders import merge_decoders
from snapcoder.evolution.trajectories import trajectories as trace_features
from snapcoder.job import Job
from snapcoder.storage.activations import CacheError, iterate_cache, read_header
from snapcoder.storage.codes import read_codes
from snapcoder.storage.dictionaries import read_dictionary, read_extension
from snapcoder.storage.tables import write_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables.evolution import FEATURE_TRAJECTORY


def trajectories(job: Job) -> None:
    """Write the table feature_trajectory from dictionary, codes and caches, one cache in memory-sized blocks at a time."""
    settings = job.section("evolution", EvolutionSettings)
    extensions = [read_extension(path) for path in job.paths("extensions")]
    decoders = merge_decoders(read_dictionary(job.path("dictionary")), extensions)
    codes = read_codes(job.path("codes"))
    caches = {}
    for path in job.paths("caches"):
        header = read_header(path)
        if header.rows_sha256 != codes.rows.sha256:
            raise CacheError(f"{path}: was captured on other tokens than {job.path('codes')}; delete it and rerun")
        caches[header.step] = path
    if missing := sorted(set(decoders.steps) - set(caches)):
        raise ValueError(f"no activation cache of snapshots {missing}, which the dictionary or an extension holds")
    added = {
        extension.step: partial(_gated, path)
        for extension, path in zip(extensions, job.paths("extension_codes"), strict=True)
    }
    table = trace_features(
        decoders,
        codes.z,
        blocks=lambda step: iterate_cache(caches[step]),
        added_codes=added,
        rate_floor=settings.rate_floor,
    )
    write_table(job.output("table"), table, FEATURE_TRAJECTORY, job.core)


def _gated(path: Path) -> csr_array:
    return read_codes(path).z
