"""How well the dictionary reconstructs each snapshot, and how its training went."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, step_axis, step_text
from snapcoder.figures.style import BLACK, GREEN, GREY, METRIC_COLOURS, SKY, new_figure, not_found, step_colours


def plot_explained_variance(metrics: pd.DataFrame, extensions: pd.DataFrame, ax: Axes) -> Axes:
    """Draw explained variance per snapshot, in its two flavours, with added snapshots as open diamonds."""
    base = metrics[metrics["snapshot"] >= 0].sort_values("step")
    x = place(base["step"])
    ax.plot(x, base["ev"], marker="o", color=METRIC_COLOURS["ev"], label="pooled over rows")
    ax.plot(x, base["ev_legacy"], marker=".", color=SKY, linestyle="--", label="mean of per-row ratios")
    if not extensions.empty:
        used = extensions[extensions["used"]]
        ax.plot(place(used["step"]), used["ev"], "D", mfc="white", mec=BLACK, label="added snapshots")
    pooled = metrics[metrics["snapshot"] == -1]
    if len(pooled):
        ax.axhline(float(pooled["ev"].iloc[0]), color=GREY, linewidth=1, linestyle=":", label="all snapshots")
    ax.set_title("Explained variance, held-out rows")
    ax.set_ylim(top=1.005)
    ax.legend()
    return step_axis(ax, base["step"])


def plot_sparsity(metrics: pd.DataFrame, extensions: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the number of active features per token and snapshot."""
    base = metrics[metrics["snapshot"] >= 0].sort_values("step")
    ax.plot(place(base["step"]), base["l0"], marker="o", color=METRIC_COLOURS["l0"], label="base snapshots")
    if not extensions.empty:
        used = extensions[extensions["used"]]
        ax.plot(place(used["step"]), used["l0"], "D", mfc="white", mec=BLACK, label="added snapshots")
        ax.legend()
    ax.set_ylim(bottom=0)
    ax.set_title("Active features per token (L0)")
    return step_axis(ax, base["step"])


def draw_reconstruction(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw explained variance and L0 per snapshot."""
    figure, axes = new_figure(1, 2, height=3.4)
    metrics, extensions = tables["recon_metrics"], tables["extension_metrics"]
    if metrics.empty:
        for ax in axes.flat:
            not_found(ax, "no snapshot was scored")
        return figure
    plot_explained_variance(metrics, extensions, axes[0, 0])
    plot_sparsity(metrics, extensions, axes[0, 1])
    return figure


def plot_training_curves(training: pd.DataFrame, ax: Axes, *, column: str) -> Axes:
    """Draw one column of the dictionary's training table, one line per snapshot, dark for late snapshots."""
    steps = sorted(training["step"].unique())
    colours = step_colours(steps)
    labelled = {steps[0], steps[len(steps) // 2], steps[-1]}
    for step, group in training.groupby("step", sort=True):
        label = f"snapshot {step_text(float(step))}" if step in labelled else None  # type: ignore[arg-type]
        ordered = group.sort_values("train_step")
        ax.plot(ordered["train_step"], ordered[column], color=colours[step], linewidth=1.3, label=label)  # type: ignore[index]
    ax.set_xlabel("crosscoder training step")
    return ax


def draw_crosscoder_training(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw held-out explained variance per snapshot, L0, and dead share over crosscoder training."""
    figure, axes = new_figure(1, 3, height=3.3)
    training = tables["crosscoder_training"]
    if training.empty:
        for ax in axes.flat:
            not_found(ax, "no training log")
        return figure
    plot_training_curves(training, axes[0, 0], column="ev").set_title("Explained variance, held out")
    first = training[training["train_step"] > training["train_step"].min()]
    if len(first):
        axes[0, 0].set_ylim(max(-0.05, first["ev"].min() - 0.05), 1.0)
    axes[0, 0].legend(loc="lower right")
    plot_training_curves(training, axes[0, 1], column="l0").set_title("Active features per token")
    axes[0, 1].set_ylim(bottom=0)
    pooled = training.groupby("train_step", sort=True)["dead"].mean()
    axes[0, 2].plot(pooled.index, pooled, color=GREEN)
    axes[0, 2].set(
        title="Dead features, share", xlabel="crosscoder training step", ylim=(0, max(0.05, pooled.max() * 1.1))
    )
    return figure
