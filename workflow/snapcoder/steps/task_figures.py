"""Step `task_figures`: draw the figures of one layer that are about tasks, the last part of a study to be done."""

from snapcoder.figures.catalogue import figures_of
from snapcoder.job import Job
from snapcoder.steps.figures import draw_all


def task_figures(job: Job) -> None:
    """Read the tables by file name and write each figure about tasks as SVG and PNG."""
    draw_all(job, figures_of(of_tasks=True))
