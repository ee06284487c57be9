"""Draw every figure of one layer."""

import logging

from snapcoder.figures.catalogue import CATALOGUE
from snapcoder.figures.drawing import draw
from snapcoder.figures.save import figure_bytes
from snapcoder.job import Job
from snapcoder.storage.atomic import write_bytes
from snapcoder.storage.tables import read_table

logger = logging.getLogger(__name__)


def figures(job: Job) -> None:
    """Read the tables by file name and write each figure of the catalogue as SVG and PNG.

    Raises ValueError when the outputs are not exactly the figures of the catalogue.
    """
    outputs = {path.name: path for path in job.outputs["figures"]}
    expected = {f"{figure.name}.{kind}" for figure in CATALOGUE for kind in ("svg", "png")}
    if outputs.keys() != expected:
        odd = ", ".join(sorted(outputs.keys() ^ expected))
        raise ValueError(f"figures: the outputs do not fit the catalogue of figures ({odd}); start snakemake again")
    needed = {name for figure in CATALOGUE for name in figure.tables}
    tables = {path.stem: read_table(path) for path in job.paths("tables") if path.stem in needed}
    for figure in CATALOGUE:
        svg, png = figure_bytes(draw(figure, tables), provenance=job.core, title=figure.title)
        write_bytes(outputs[f"{figure.name}.svg"], svg)
        write_bytes(outputs[f"{figure.name}.png"], png)
        logger.debug("drew %s", figure.name)
