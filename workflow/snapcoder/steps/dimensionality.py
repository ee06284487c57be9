"""Step `dimensionality`: how much room features have at each snapshot, and what the activations' spectrum says."""

from snapcoder.evolution.activation_spectrum import spaced_rows, spectrum, take_rows
from snapcoder.evolution.dimensionality import dimensionality as measure_dimensionality
from snapcoder.evolution.snapshot_decoders import alive_matrix, merge_decoders
from snapcoder.job import Job
from snapcoder.storage.activations import iterate_cache, read_header, require_same_rows
from snapcoder.storage.dictionaries import read_dictionary, read_extension
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables.evolution import DIMENSIONALITY

SPECTRUM_ROWS = 32_768  # rows behind each covariance


def dimensionality(job: Job) -> None:
    """Write the table dimensionality."""
    settings = job.section("evolution", EvolutionSettings)
    extensions = [read_extension(path) for path in job.paths("extensions")]
    decoders = merge_decoders(read_dictionary(job.path("dictionary")), extensions)
    alive = alive_matrix(read_table(job.path("trajectory"), columns=["feature", "step", "alive"]), decoders.steps)
    headers = {path: read_header(path) for path in job.paths("caches")}
    caches = {header.step: path for path, header in headers.items()}
    table = require_same_rows(job.paths("caches"))
    rows = spaced_rows(len(table), at_most=SPECTRUM_ROWS)
    spectra = [
        spectrum(
            take_rows(iterate_cache(caches[step]), rows),
            table.doc[rows],
            bootstrap=settings.bootstrap,
            seed=settings.seed,
        )
        for step in decoders.steps
    ]
    result = measure_dimensionality(
        decoders, alive=alive, spectra=spectra, null_draws=settings.null_draws, seed=settings.seed
    )
    for name, values in (("act_mean_norm", "mean_norm"), ("act_max_abs", "max_abs")):
        result[name] = result["step"].map({header.step: getattr(header, values) for header in headers.values()})
    write_table(job.output("table"), result, DIMENSIONALITY, job.core)
