"""Draw every figure of one layer."""

import logging

from snapcoder.figures.catalogue import figures_of
from snapcoder.figures.drawing import draw
from snapcoder.figures.save import figure_bytes
from snapcoder.job import Job
from snapcoder.storage.atomic import write_bytes
from snapcoder.storage.tables import read_table

logger = logging.getLogger(__name__)


def figures(job: Job) -> None:
    """Read the tables by file name and write each figure that every study has as SVG and PNG."""
    draw_part(job, "")


def draw_part(job: Job, part: str) -> None:
    """Draw the figures of one part of the catalogue.

    Raises ValueError when the outputs are not exactly these figures.
    """
    drawn = figures_of(part)
    outputs = {path.name: path for path in job.outputs["figures"]}
    expected = {f"{figure.name}.{kind}" for figure in drawn for kind in ("svg", "png")}
    if outputs.keys() != expected:
        odd = ", ".join(sorted(outputs.keys() ^ expected))
        raise ValueError(f"figures: the outputs do not fit the catalogue of figures ({odd}); start snakemake again")
    needed = {name for figure in drawn for name in figure.tables}
    tables = {path.stem: read_table(path) for path in job.paths("tables") if path.stem in needed}
    for figure in drawn:
        svg, png = figure_bytes(draw(figure, tables), provenance=job.core, title=figure.title)
        write_bytes(outputs[f"{figure.name}.svg"], svg)
        write_bytes(outputs[f"{figure.name}.png"], png)
        logger.debug("drew %s", figure.name)
