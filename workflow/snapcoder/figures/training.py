"""How the language model itself was trained."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import step_axis
from snapcoder.figures.style import GREY, LIGHT, METRIC_COLOURS, new_figure, not_found

_POINTS = 1200  # of a long log; more would only thicken the line


def log_median(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return at each step the median of `values` over steps within 7% of it: an even window on a log axis."""
    first, last = np.searchsorted(steps, steps * 0.93), np.searchsorted(steps, steps * 1.07, side="right")
    return np.array([np.median(values[low:high]) for low, high in zip(first, last, strict=True)])


def plot_log(log: pd.DataFrame, ax: Axes, *, column: str, smooth: bool) -> Axes:
    """Draw one column of the training log over steps, with the median over steps within 7%."""
    rows = log.sort_values("step")
    rows = rows.iloc[:: max(1, len(rows) // _POINTS)]
    colour = METRIC_COLOURS[column]
    ax.plot(rows["step"], rows[column], color=LIGHT if smooth else colour, linewidth=0.9 if smooth else 1.8)
    if smooth:
        ax.plot(rows["step"], log_median(rows["step"].to_numpy(), rows[column].to_numpy()), color=colour)
    return ax


def draw_training(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw loss, learning rate and gradient norm of pre-training; grey lines mark the snapshots."""
    log = tables["training_log"]
    figure, axes = new_figure(1, 3, height=3.2)
    if log.empty:
        for ax in axes.flat:
            not_found(ax, "no log (the model was not trained here)")
        return figure
    snapshots = tables["snapshots"]
    steps = sorted(snapshots["step"]) if not snapshots.empty else [int(log["step"].min()), int(log["step"].max())]
    panels = {"loss": "Training loss (nats/token)", "lr": "Learning rate", "grad_norm": "Gradient norm"}
    for ax, (column, title) in zip(axes.flat, panels.items(), strict=True):
        plot_log(log, ax, column=column, smooth=column != "lr").set_title(title)
        for step in steps:
            ax.axvline(max(step, 0.5), color=GREY, alpha=0.25, linewidth=0.8, zorder=0)
        step_axis(ax, steps, label=False)
    axes[0, 1].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    figure.supxlabel("pre-training step (log scale; step 0 drawn at 0.5)", fontsize=9.5)
    return figure
