"""What the dictionary keeps of what the model uses: losses and task scores through the reconstruction."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, step_axis
from snapcoder.figures.style import (
    BLACK,
    BLUE,
    GREY,
    LINE_COLOURS,
    ORANGE,
    VERMILION,
    new_figure,
    not_found,
)
from snapcoder.figures.summary import acquired_tasks

_LOSSES = {
    "clean": ("the model itself", BLACK), "reconstructed": ("reconstruction", BLUE), "mean": ("mean", ORANGE),
    "zero": ("zero", VERMILION),
}  # fmt: skip
_MOST = 8  # tasks with a line
_LOWEST = -0.1  # shares below are cut


def plot_losses(losses: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the loss of held-out text by what stands in for the activation, with 95% bands, on a log scale."""
    for name, (label, colour) in _LOSSES.items():
        rows = losses[losses["activation"] == name].sort_values("step")
        x = place(rows["step"])
        low, high = rows["loss_ci_lo"].astype(float), rows["loss_ci_hi"].astype(float)
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        line = "--" if name == "reconstructed" else "-"
        ax.plot(x, rows["loss"], color=colour, label=label, linestyle=line, marker="o", markersize=3)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    ticks = [tick for tick in (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100) if _within(tick, losses["loss"])]
    ax.set_yticks(ticks)
    ax.minorticks_off()
    ax.set_ylabel("nats per token (log scale)")
    ax.legend(loc="best")
    return step_axis(ax, losses["step"].unique())


def _within(tick: float, values: pd.Series) -> bool:
    return bool(0.9 * values.min() <= tick <= 1.1 * values.max())


def plot_recovered(losses: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share of the loss recovered against both ablations, with 95% bands; nothing where it is undefined."""
    lowest = 1.0
    for name in ("mean", "zero"):
        rows = losses[(losses["activation"] == name) & losses["recovered"].notna()].sort_values("step")
        if rows.empty:
            continue
        label, colour = _LOSSES[name]
        x = place(rows["step"])
        low, high = rows["recovered_ci_lo"].astype(float), rows["recovered_ci_hi"].astype(float)
        ax.fill_between(x, low.clip(lower=_LOWEST), high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(
            x, rows["recovered"].clip(lower=_LOWEST), color=colour, label=f"against {label}", marker="o", markersize=3
        )
        lowest = min(lowest, float(low.min()), float(rows["recovered"].min()))
    ax.axhline(1.0, color=GREY, linestyle="--", linewidth=1.1)
    ax.set_ylim(max(_LOWEST, min(0.9, lowest - 0.02)), 1.02)
    ax.set_ylabel("share of the loss recovered")
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="lower right")
    return step_axis(ax, losses["step"].unique())


def plot_tasks(tasks: pd.DataFrame, names: list[str], ax: Axes) -> Axes:
    """Draw the share of each task's contrast that is recovered; nothing where clean and patch prefix do not differ."""
    for number, task in enumerate(names):
        rows = tasks[(tasks["task"] == task) & tasks["recovered"].notna()].sort_values("step")
        colour = LINE_COLOURS[number % len(LINE_COLOURS)]
        bars = [
            (rows["recovered"] - rows["recovered_ci_lo"]).clip(lower=0),
            (rows["recovered_ci_hi"] - rows["recovered"]).clip(lower=0),
        ]
        x = place(rows["step"]) * 1.02 ** (number - len(names) / 2)  # beside each other
        ax.errorbar(x, rows["recovered"], yerr=bars, color=colour, label=task, marker="o", markersize=3, elinewidth=0.7)
    ax.axhline(1.0, color=GREY, linestyle="--", linewidth=1.1)
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    ax.set_ylim(_LOWEST, 1.6)
    ax.set_ylabel("share of the contrast recovered")
    ax.legend(loc="lower left", ncols=3)
    return step_axis(ax, tasks["step"].unique())


def shown_tasks(tasks: pd.DataFrame, performance: pd.DataFrame) -> list[str]:
    """Return the tasks whose share is known at some snapshot, by name: those acquired at the end, or all when none is."""
    if tasks.empty:
        return []
    since = acquired_tasks(performance)
    known = sorted(tasks.loc[tasks["recovered"].notna(), "task"].unique())
    return ([task for task in known if since.get(task) is not None] or known)[:_MOST]


def draw_recovered_loss(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw losses, shares recovered, and tasks through the reconstruction, over snapshots."""
    losses, tasks = tables["reconstruction_loss"], tables["task_reconstruction"]
    figure = new_figure(1, 1, height=6.4)[0]
    figure.clear()
    grid = figure.add_gridspec(2, 2)
    panels = [figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, :])]
    if losses.empty:
        for ax in panels:
            not_found(ax, "no text was read through the dictionary")
        return figure
    plot_losses(losses, panels[0]).set_title("Loss of held-out text, by activation")
    plot_recovered(losses, panels[1]).set_title("What the dictionary keeps")
    names = shown_tasks(tasks, tables["task_performance"])
    if names:
        plot_tasks(tasks, names, panels[2]).set_title("What it keeps of each task")
    else:
        not_found(panels[2], "no snapshot tells the two prefixes of a task apart")
    return figure
