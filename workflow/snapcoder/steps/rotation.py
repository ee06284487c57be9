"""Step `rotation`: how feature directions turn between snapshots, and where turning is fastest."""

import numpy as np
import pandas as pd

from snapcoder.evolution.activation_spectrum import linear_cka, spaced_rows, take_rows
from snapcoder.evolution.blocks import two_blocks
from snapcoder.evolution.intervals import rotation_intervals
from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.resampling import bootstrap_weights
from snapcoder.evolution.rotation import compare_snapshots, direction_parts, summary_table
from snapcoder.evolution.snapshot_decoders import alive_matrix, merge_decoders
from snapcoder.evolution.turning_points import turning_points
from snapcoder.job import Job
from snapcoder.storage.activations import iterate_cache, read_header, require_same_rows
from snapcoder.storage.dictionaries import read_dictionary, read_extension
from snapcoder.storage.tables import read_table, write_table, write_table_parts
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables.directions import ROTATION_INTERVALS, TURNING_POINTS
from snapcoder.tables.evolution import DIRECTION_ROTATION, ROTATION_SUMMARY

CKA_ROWS = 4096  # more rows than this change CKA in the third digit


def rotation(job: Job) -> None:
    """Write the tables direction_rotation, rotation_summary, rotation_intervals and turning_points."""
    settings = job.section("evolution", EvolutionSettings)
    extensions = [read_extension(path) for path in job.paths("extensions")]
    decoders = merge_decoders(read_dictionary(job.path("dictionary")), extensions)
    alive = alive_matrix(read_table(job.path("trajectory"), columns=["feature", "step", "alive"]), decoders.steps)
    caches = {read_header(path).step: path for path in job.paths("caches")}
    rows = spaced_rows(len(require_same_rows(job.paths("caches"))), at_most=CKA_ROWS)
    cka = linear_cka([take_rows(iterate_cache(caches[step]), rows) for step in decoders.steps])

    key = decoders.norms().sum(axis=0, dtype=np.float64)
    weights = bootstrap_weights(key, draws=settings.bootstrap, seed=settings.seed)
    found = compare_snapshots(decoders, alive=alive, cka=cka, weights=weights)
    turns, chance = found.turns(), 1 / np.sqrt(decoders.d_model)
    clocks = _clocks(read_table(job.path("snapshots"), columns=["step", "tokens"]), decoders.steps)
    tests = [
        test(
            turns, decoders.steps, clocks, weights, chance=chance, permutations=settings.permutations, seed=settings.seed
        )
        for test in (turning_points, two_blocks)
    ]  # fmt: skip
    points = pd.concat(tests, ignore_index=True).reindex(columns=[column.name for column in TURNING_POINTS.columns])
    intervals = rotation_intervals(turns, decoders.steps, weights, chance=chance)
    write_table_parts(job.output("rotation"), direction_parts(found), DIRECTION_ROTATION, job.core)
    write_table(job.output("summary"), summary_table(found), ROTATION_SUMMARY, job.core)
    write_table(job.output("intervals"), intervals.assign(layer=decoders.layer), ROTATION_INTERVALS, job.core)
    write_table(job.output("turning"), points.assign(layer=decoders.layer), TURNING_POINTS, job.core)


def _clocks(snapshots: pd.DataFrame, steps: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return the time of every snapshot by clock; tokens only when they are known of all and grow."""
    tokens = snapshots.set_index("step")["tokens"].reindex(steps).to_numpy(dtype=np.float64, na_value=np.nan)
    clocks = {"log_step": log_steps(steps), "step": np.asarray(steps, dtype=np.float64)}
    return {**clocks, "tokens": tokens} if (np.diff(tokens) > 0).all() and not np.isnan(tokens).any() else clocks
