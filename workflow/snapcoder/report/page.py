"""The page of one layer: facts of the run, findings, figures, features, tables, limits."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from snapcoder.figures.catalogue import CATALOGUE
from snapcoder.report.finding import Finding, between, number
from snapcoder.report.findings import SECTIONS, headlines
from snapcoder.report.rendering import render
from snapcoder.report.task_pages import task_rows
from snapcoder.storage.hashing import canonical_json

VERDICTS = {"found": "found", "not_found": "not found", "undecidable": "undecidable"}


@dataclass(frozen=True)
class TableLink:
    """A table of the study: its name, where it lies relative to the page, and what it says of itself."""

    name: str
    href: str
    rows: int
    about: Mapping[str, Any]


def index_page(
    tables: Mapping[str, pd.DataFrame],
    *,
    study: str,
    title: str,
    layer: int,
    findings: Sequence[Finding],
    claims: pd.DataFrame,
    links: Sequence[TableLink],
    core: Mapping[str, Any],
    n_cards: int,
    drawn: Collection[str] = (),
) -> str:
    """Return the HTML of a layer's page. `core` is the provenance of the report itself.

    `drawn` names the figures there are: one of an optional part of a study is shown only when it was drawn.
    """
    counts: Counter[str] = Counter(finding.verdict for finding in findings)
    return render(
        "index.html",
        title=title or f"{study}: features over pre-training",
        provenance=canonical_json(core),
        study=study,
        layer=layer,
        facts=run_facts(tables, layer=layer, core=core),
        software=sorted(core.get("software", {}).items()),
        sections=SECTIONS,
        findings=[finding.as_json() for finding in findings],
        claims=claim_rows(claims),
        claim_counts=Counter(claims["verdict"]),
        headlines=[finding.as_json() for finding in headlines(findings)],
        verdicts=VERDICTS,
        counts=[(VERDICTS[verdict], verdict, counts.get(verdict, 0)) for verdict in VERDICTS],
        figures=[figure for figure in CATALOGUE if not figure.part or figure.name in drawn],
        abilities=task_rows(tables),
        links=links,
        n_cards=n_cards,
        classes=sorted(tables["feature_timing"]["class"].unique()) if not tables["feature_timing"].empty else [],
        types=sorted(tables["complexity"]["type"].unique()) if not tables["complexity"].empty else [],
    )


def claim_rows(claims: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the claims as the page shows them: value with interval, p, and which findings to read."""
    rows = []
    for said in claims.sort_values("claim").to_dict("records"):
        row = {str(name): value for name, value in said.items()}
        value = ""
        if row["statistic"] is not None and np.isfinite(row["value"]):
            counted = not np.isfinite(row["ci_lo"]) and float(row["value"]).is_integer()
            digits = 0 if counted else 2
            unit = f" {row['unit']}" if row["unit"] else ""
            value = f"{row['statistic']}: {number(row['value'], digits)}"
            if np.isfinite(row["ci_lo"]) and np.isfinite(row["ci_hi"]):
                value += f" {between(row['ci_lo'], row['ci_hi'], digits)}"
            value += unit
        p = "" if not np.isfinite(row["p"]) else f"p {'<' if row['p'] < 0.001 else '='} {max(row['p'], 0.001):.3f}"
        style = {"supported": "found", "not supported": "not_found"}.get(str(row["verdict"]), "undecidable")
        rows.append({**row, "shown": value, "p_shown": p, "style": style})
    return rows


def run_facts(tables: Mapping[str, pd.DataFrame], *, layer: int, core: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was studied, as pairs of name and text, read from the tables."""
    facts = [("Site", f"residual stream after block {layer}, counted from 0 (blocks.{layer}.resid_post)")]
    snapshots, documents = tables["snapshots"], tables["documents"]
    if not snapshots.empty:
        base, added = snapshots[~snapshots["added"]], snapshots[snapshots["added"]]
        more = f", and {len(added)} added later ({_steps(added['step'])})" if len(added) else ""
        facts.append(
            ("Model", f"{int(snapshots['n_parameters'].iloc[0]):,} parameters, from {snapshots['source'].iloc[0]}")
        )
        facts.append(("Snapshots", f"{len(base)}: {_steps(base['step'])}{more}"))
        seen = snapshots["tokens"].dropna()
        if len(seen):
            facts.append(("Tokens seen at the end", f"{int(seen.max()):,}"))
    if not documents.empty:
        held = documents[documents["split"] == "heldout"]
        facts.append(
            (
                "Text",
                f"{len(documents):,} documents, {int(documents['n_tokens'].sum()):,} tokens, of which {len(held):,} documents and "
                f"{int(held['n_tokens'].sum()):,} tokens held out; from {', '.join(sorted(documents['source'].unique()))}",
            )
        )
    recon = tables["recon_metrics"]
    if not recon.empty:
        row = recon.sort_values("snapshot").iloc[0]
        facts.append(
            (
                "Dictionary",
                f"{int(row['dict_size']):,} features, {row['l0']:.1f} active per token, explained variance {row['ev']:.3f} "
                "on held-out text",
            )
        )
    facts.append(("Code of this report", f"fingerprint {core.get('code', 'unknown')}"))
    return facts


def _steps(steps: pd.Series) -> str:
    shown = [f"{int(step):,}" for step in sorted(steps)]
    return ", ".join(shown if len(shown) <= 24 else [*shown[:10], "…", *shown[-4:]])
