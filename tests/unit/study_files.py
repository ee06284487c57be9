"""Write a synthetic study's tables to files, and run steps on them, as the workflow does."""

from pathlib import Path

from snapcoder.figures.catalogue import figures_of
from snapcoder.job import Job
from snapcoder.steps.figures import figures
from snapcoder.steps.landing import landing
from snapcoder.steps.report import report
from snapcoder.steps.task_figures import task_figures
from snapcoder.storage.tables import write_table
from snapcoder.tables.catalogue import TABLES

COMMON = (
    "documents", "ngram_entropy", "snapshots", "tasks", "task_performance", "token_class_loss", "token_classes",
    "token_class_contrasts", "training_log",
)  # fmt: skip
CORE = {
    "schema": 1,
    "step": "test",
    "settings": {},
    "code": "0123456789abcdef",
    "inputs": [],
    "software": {"python": "3.11"},
}


def write_tables(root: Path, tables) -> list[Path]:
    paths = []
    for name, frame in sorted(tables.items()):
        path = root / "tables" / ("" if name in COMMON else "block2") / f"{name}.parquet"
        write_table(path, frame, TABLES[name], CORE)
        paths.append(path)
    return paths


def run_figures(root: Path, tables: list[Path]) -> list[Path]:
    every = []
    for step, of_tasks in ((figures, False), (task_figures, True)):
        drawn = figures_of(of_tasks=of_tasks)
        out = [root / "figures" / "block2" / f"{figure.name}.{kind}" for figure in drawn for kind in ("svg", "png")]
        settings = {"layer": 2, "study": "made"}
        step(Job(step.__name__, {"tables": tuple(tables)}, {"figures": tuple(out)}, settings, 1, CORE))
        every += out
    return every


def run_report(
    root: Path, tables: list[Path], drawn: list[Path], *, study: str = "made", max_cards: int = 2000
) -> Path:
    folder = root / "report" / "block2"
    outputs = {"page": "index.html", "manifest": "manifest.json", "findings": "findings.json"}
    settings = {"layer": 2, "study": study, "report": {"title": "", "max_cards": max_cards}}
    paths = {name: (folder / file,) for name, file in outputs.items()}
    paths["claims"] = (root / "report" / "claims.parquet",)
    report(Job("report", {"tables": tuple(tables), "figures": tuple(drawn)}, paths, settings, 1, CORE))
    return folder


def run_landing(root: Path, layers: list[int], *, study: str = "made") -> Path:
    pages = tuple(root / "report" / f"block{layer}" / "index.html" for layer in layers)
    page = root / "report" / "index.html"
    landing(Job("landing", {"pages": pages}, {"page": (page,)}, {"study": study, "layers": layers}, 1, CORE))
    return page
