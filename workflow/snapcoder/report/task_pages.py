"""One page per ability: since when, carried by what, with which controls, and on which tokens."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from snapcoder.figures.strongest import TIMING_LABELS, top_carriers
from snapcoder.figures.summary import acquired_tasks
from snapcoder.report.finding import Finding, between, number, percent, step
from snapcoder.report.marked_prompts import LEVELS, prompts_of, signed, visible
from snapcoder.report.rendering import render

_ROWS = 20  # carriers in the table of a page
_VERDICTS = {"found": "found", "not_found": "not found", "undecidable": "undecidable"}
_KEYS = ("task_", "carriers_", "dominance_", "disrupt_", "restore_")


def task_rows(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return a row per scored task for the page of the layer; `slug` is None where nothing carries it."""
    performance, slugs = tables["task_performance"], task_slugs(tables)
    rows = []
    for task, since in acquired_tasks(performance).items():
        scored = performance[(performance["task"] == task) & (performance["status"] == "scored")].sort_values("step")
        last = scored.iloc[-1]
        rows.append(
            {
                "task": task,
                "slug": slugs.get(task),
                "accuracy": f"{percent(last['accuracy'])} "
                f"{between(last['accuracy_ci_lo'], last['accuracy_ci_hi'], as_percent=True)}",
                "since": "not acquired" if since is None else f"from {step(since)}",
                "age": _age(last),
                **_carried(tables, task),
            }
        )
    return rows


def _age(row: pd.Series) -> str:
    age = row.get("aoa_step", np.nan)
    return f"{step(age)} [{row['aoa_lo']:,.0f}, {row['aoa_hi']:,.0f}]" if np.isfinite(age) else "–"


def _carried(tables: Mapping[str, pd.DataFrame], task: str) -> dict[str, str]:
    """Return who leads a task and how its carriers lie in time, as text."""
    timing, handover = tables["task_feature_timing"], tables["handover"]
    if timing.empty or not (timing["task"] == task).any():
        return {"lag": "–", "lead": "–"}
    chosen = timing[(timing["task"] == task) & (timing["weighting"] == "last") & (timing["onset_by"] == "combined")]
    row, led = chosen.iloc[0], handover[handover["task"] == task].sort_values("step")
    passed = int(led["from_feature"].notna().sum())
    clear = "clear" if led["told_apart"].iloc[-1] else "not clear"
    lead = f"feature {int(led['holder'].iloc[-1])} ({clear}); hand-overs: {passed}"
    lag = f"{number(row['lag'])} {between(row['lag_ci_lo'], row['lag_ci_hi'])}" if np.isfinite(row["lag"]) else "–"
    return {"lag": lag, "lead": lead}


def task_slugs(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return per task with carriers the name of its page: safe in files and links, and never twice."""
    report = tables["attribution_report"]
    names = sorted(report["task"].unique()) if not report.empty else []
    slugs: dict[str, str] = {}
    for task in names:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", str(task)).strip("-") or "task"
        slug, n = plain, 1
        while slug in slugs.values():
            n += 1
            slug = f"{plain}-{n}"
        slugs[str(task)] = slug
    return slugs


def task_page(
    tables: Mapping[str, pd.DataFrame],
    task: str,
    *,
    study: str,
    layer: int,
    slug: str,
    findings: Sequence[Finding],
    provenance: str,
) -> str:
    """Return the HTML of one task's page; its figure is figures/task-<slug>.svg."""
    overview = next(row for row in task_rows(tables) if row["task"] == task)
    keys = {f"{prefix}{task}" for prefix in _KEYS}
    told = [{**one.as_json(), "word": _VERDICTS[one.verdict]} for one in findings if one.key in keys]
    return render(
        "task.html",
        study=study,
        layer=layer,
        task=task,
        slug=slug,
        overview=overview,
        findings=told,
        heat=heat_rows(tables, task),
        carriers=carrier_rows(tables, task),
        handovers=handover_rows(tables["handover"], task),
        prompts=prompts_of(tables, task),
        provenance=provenance,
    )


def heat_rows(tables: Mapping[str, pd.DataFrame], task: str) -> dict[str, Any]:
    """Return the twelve strongest carriers by snapshot: attribution as text, RelIE as a shade, and who leads."""
    report, relie, led = (tables[name] for name in ("attribution_report", "relie", "handover"))
    chosen = top_carriers(report[report["task"] == task]).sort_values(["relie_centroid", "feature"])
    rows = relie[(relie["task"] == task) & relie["feature"].isin(chosen["feature"])]
    attr, share = (rows.pivot(index="feature", columns="step", values=name) for name in ("attr", "relie"))
    led = led[led["task"] == task]
    clear = led["told_apart"] & (led["leader"] == led["holder"])
    leads = dict(zip(led["step"], zip(led["leader"], clear, strict=True), strict=True))
    largest = float(np.nanmax(share.to_numpy(dtype=float)))
    lines = []
    for feature in chosen["feature"]:
        cells = []
        for at in attr.columns:
            level = _level(float(share.loc[feature, at]), largest)
            leader, is_clear = leads[at]
            mark = "" if leader != feature else "leads clearly" if is_clear else "leads, not clearly"
            cells.append({"text": signed(float(attr.loc[feature, at])), "level": level, "mark": mark})
        lines.append({"feature": int(feature), "cells": cells})
    return {"steps": [f"{int(at):,}" for at in attr.columns], "rows": lines}


def _level(share: float, largest: float) -> int:
    return round(LEVELS * share / largest) if np.isfinite(share) and largest > 0 else 0


def carrier_rows(tables: Mapping[str, pd.DataFrame], task: str) -> list[dict[str, Any]]:
    """Return the carriers with the largest mean share, as text."""
    report, complexity = tables["attribution_report"], tables["complexity"]
    about = complexity.set_index("feature") if not complexity.empty else pd.DataFrame()
    chosen = report[report["task"] == task].sort_values(["share_mean", "feature"], ascending=[False, True]).head(_ROWS)
    rows = []
    for _, row in chosen.iterrows():
        feature = int(row["feature"])
        known = about.loc[feature] if feature in about.index else None
        rows.append(
            {
                "feature": feature,
                "kind": "–" if known is None else str(known["type"]),
                "token": None if known is None or pd.isna(known["top_token"]) else visible(str(known["top_token"])),
                "attr": signed(float(row["attr_final"])),
                "share": f"{percent(row['share_mean'])} ({percent(row['share_final'])})",
                "among": _among(row),
                "centroid": _centroid(row),
                "onset": _interval(row["onset_lo"], row["onset_hi"]),
                "verdict": str(row["verdict"]).replace("_", " "),
                "timing": TIMING_LABELS[str(row["timing_combined"])],
                "timing_class": str(row["timing_combined"]),
                "lag": _lag(row),
            }
        )
    return rows


def _among(row: pd.Series) -> str:
    first, last = f"{int(row['first_step']):,}", f"{int(row['last_step']):,}"
    return first if first == last else f"{first}–{last}"


def _centroid(row: pd.Series) -> str:
    return f"{10 ** row['relie_centroid']:,.0f}" if np.isfinite(row["relie_centroid"]) else "–"


def _interval(low: float, high: float) -> str:
    if pd.isna(high):
        return "never"
    return f"≤ {int(high):,}" if pd.isna(low) else f"{int(low):,}–{int(high):,}"


def _lag(row: pd.Series) -> str:
    if not np.isfinite(row["lag_combined"]):
        return "–"
    low = number(row["lag_combined_lo"]) if np.isfinite(row["lag_combined_lo"]) else "…"
    return f"{number(row['lag_combined'])} [{low}, {number(row['lag_combined_hi'])}]"


def handover_rows(handover: pd.DataFrame, task: str) -> list[dict[str, str]]:
    """Return the hand-overs of a task as text."""
    events = handover[handover["task"] == task].dropna(subset="from_feature").sort_values("step")
    return [
        {
            "old": str(int(row["from_feature"])),
            "new": str(int(row["holder"])),
            "between": f"{int(row['from_step']):,}–{int(row['step']):,}",
            "cosine": number(float(row["cosine"])),
            "across": number(float(row["cosine_across"])),
        }
        for _, row in events.iterrows()
    ]
