"""How far and when decoder directions turn."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, snapshot_axis, step_axis
from snapcoder.figures.style import GREY, METRIC_COLOURS, SMALL, diverging, legend_below, new_figure, not_found
from snapcoder.figures.summary import turning_point


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


def mark_split(ax: Axes, points: pd.DataFrame, steps: Sequence[int], *, turn: str) -> Axes:
    """Mark the best split into two blocks by dashed lines."""
    split = turning_point(points, statistic="blocks", turn=turn)
    if split is not None and pd.notna(split["step_b"]):
        edge = list(steps).index(int(split["step_b"])) - 0.5
        ax.axhline(edge, color=GREY, linestyle="--", linewidth=1.0)
        ax.axvline(edge, color=GREY, linestyle="--", linewidth=1.0)
    return ax


def draw_cosine_matrix(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw median cosines between all snapshots, plain and after Procrustes, beside the activations' CKA."""
    summary, points = tables["rotation_summary"], tables["turning_points"]
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
        if column != "cka":
            turn = "procrustes" if "procrustes" in column else "plain"
            mark_split(ax, points, sorted(summary["step_a"].unique()), turn=turn)
    axes[0, 0].set_ylabel("snapshot (step)")
    figure.colorbar(axes[0, 2].images[0], ax=list(axes.flat), shrink=0.75, pad=0.01, label="similarity")
    return figure


def plot_speed(intervals: pd.DataFrame, points: pd.DataFrame, ax: Axes, *, law: str) -> Axes:
    """Draw the speed of turning between neighbouring snapshots by one law, plain and beyond the common rotation.

    The shaded band is the 95% range of the interval of fastest turning.
    """
    column = {"steady": "turn_per_decade", "wandering": "spread_per_decade"}[law]
    for turn, label in (("plain", "plain"), ("procrustes", "beyond the common rotation")):
        rows = intervals[(intervals["turn"] == turn) & intervals[column].notna()].sort_values("step_a")
        if rows.empty:
            continue
        edges = place(np.r_[rows["step_a"], rows["step_b"].iloc[-1:]])
        ax.stairs(rows[column], edges, baseline=None, color=METRIC_COLOURS[turn], linewidth=1.8, label=label)
        ax.vlines(
            np.sqrt(edges[:-1] * edges[1:]), rows[f"{column}_ci_lo"], rows[f"{column}_ci_hi"],
            color=METRIC_COLOURS[turn], linewidth=3, alpha=0.45,
        )  # fmt: skip
        if law == "steady" and turn == "plain":
            raw = rows["angle_per_decade"]
            ax.stairs(
                raw, edges, baseline=None, color=GREY, linestyle=":", linewidth=1.2, label="with estimation noise"
            )
    peak = turning_point(points, law=law)
    if peak is not None and pd.notna(peak["ci_lo"]):
        low, high = place([float(peak["ci_lo"]), float(peak["ci_hi"])])
        ax.axvspan(low, high, color=GREY, alpha=0.18, linewidth=0, label="fastest, 95%")
    ax.set_ylim(bottom=0)
    ax.set_ylabel({"steady": "degrees per decade of steps", "wandering": "degrees² per decade of steps"}[law])
    legend_below(ax, columns=2)
    return step_axis(ax, [*intervals["step_a"], *intervals["step_b"]])


def plot_common_share(intervals: pd.DataFrame, ax: Axes) -> Axes:
    """Draw which share of the turn between neighbouring snapshots one rotation of the whole space explains."""
    rows = intervals[(intervals["turn"] == "plain") & intervals["common_share"].notna()].sort_values("step_a")
    if rows.empty:
        return not_found(ax, "no common rotation could be fitted")
    edges = place(np.r_[rows["step_a"], rows["step_b"].iloc[-1:]])
    ax.stairs(rows["common_share"], edges, baseline=None, color=METRIC_COLOURS["procrustes"], linewidth=1.8)
    ax.vlines(
        np.sqrt(edges[:-1] * edges[1:]), rows["common_share_ci_lo"], rows["common_share_ci_hi"],
        color=METRIC_COLOURS["procrustes"], linewidth=3, alpha=0.45,
    )  # fmt: skip
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_ylim(min(-0.1, float(rows["common_share"].min()) - 0.05), 1.0)
    ax.set_ylabel("share of the turn")
    return step_axis(ax, [*rows["step_a"], *rows["step_b"]])


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
    """Draw the speed of turning by both laws, what a common rotation explains of it, and closeness to the final direction."""
    intervals, summary = tables["rotation_intervals"], tables["rotation_summary"]
    figure, axes = new_figure(2, 2, height=7.4)
    if summary.empty or intervals.empty or intervals["turn_deg"].isna().all():
        for ax in axes.flat:
            not_found(ax, "no feature alive at two neighbouring snapshots")
        return figure
    points = tables["turning_points"]
    plot_speed(intervals, points, axes[0, 0], law="steady").set_title("Angle turned between neighbours")
    plot_speed(intervals, points, axes[0, 1], law="wandering").set_title("… if small turns add up at random")
    plot_cosine_to_final(summary, axes[1, 0]).set_title("Closeness to the final direction")
    plot_common_share(intervals, axes[1, 1]).set_title("Share of the turn common to all features")
    return figure
