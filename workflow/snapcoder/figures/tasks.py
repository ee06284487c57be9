"""What the model can do at each snapshot, and which features carry it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, snapshot_axis, step_axis, step_text
from snapcoder.figures.style import BLUE, GREY, LIGHT, SMALL, diverging, new_figure, not_found
from snapcoder.figures.summary import acquired_tasks
from snapcoder.tables.attribution import primary_attribution

_TASKS = 4  # tasks that get a row in the attribution and ablation figures
_FEATURES = 15  # rows of a heat-map


def plot_performance(rows: pd.DataFrame, ax: Axes, *, colour: str = BLUE) -> Axes:
    """Draw one task's accuracy per snapshot with its 95% interval and chance; filled where acquired."""
    ordered = rows.sort_values("step")
    x = place(ordered["step"])
    ax.fill_between(
        x, ordered["accuracy_ci_lo"].astype(float), ordered["accuracy_ci_hi"].astype(float), color=colour, alpha=0.2,
        linewidth=0,
    )  # fmt: skip
    ax.plot(x, ordered["accuracy"], color=colour)
    done = ordered["acquired"].to_numpy(dtype=bool)
    ax.plot(x[done], ordered["accuracy"][done], "o", color=colour, markersize=5)
    ax.plot(x[~done], ordered["accuracy"][~done], "o", mfc="white", mec=colour, markersize=5)
    ax.plot(x, ordered["chance"], color=GREY, linestyle="--", linewidth=1.1)
    ax.set_ylim(-0.02, 1.02)
    return step_axis(ax, ordered["step"], label=False)


def draw_task_performance(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw accuracy over training for every scored task."""
    performance = tables["task_performance"]
    scored = performance[performance["status"] == "scored"] if not performance.empty else performance
    names = sorted(scored["task"].unique()) if not scored.empty else []
    rows = max(1, -(-len(names) // 3))
    figure, axes = new_figure(rows, min(3, max(len(names), 1)), height=0.7 + 2.0 * rows, sharex=True, sharey=True)
    if not names:
        not_found(axes[0, 0], "no task with enough examples")
        return figure
    since = acquired_tasks(performance)
    for ax, task in zip(axes.flat, names, strict=False):
        plot_performance(scored[scored["task"] == task], ax)
        known = since[task]
        ax.set_title(f"{task}: {'not acquired' if known is None else f'from step {step_text(known)}'}", fontsize=9.5)
    shown = list(axes.flat)[: len(names)]
    for ax in list(axes.flat)[len(names) :]:
        ax.set_axis_off()
    for ax in shown[-axes.shape[1] :]:
        ax.tick_params(labelbottom=True)  # the last of each column, above an empty place too
    figure.supxlabel("pre-training step (log scale; step 0 drawn at 0.5)", fontsize=9.5)
    figure.supylabel("accuracy", fontsize=9.5)
    return figure


def carried_tasks(attribution: pd.DataFrame, performance: pd.DataFrame) -> list[str]:
    """Return tasks with attributed features: those acquired at the end first, then by name; at most four."""
    if attribution.empty:
        return []
    known = acquired_tasks(performance)
    names = sorted(attribution["task"].unique())
    return sorted(names, key=lambda task: (known.get(task) is None, task))[:_TASKS]


def why_nothing(table: pd.DataFrame, verb: str) -> str:
    """Return why there is nothing to `verb`: no table, or no task acquired."""
    if table.columns.empty:
        return "the study has no such table"
    return f"no snapshot has acquired a task, so there is nothing to {verb}"


def plot_attribution(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draw one task's attributions: strongest features × snapshots, ordered by the snapshot of their largest share.

    Grey: not among the strongest kept at that snapshot.
    """
    features = rows[rows["feature"] >= 0].assign(size=lambda frame: frame["attr"].abs())
    strongest = features.groupby("feature")["size"].max().sort_values(ascending=False, kind="stable")
    matrix = (
        features[features["feature"].isin(strongest.index[:_FEATURES])]
        .pivot(index="feature", columns="step", values="attr")
        .sort_index(axis=1)
    )
    order = np.argsort(matrix.abs().fillna(-1).to_numpy().argmax(axis=1), kind="stable")
    matrix = matrix.iloc[order]
    limit = float(np.nanmax(matrix.abs().to_numpy()))
    ax.set_facecolor(LIGHT)
    image = ax.imshow(
        matrix.to_numpy(dtype=float), aspect="auto", cmap=diverging(), vmin=-limit, vmax=limit, interpolation="nearest"
    )
    snapshot_axis(ax, matrix.columns)
    ax.set_yticks(range(len(matrix)), [str(feature) for feature in matrix.index], fontsize=SMALL)
    ax.set_ylabel("feature")
    assert ax.figure is not None
    ax.figure.colorbar(image, ax=ax, label="attribution (logits)", pad=0.02)
    return ax


def draw_attribution(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw attributions of the strongest features over snapshots beside each task's performance."""
    attribution, performance = primary_attribution(tables["attribution"]), tables["task_performance"]
    names = carried_tasks(attribution, performance)
    rows = max(1, len(names))
    figure, axes = new_figure(rows, 2, height=0.5 + 3.1 * rows, width_ratios=(1.7, 1))
    if not names:
        not_found(axes[0, 0], why_nothing(attribution, "attribute"))
        axes[0, 1].set_axis_off()
        return figure
    for (left, right), task in zip(axes, names, strict=True):
        plot_attribution(attribution[attribution["task"] == task], left).set_title(task)
        plot_performance(performance[performance["task"] == task], right).set_title("accuracy")
    axes[-1, 0].set_xlabel("snapshot (step) at which the task is above chance")
    axes[-1, 1].set_xlabel("pre-training step (log scale)")
    return figure
