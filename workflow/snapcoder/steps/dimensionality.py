"""Step `dimensionality`: how much room features have at each snapshot, and what the activations' spectrum says."""

import numpy as np

from snapcoder.evolution.activation_spectrum import spaced_rows, spectrum, take_rows
from snapcoder.evolution.compression import compression_tests
from snapcoder.evolution.dimensionality import dimensionality as tabulate_dimensionality
from snapcoder.evolution.dimensionality import dimensionality_rates
from snapcoder.evolution.resampling import bootstrap_weights
from snapcoder.evolution.snapshot_decoders import alive_matrix, merge_decoders
from snapcoder.job import Job
from snapcoder.storage.activations import iterate_cache, read_header, require_same_rows
from snapcoder.storage.dictionaries import read_dictionary, read_extension
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables.directions import DIMENSIONALITY_TESTS
from snapcoder.tables.evolution import DIMENSIONALITY

SPECTRUM_ROWS = 32_768  # rows behind each covariance


def dimensionality(job: Job) -> None:
    """Write the tables dimensionality and dimensionality_tests."""
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
    key = decoders.norms().sum(axis=0, dtype=np.float64)
    rates = dimensionality_rates(
        decoders,
        alive=alive,
        spectra=spectra,
        weights=bootstrap_weights(key, draws=settings.bootstrap, seed=settings.seed),
        null_draws=settings.null_draws,
        null_features=settings.null_features,
        seed=settings.seed,
    )
    tests = compression_tests(rates, decoders.steps).assign(layer=decoders.layer)
    result = tabulate_dimensionality(decoders, rates, alive=alive, spectra=spectra)
    for name, values in (("act_mean_norm", "mean_norm"), ("act_max_abs", "max_abs")):
        result[name] = result["step"].map({header.step: getattr(header, values) for header in headers.values()})
    write_table(job.output("table"), result, DIMENSIONALITY, job.core)
    write_table(job.output("tests"), tests, DIMENSIONALITY_TESTS, job.core)
