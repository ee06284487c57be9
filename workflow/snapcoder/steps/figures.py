"""Step `figures`: draw every figure of one layer that is not about tasks."""

import logging

from snapcoder.figures.catalogue import Figure, figures_of, tables_of
from snapcoder.figures.drawing import draw
from snapcoder.figures.save import figure_bytes
from snapcoder.job import Job
from snapcoder.storage.atomic import write_bytes
from snapcoder.storage.tables import read_table

logger = logging.getLogger(__name__)


def figures(job: Job) -> None:
    """Read the tables by file name and write each figure that every study has, but those about tasks, as SVG and PNG."""
    draw_all(job, figures_of(of_tasks=False))


def draw_all(job: Job, drawn: tuple[Figure, ...]) -> None:
    """Draw these figures; raise ValueError when the outputs are not exactly these."""
    outputs = {path.name: path for path in job.outputs["figures"]}
    expected = {f"{figure.name}.{kind}" for figure in drawn for kind in ("svg", "png")}
    if outputs.keys() != expected:
        odd = ", ".join(sorted(outputs.keys() ^ expected))
        raise ValueError(f"figures: the outputs do not fit the catalogue of figures ({odd}); start snakemake again")
    needed = tables_of(drawn)
    tables = {path.stem: read_table(path) for path in job.paths("tables") if path.stem in needed}
    for figure in drawn:
        svg, png = figure_bytes(draw(figure, tables), provenance=job.core, title=figure.title)
        write_bytes(outputs[f"{figure.name}.svg"], svg)
        write_bytes(outputs[f"{figure.name}.png"], png)
        logger.debug("drew %s", figure.name)
