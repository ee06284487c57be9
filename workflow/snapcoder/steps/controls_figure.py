"""Draw the figures of the controls."""

from snapcoder.job import Job
from snapcoder.steps.figures import draw_part


def controls_figure(job: Job) -> None:
    """Read the controls' tables and write each of their figures as SVG and PNG."""
    draw_part(job, "controls")
