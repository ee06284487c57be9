"""Write the report of one layer: a page with its data and figures beside it, its findings as JSON, and a manifest."""

import os
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from snapcoder.figures.carriers import draw_task
from snapcoder.figures.save import figure_svg
from snapcoder.figures.style import house_style
from snapcoder.job import Job
from snapcoder.report.cards import feature_cards, feature_rows, strongest_features
from snapcoder.report.claims import judge
from snapcoder.report.finding import Finding
from snapcoder.report.findings import Tables, all_findings
from snapcoder.report.page import TableLink, index_page
from snapcoder.report.rendering import ASSETS, asset
from snapcoder.report.shards import card_scripts, shard_numbers, summary_script
from snapcoder.report.task_pages import task_page, task_slugs
from snapcoder.storage.atomic import write_bytes, write_text
from snapcoder.storage.hashing import canonical_json, file_sha256
from snapcoder.storage.json_file import write_json
from snapcoder.storage.tables import read_table, table_metadata, write_table
from snapcoder.study.analysis import ReportSettings
from snapcoder.tables.report import CLAIMS

_PER_CARD = ("feature_examples", "feature_logits")  # long; read for the features with a card only


def report(job: Job) -> None:
    """Write index.html with report.css, report.js, data/*.js, figures/* and task-*.html beside it, findings.json,
    manifest.json, and the table claims.

    The manifest lists every file that has no record of its own, with its sha256. The folder can be moved as a whole.
    """
    settings = job.section("report", ReportSettings)
    study, layer = str(job.value("study")), int(job.value("layer"))
    page, paths = job.output("page"), {path.stem: path for path in job.paths("tables")}
    tables = Tables({name: read_table(path) for name, path in paths.items() if name not in _PER_CARD})
    carded = strongest_features(tables["feature_trajectory"], most=settings.max_cards)
    tables |= {name: _rows_of(paths, name, carded) for name in _PER_CARD}
    findings = all_findings(tables)
    claims = judge(findings).assign(layer=layer)
    write_table(job.output("claims"), claims, CLAIMS, job.core)
    shard_of = shard_numbers(carded)
    files = {name: asset(name) for name in ASSETS}
    files["data/summary.js"] = summary_script(_summary(tables, shard_of))
    cards = feature_cards(tables, carded) if carded else {}
    files |= {f"data/{name}": text for name, text in card_scripts(cards, shard_of).items()}
    files["index.html"] = index_page(
        tables, study=study, title=settings.title, layer=layer, findings=findings, claims=claims, links=_links(paths, page.parent),
        core=job.core, n_cards=len(carded), drawn={figure.stem for figure in job.paths("figures")},
    )  # fmt: skip
    pictures = _task_pages(tables, files, job, findings)
    for name, text in files.items():
        write_text(page.parent / name, text)
    for name, svg in pictures.items():
        write_bytes(page.parent / name, svg)
    for figure in job.paths("figures"):
        write_bytes(page.parent / "figures" / figure.name, figure.read_bytes())
    listed = sorted([*files, *pictures, *(f"figures/{figure.name}" for figure in job.paths("figures"))])
    _remove_others(page.parent, set(listed))
    told = {"study": study, "layer": layer, "findings": [finding.as_json() for finding in findings]}
    write_json(job.output("findings"), told, job.core)
    hashes = {name: file_sha256(page.parent / name) for name in listed}
    write_json(job.output("manifest"), {"files": hashes}, job.core)


def _task_pages(
    tables: dict[str, pd.DataFrame], files: dict[str, str], job: Job, findings: list[Finding]
) -> dict[str, bytes]:
    """Add a page to `files` for every task with carriers, and return the figure of each by file name."""
    slugs = task_slugs(tables)
    pictures = {}
    for task, slug in slugs.items():
        files[f"task-{slug}.html"] = task_page(
            tables, task, study=str(job.value("study")), layer=int(job.value("layer")), slug=slug, findings=findings,
            provenance=canonical_json(job.core),
        )  # fmt: skip
        with house_style():
            canvas = draw_task(tables, task)
        pictures[f"figures/task-{slug}.svg"] = figure_svg(canvas, provenance=job.core, title=task)
    return pictures


def _rows_of(paths: dict[str, Path], name: str, features: list[int]) -> pd.DataFrame:
    if name not in paths or not features:
        return pd.DataFrame()
    return pq.read_table(paths[name], filters=[("feature", "in", features)], partitioning=None).to_pandas()


def _summary(tables: dict[str, pd.DataFrame], shard_of: dict[int, int]) -> dict[str, object]:
    trajectory = tables["feature_trajectory"]
    steps = trajectory[["step", "added"]].drop_duplicates().sort_values("step") if not trajectory.empty else trajectory
    return {
        "steps": [int(step) for step in steps["step"]] if not trajectory.empty else [],
        "added": [bool(added) for added in steps["added"]] if not trajectory.empty else [],
        "features": feature_rows(tables, shard_of),
    }


def _links(paths: dict[str, Path], folder: Path) -> list[TableLink]:
    links = []
    for name, path in sorted(paths.items()):
        href = Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
        links.append(TableLink(name, href, pq.read_metadata(path).num_rows, table_metadata(path)))
    return links


def _remove_others(folder: Path, listed: set[str]) -> None:
    """Remove data, figures and pages of an earlier report that this one does not have."""
    for path in sorted([*folder.glob("data/*.js"), *folder.glob("figures/*"), *folder.glob("task-*.html")]):
        if path.is_file() and path.relative_to(folder).as_posix() not in listed:
            path.unlink()
