"""Step `rotation`: how feature directions turn between snapshots."""

from snapcoder.evolution.activation_spectrum import linear_cka, spaced_rows, take_rows
from snapcoder.evolution.rotation import rotation as compare_directions
from snapcoder.evolution.snapshot_decoders import alive_matrix, merge_decoders
from snapcoder.job import Job
from snapcoder.storage.activations import iterate_cache, read_header, require_same_rows
from snapcoder.storage.dictionaries import read_dictionary, read_extension
from snapcoder.storage.tables import read_table, write_table
from snapcoder.tables.evolution import DIRECTION_ROTATION, ROTATION_SUMMARY

CKA_ROWS = 4096  # more rows than this change CKA in the third digit


def rotation(job: Job) -> None:
    """Write the tables direction_rotation and rotation_summary."""
    extensions = [read_extension(path) for path in job.paths("extensions")]
    decoders = merge_decoders(read_dictionary(job.path("dictionary")), extensions)
    alive = alive_matrix(read_table(job.path("trajectory"), columns=["feature", "step", "alive"]), decoders.steps)
    caches = {read_header(path).step: path for path in job.paths("caches")}
    rows = spaced_rows(len(require_same_rows(job.paths("caches"))), at_most=CKA_ROWS)
    cka = linear_cka([take_rows(iterate_cache(caches[step]), rows) for step in decoders.steps])
    table, summary = compare_directions(decoders, alive=alive, cka=cka)
    write_table(job.output("rotation"), table, DIRECTION_ROTATION, job.core)
    write_table(job.output("summary"), summary, ROTATION_SUMMARY, job.core)
