"""How far and when decoder directions turn."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, snapshot_axis, step_axis
from snapcoder.figures.style import GREY, METRIC_COLOURS, SMALL, diverging, legend_below, new_figure, not_found
from snapcoder.figures.summary import rotation_by_interval


def similarity_matrix(summary: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return one column of the pair summary as a symmetric frame [step, step]; pairs that are missing stay NaN."""
    matrix = summary.pivot(index="step_a", columns="step_b", values=column).astype(float)
    steps = sorted(set(matrix.index) | set(matrix.columns))
    matrix = matrix.reindex(index=steps, columns=steps)
    return matrix.where(matrix.notna(), matrix.T)


def plot_similarity(summary: pd.DataFrame, ax: Axes, *, column: str) -> Axes:
    """Draw a snapshot × snapshot matrix; white is zero."""
    matrix = similarity_matrix(summary, column)
    ax.imshow(matrix.to_numpy(), cmap=diverging(), vmin=-1, vmax=1, interpolation="nearest")
    snapshot_axis(ax, matrix.columns, most=12)
    return snapshot_axis(ax, matrix.index, which="y", most=12)


def draw_cosine_matrix(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw median cosines between all snapshots, plain and after Procrustes, beside the activations' CKA."""
    summary = tables["rotation_summary"]
    figure, axes = new_figure(1, 3, height=3.4)
    if summary.empty:
        for ax in axes.flat:
            not_found(ax, "no pair of snapshots")
        return figure
    titles = {
        "cos_median": "Decoder cosine, median",
        "procrustes_cos_median": "… after the best rotation",
        "cka": "Activations (CKA)",
    }
    for ax, (column, title) in zip(axes.flat, titles.items(), strict=True):
        plot_similarity(summary, ax, column=column)
        ax.set_title(title)
        ax.set_xlabel("snapshot (step)")
    axes[0, 0].set_ylabel("snapshot (step)")
    figure.colorbar(axes[0, 2].images[0], ax=list(axes.flat), shrink=0.75, pad=0.01, label="similarity")
    return figure


def plot_turning(intervals: pd.DataFrame, summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the median angle per decade between neighbouring snapshots, plain and beyond the common rotation."""
    edges = place(np.r_[intervals["step_a"], intervals["step_b"].iloc[-1:]])
    names = {"angle": ("plain", "plain"), "procrustes": ("procrustes", "beyond the common rotation")}
    middle = np.sqrt(edges[:-1] * edges[1:])
    for column, (colour, label) in names.items():
        low, high = intervals[f"{column}_lo"], intervals[f"{column}_hi"]
        ax.stairs(intervals[column], edges, baseline=None, color=METRIC_COLOURS[colour], linewidth=1.8, label=label)
        ax.vlines(middle, low, high, color=METRIC_COLOURS[colour], linewidth=3, alpha=0.45)
    pairs = intervals.merge(summary[["step_a", "step_b", "cos_null_p95"]], on=["step_a", "step_b"], how="left")
    null = np.degrees(np.arccos(pairs["cos_null_p95"].astype(float).clip(-1, 1))) / pairs["decades"]
    if null.notna().all():
        ax.stairs(null, edges, baseline=None, color=GREY, linestyle="--", linewidth=1.2, label="unrelated directions")
    ax.set_ylabel("degrees per decade of steps")
    top = float(np.nanmax([intervals["angle_hi"].max(), intervals["procrustes_hi"].max(), 1.0]))
    ax.set_ylim(0, 1.15 * top)  # unrelated directions across a short interval would dwarf everything
    legend_below(ax, columns=3)
    return step_axis(ax, [*intervals["step_a"], *intervals["step_b"].iloc[-1:]])


def plot_cosine_to_final(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the median cosine of each snapshot's directions with the final ones, and the chance level."""
    last = summary["step_b"].max()
    rows = summary[(summary["step_b"] == last) & (summary["step_a"] != last)].sort_values("step_a")
    x = place(rows["step_a"])
    ax.fill_between(x, rows["cos_ci_lo"], rows["cos_ci_hi"], color=METRIC_COLOURS["plain"], alpha=0.25, linewidth=0)
    ax.plot(x, rows["cos_median"], marker="o", color=METRIC_COLOURS["plain"], label="plain")
    ax.plot(
        x, rows["procrustes_cos_median"], marker=".", color=METRIC_COLOURS["procrustes"],
        label="beyond the common rotation",
    )  # fmt: skip
    ax.plot(x, rows["cos_null_p95"], color=METRIC_COLOURS["null"], linestyle="--", linewidth=1.2)
    if len(rows):
        ax.annotate(
            "95% of unrelated pairs lie below", (x[0], rows["cos_null_p95"].iloc[0]), va="top", xytext=(0, -4),
            textcoords="offset points", fontsize=SMALL, color="#555555",
        )  # fmt: skip
    ax.set_ylabel("median cosine to the final direction")
    legend_below(ax, columns=2)
    ax.set_ylim(min(-0.05, float(rows["cos_ci_lo"].min())) if len(rows) else -0.05, 1.02)
    return step_axis(ax, [*rows["step_a"], last])


def draw_rotation_rate(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw turning per decade (left) and closeness to the final direction (right)."""
    rotation, summary = tables["direction_rotation"], tables["rotation_summary"]
    figure, axes = new_figure(1, 2, height=4.0)
    intervals = rotation_by_interval(rotation) if not rotation.empty else rotation
    if intervals.empty or summary.empty:
        for ax in axes.flat:
            not_found(ax, "no feature alive at two neighbouring snapshots")
        return figure
    plot_turning(intervals, summary, axes[0, 0]).set_title("Turning between neighbours")
    plot_cosine_to_final(summary, axes[0, 1]).set_title("Closeness to the final direction")
    return figure
