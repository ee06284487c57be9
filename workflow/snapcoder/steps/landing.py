"""Write the page that leads to the reports of the layers."""

import os
from pathlib import Path

from snapcoder.job import Job
from snapcoder.report.landing import landing_page
from snapcoder.storage.atomic import write_text


def landing(job: Job) -> None:
    """Write report/index.html: a redirect when there is one layer, else a list of layers."""
    page = job.output("page")
    pages = [Path(os.path.relpath(path.absolute(), page.parent.absolute())).as_posix() for path in job.paths("pages")]
    layers = [int(layer) for layer in job.value("layers")]
    text = landing_page(study=str(job.value("study")), layers=layers, pages=pages, core=job.core)
    write_text(page, text)
