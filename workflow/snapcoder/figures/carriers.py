"""Which features carry a task, when, and since when: onsets against the acquisition, and shares over snapshots."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from snapcoder.figures.ablation import ablation_legend, plot_ablation, shown_steps
from snapcoder.figures.axes import place, snapshot_axis, step_axis
from snapcoder.figures.strongest import TIMING_LABELS, top_carriers
from snapcoder.figures.style import BLUE, GREEN, GREY, SMALL, VERMILION, new_figure, not_found, sequential
from snapcoder.figures.summary import ZERO
from snapcoder.figures.tasks import carried_tasks, plot_performance

TIMING_COLOURS = {"leads": BLUE, "together": GREEN, "lags": VERMILION, "undated": GREY}


def _nothing(axes: np.ndarray, table: pd.DataFrame) -> None:
    why = "the study has no such table" if table.columns.empty else "no snapshot has acquired a task"
    not_found(axes[0, 0], why)
    for ax in list(axes.flat)[1:]:
        ax.set_axis_off()


def plot_carriers(report: pd.DataFrame, timing: pd.DataFrame, steps: np.ndarray, ax: Axes) -> Axes:
    """Draw one task's strongest carriers: onset interval, RelIE centroid, and the band of the acquisition.

    report: its ATTRIBUTION_REPORT rows; timing: its TASK_FEATURE_TIMING rows; steps: all snapshots.
    """
    rows = top_carriers(report)
    y = np.arange(len(rows))[::-1]
    low, high = (rows[f"onset_{end}"].astype("float64").to_numpy() for end in ("lo", "hi"))
    start, end = place(np.nan_to_num(low, nan=ZERO)), place(np.nan_to_num(high, nan=float(steps.max())))
    when = timing.iloc[0]
    if np.isfinite(when["acquisition"]):
        ax.axvspan(10 ** when["acquisition_lo"], 10 ** when["acquisition_hi"], color=GREY, alpha=0.2, linewidth=0)
        ax.axvline(10 ** when["acquisition"], color=GREY, linewidth=1.0)
    for i, at in enumerate(y):
        colour = TIMING_COLOURS[str(rows["timing_combined"].iloc[i])]
        if np.isfinite(high[i]):
            ax.plot([start[i], end[i]], [at, at], color=colour, linewidth=4, solid_capstyle="butt")
            ax.plot([end[i]], [at], "|", color=colour, markersize=9, markeredgewidth=1.6)
    ax.plot(10 ** rows["relie_centroid"], y, "D", mfc="white", mec="#222222", markersize=4.5, linestyle="")
    names = [f"{feature} · {share:.1%}" for feature, share in zip(rows["feature"], rows["share_mean"], strict=True)]
    ax.set_yticks(y, names, fontsize=SMALL)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.grid(visible=False, axis="y")
    return step_axis(ax, steps, label=False)


def draw_task_carriers(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw onsets of the strongest carriers against the acquisition of each task."""
    report, timing = tables["attribution_report"], tables["task_feature_timing"]
    names = carried_tasks(report, tables["task_performance"])
    rows = max(1, -(-len(names) // 2))
    figure, axes = new_figure(rows, min(2, max(len(names), 1)), height=0.9 + 2.9 * rows, sharex=bool(names))
    if not names:
        _nothing(axes, report)
        return figure
    steps = np.sort(tables["task_performance"]["step"].unique())
    for ax, task in zip(axes.flat, names, strict=False):
        plot_carriers(report[report["task"] == task], timing[timing["task"] == task], steps, ax).set_title(task)
    for ax in list(axes.flat)[len(names) :]:
        ax.set_axis_off()
    for ax in list(axes.flat)[: len(names)][-axes.shape[1] :]:
        ax.tick_params(labelbottom=True)
    figure.supxlabel("pre-training step (log scale; step 0 drawn at 0.5)", fontsize=9.5)
    figure.supylabel("feature · mean share of attribution", fontsize=9.5)
    figure.legend(handles=_legend(), loc="outside upper center", ncols=5, handlelength=1.8, columnspacing=1.4)
    return figure


def _legend() -> list[Line2D]:
    lines = [Line2D([], [], color=TIMING_COLOURS[name], linewidth=4, label=TIMING_LABELS[name]) for name in
             ("leads", "together", "lags")]  # fmt: skip
    centroid = Line2D(
        [], [], marker="D", mfc="white", mec="#222222", linestyle="", markersize=4.5, label="RelIE centroid"
    )
    band = Line2D([], [], color=GREY, alpha=0.35, linewidth=8, label="acquisition of the task")
    return [*lines, centroid, band]


def draw_task(tables: Mapping[str, pd.DataFrame], task: str) -> Figure:
    """Draw one task for its page: accuracy with the acquisition, and what its top features do when ablated."""
    performance, timing, curves = (
        tables[name] for name in ("task_performance", "task_feature_timing", "ablation_curves")
    )
    chosen = curves[curves["task"] == task] if not curves.empty else curves
    figure, axes = new_figure(1, 3, height=2.9, width_ratios=(1.1, 1, 1))
    left, *others = axes[0]
    plot_performance(performance[performance["task"] == task], left).set_title("accuracy")
    left.set_xlabel("pre-training step (log scale)")
    when = timing[timing["task"] == task].iloc[0]
    if np.isfinite(when["acquisition"]):
        left.axvspan(10 ** when["acquisition_lo"], 10 ** when["acquisition_hi"], color=GREY, alpha=0.25, linewidth=0)
    if chosen.empty:
        for ax in others:
            not_found(ax, "no ablation of this task")
        return figure
    for ax, mode, title in zip(
        others, ("disrupt", "restore"), ("without the top k", "nothing but the top k"), strict=True
    ):
        plot_ablation(chosen, ax, mode=mode, steps=shown_steps(chosen)).set_title(title)
        ax.tick_params(axis="x", labelrotation=90)
        ax.set_xlabel("k: number of features")
    ablation_legend(others[1], shown_steps(chosen))
    return figure


def plot_relie(rows: pd.DataFrame, features: list[int], ax: Axes, *, column: str, limit: float) -> AxesImage:
    """Draw shares over snapshots, one row per feature, in the given order; return the image."""
    matrix = rows.pivot(index="feature", columns="step", values=column).sort_index(axis=1).reindex(features)
    image = ax.imshow(
        matrix.to_numpy(dtype=float), aspect="auto", cmap=sequential(), vmin=0, vmax=limit, interpolation="nearest"
    )
    snapshot_axis(ax, matrix.columns)
    ax.set_yticks(range(len(features)), [str(feature) for feature in features], fontsize=SMALL)
    return image


def draw_task_relie(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw RelIE beside RelDec of every task's strongest carriers, and who holds the lead."""
    relie, report, handover = tables["relie"], tables["attribution_report"], tables["handover"]
    names = carried_tasks(relie, tables["task_performance"])
    rows = max(1, len(names))
    figure, axes = new_figure(rows, 2, height=0.5 + 2.9 * rows)
    if not names:
        _nothing(axes, relie)
        return figure
    for (left, right), task in zip(axes, names, strict=True):
        chosen = top_carriers(report[report["task"] == task]).sort_values(["relie_centroid", "feature"])
        features = [int(feature) for feature in chosen["feature"]]
        shown = relie[(relie["task"] == task) & relie["feature"].isin(features)]
        limit = float(np.nanmax(shown[["relie", "reldec"]].to_numpy(dtype=float)))
        plot_relie(shown, features, left, column="relie", limit=limit)
        left.set_title(f"{task}: by attribution")
        image = plot_relie(shown, features, right, column="reldec", limit=limit)
        right.set_title("by decoder norm")
        figure.colorbar(image, ax=[left, right], label="share of the feature's own sum", pad=0.01, aspect=28)
        left.set_ylabel("feature")
        _mark_leaders(handover[handover["task"] == task].sort_values("step"), features, left)
    for ax in axes[-1]:
        ax.set_xlabel("snapshot (step) at which the task is above chance")
    return figure


def _mark_leaders(rows: pd.DataFrame, features: list[int], ax: Axes) -> None:
    """Mark the leader of each snapshot: filled where it is clearly ahead, open where it is not."""
    certain = rows["told_apart"] & (rows["leader"] == rows["holder"])
    for i, (leader, clear) in enumerate(zip(rows["leader"], certain, strict=True)):
        if leader in features:
            ax.plot(
                [i], [features.index(leader)], "o", mfc=VERMILION if clear else "white", mec=VERMILION, markersize=5
            )
