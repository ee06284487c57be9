"""Draw the figures of the controls."""

from snapcoder.figures.catalogue import figures_of
from snapcoder.job import Job
from snapcoder.steps.figures import draw_all


def controls_figure(job: Job) -> None:
    """Read the controls' tables and write each of their figures as SVG and PNG."""
    draw_all(job, figures_of("controls"))
