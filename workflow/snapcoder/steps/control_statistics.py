"""Step `control_statistics`: the numbers that findings rest on, of the study and of each control, side by side."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from snapcoder.evolution.control_statistics import StudyTables, warmup_control
from snapcoder.evolution.control_statistics import control_statistics as compare_controls
from snapcoder.job import Job
from snapcoder.storage.tables import read_table, write_table
from snapcoder.tables.controls import CONTROL_STATISTICS, WARMUP_CONTROL


def control_statistics(job: Job) -> None:
    """Write the tables control_statistics and warmup_control.

    Inputs come in the order of the setting `controls`, the study first; metrics and segments only of those that have
    language models trained on text.
    """
    texts = zip(job.paths("metrics"), job.paths("segments"), strict=True)
    studies = {
        said["name"]: StudyTables(
            kind=said["kind"],
            timing=read_table(timing, columns=["class", "onset_hi", "onset_censoring"]),
            rotation_summary=read_table(rotation),
            reconstruction=read_table(reconstruction),
            warmup_steps=float("nan") if said["warmup_steps"] is None else float(said["warmup_steps"]),
            **_text(said["has_text"], texts),
        )
        for said, timing, rotation, reconstruction in zip(
            job.value("controls"),
            job.paths("timings"),
            job.paths("rotations"),
            job.paths("reconstructions"),
            strict=True,
        )
    }
    layer = int(job.value("layer"))
    write_table(job.output("statistics"), compare_controls(studies).assign(layer=layer), CONTROL_STATISTICS, job.core)
    write_table(job.output("warmups"), warmup_control(studies).assign(layer=layer), WARMUP_CONTROL, job.core)


def _text(has_text: bool, texts: Iterator[tuple[Path, Path]]) -> dict[str, pd.DataFrame]:
    if not has_text:
        return {}
    metrics, segments = next(texts)
    return {"metrics": read_table(metrics), "segments": read_table(segments)}
