"""Draw the figures of a sweep."""

from snapcoder.figures.catalogue import figures_of
from snapcoder.job import Job
from snapcoder.steps.figures import draw_all


def sweep_figure(job: Job) -> None:
    """Read the sweep's table and write each of its figures as SVG and PNG."""
    draw_all(job, figures_of("sweep"))
