"""The connection between features and abilities, as tables: who carries a task, when, and since when."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.attribution.carrier_rows import check_rows, relie_rows, report_rows
from snapcoder.attribution.carriers import FeatureHistory, TaskAttribution
from snapcoder.attribution.handover_rows import handover_rows
from snapcoder.attribution.lead_lag import Acquisition, acquisition_time
from snapcoder.attribution.timing_rows import add_corrections, timing_rows
from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.snapshot_decoders import SnapshotDecoders
from snapcoder.study.carriers import CarrierSettings
from snapcoder.tables.attribution import primary_attribution
from snapcoder.tasks.selection import task_rng


@dataclass(frozen=True)
class Connection:
    """The tables relie, relie_check, attribution_report, task_feature_timing and handover."""

    relie: pd.DataFrame
    check: pd.DataFrame
    report: pd.DataFrame
    timing: pd.DataFrame
    handover: pd.DataFrame


def connect(
    attribution: pd.DataFrame,
    performance: pd.DataFrame,
    history: FeatureHistory,
    decoders: SnapshotDecoders,
    *,
    settings: CarrierSettings,
) -> Connection:
    """Connect ATTRIBUTION rows of all snapshots with TASK_PERFORMANCE rows and what is known of the features."""
    rows = primary_attribution(attribution)
    parts = [
        _one_task(TaskAttribution.of(str(task), of_task), performance, history, decoders, settings)
        for task, of_task in rows[rows["feature"] >= 0].groupby("task", sort=True)
    ]
    together = [
        pd.concat([getattr(part, name) for part in parts], ignore_index=True) if parts else pd.DataFrame()
        for name in ("relie", "check", "report", "timing", "handover")
    ]
    found = Connection(*together)
    return Connection(found.relie, found.check, found.report, add_corrections(found.timing), found.handover)


def _one_task(
    whole: TaskAttribution,
    performance: pd.DataFrame,
    history: FeatureHistory,
    decoders: SnapshotDecoders,
    settings: CarrierSettings,
) -> Connection:
    carried = whole.strongest(settings.top)
    when = acquisition(performance[performance["task"] == whole.task])
    generator = task_rng(f"carriers of {whole.task}", settings.seed)
    return Connection(
        relie=relie_rows(carried, history),
        check=check_rows(carried, history, bootstrap=settings.bootstrap, generator=generator),
        report=report_rows(whole, carried, history, when, top=settings.top),
        timing=timing_rows(whole, carried, history, when, settings=settings, generator=generator),
        handover=handover_rows(carried, history, decoders),
    )


def acquisition(performance: pd.DataFrame) -> Acquisition:
    """Return when a task was acquired from its TASK_PERFORMANCE rows: age of acquisition, or the snapshots around it."""
    rows = performance.sort_values("step")
    acquired = rows["acquired"].to_numpy(dtype=bool)
    lost = np.flatnonzero(~acquired)
    first = lost[-1] + 1 if len(lost) else 0  # from here on it lasts
    lasting = first < len(rows)
    steps = log_steps(rows["step"].to_numpy())

    def known(name: str) -> float:
        return float(rows[name].iloc[0]) if name in rows and len(rows) else np.nan

    def place(name: str) -> float:
        return float(log_steps(np.array([known(name)]))[0]) if np.isfinite(known(name)) else np.nan

    return acquisition_time(
        aoa=place("aoa_step"),
        se=known("aoa_se"),
        low=place("aoa_lo"),
        high=place("aoa_hi"),
        last_without=float(steps[first - 1]) if lasting and first else np.nan,
        first_with=float(steps[first]) if lasting else np.nan,
    )
