"""Step `snapshot_features`: what each feature is at one snapshot."""

from snapcoder.evolution.memory import feature_passes
from snapcoder.evolution.snapshot_features import snapshot_features as measure_features
from snapcoder.job import Job
from snapcoder.storage.activations import BLOCK_ROWS, CacheError, iterate_cache, read_header
from snapcoder.storage.codes import iterate_codes, read_codes_header
from snapcoder.storage.dictionaries import read_added_snapshot, read_snapshot
from snapcoder.storage.tables import write_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables.snapshot_features import SNAPSHOT_FEATURES


def snapshot_features(job: Job) -> None:
    """Write the table snapshot_features in one pass over the codes and the snapshot's cache, more when memory is short."""
    settings = job.section("evolution", EvolutionSettings)
    cache, codes = job.path("cache"), job.path("codes")
    header, coded = read_header(cache), read_codes_header(codes)
    extension = next(iter(job.paths("extension")), None)
    if extension is None:
        weights = read_snapshot(job.path("dictionary"), header.step)
    else:
        weights = read_added_snapshot(extension, job.path("dictionary"))
    if weights.step != header.step:
        raise ValueError(f"{extension}: is of snapshot {weights.step}, {cache} of snapshot {header.step}")
    own_codes = job.paths("extension_codes")
    for path, rows_sha256 in [
        (cache, header.rows_sha256),
        *((own, read_codes_header(own).rows_sha256) for own in own_codes),
    ]:
        if rows_sha256 != coded.rows_sha256:
            raise CacheError(f"{path}: was captured on other tokens than {codes}; delete it and rerun")
    passes = feature_passes(
        coded.n_features,
        header.d_model,
        entries_per_row=coded.entries_per_row,
        block_rows=BLOCK_ROWS,
        memory_gb=settings.memory_gb,
    )
    table = measure_features(
        weights,
        codes=lambda: iterate_codes(codes, rows_per_block=BLOCK_ROWS),
        activations=lambda: iterate_cache(cache),
        own_codes=iterate_codes(own_codes[0], rows_per_block=BLOCK_ROWS) if own_codes else None,
        passes=passes,
    )
    write_table(job.output("table"), table, SNAPSHOT_FEATURES, job.core)
