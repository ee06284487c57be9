"""Draw the figures of a sweep."""

from snapcoder.job import Job
from snapcoder.steps.figures import draw_part


def sweep_figure(job: Job) -> None:
    """Read the sweep's table and write each of its figures as SVG and PNG."""
    draw_part(job, "sweep")
