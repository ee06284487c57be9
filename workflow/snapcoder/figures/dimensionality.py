"""How many dimensions the features fill, beside how many the activations themselves do."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, step_axis
from snapcoder.figures.style import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, legend_below, new_figure, not_found

NULLS = (
    ("norms", "dim_rate_null", GREY, "--", "random directions"),
    ("spectrum", "dim_rate_null_spectrum", ORANGE, "-.", "random, activations' spectrum"),
)


def plot_feature_dimensionality(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the total dimensionality rate beside what random directions of the same norms reach."""
    x = place(table["step"])
    ax.plot(x, table["total_dim_rate"], marker="o", color=BLUE, label="features")
    for null, band, colour, style, label in NULLS:
        ax.fill_between(x, table[f"{band}_ci_lo"], table[f"{band}_ci_hi"], color=colour, alpha=0.35, linewidth=0)
        ax.plot(x, table[f"dim_rate_null_{null}"], color=colour, linestyle=style, label=label)
    ax.set_ylim(0, 1.02)
    ax.set_ylabel("share of the d dimensions")
    legend_below(ax, columns=2)
    return step_axis(ax, table["step"])


def plot_beyond_nulls(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the rate less each null, with the interval over features and draws of the null."""
    x = place(table["step"])
    for null, _, colour, style, label in NULLS:
        name = f"rate_minus_{null}"
        ax.fill_between(x, table[f"{name}_ci_lo"], table[f"{name}_ci_hi"], color=colour, alpha=0.35, linewidth=0)
        ax.plot(x, table[name], color=colour, linestyle=style, marker=".", label=f"less {label}")
    ax.axhline(0, color=BLACK, linewidth=0.8)
    ax.set_ylabel("rate less null")
    legend_below(ax, columns=1)
    return step_axis(ax, table["step"])


def plot_removed_directions(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the rate over alive features and without one direction."""
    x = place(table["step"])
    ax.plot(x, table["total_dim_rate"], marker="o", color=BLUE, label="all features")
    curves = {
        "total_dim_rate_alive": (SKY, "-.", "alive features"),
        "dim_rate_without_mean": (BLACK, ":", "without the mean activation"),
        "dim_rate_without_top": (ORANGE, "--", "… activations' first direction"),
        "dim_rate_without_shared": (GREEN, "-.", "… decoder's first direction"),
    }
    for column, (colour, style, label) in curves.items():
        ax.plot(x, table[column], color=colour, linestyle=style, linewidth=1.3, label=label)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("share of the d dimensions")
    legend_below(ax, columns=2)
    return step_axis(ax, table["step"])


def plot_activation_dimensionality(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the participation ratios of raw activations and of the decoder, as shares of d."""
    x, width = place(table["step"]), table["d_model"]
    low, high = (table[f"pr_act_ci_{end}"].astype(float) / width for end in ("lo", "hi"))
    ax.fill_between(x, low, high, color=ORANGE, alpha=0.3, linewidth=0)
    ax.plot(x, table["pr_act"] / width, marker="o", color=ORANGE, label="raw activations")
    ax.plot(x, table["pr_decoder"] / width, marker=".", color=GREEN, linestyle="-.", label="decoder")
    ax.plot(x, table["top1_var_frac"], color=BLACK, linestyle=":", label="variance of the first direction")
    ax.set_ylim(bottom=0)
    ax.set_ylabel("participation ratio / d")
    legend_below(ax, columns=2)
    return step_axis(ax, table["step"])


def draw_dimensionality(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw feature dimensionality with its nulls (top), and what single directions and the activations do (bottom)."""
    table = tables["dimensionality"]
    figure, axes = new_figure(2, 2, height=7.8)
    if table.empty:
        for ax in axes.flat:
            not_found(ax, "no snapshot")
        return figure
    ordered = table.sort_values("step")
    plot_feature_dimensionality(ordered, axes[0, 0]).set_title("Total feature dimensionality")
    plot_beyond_nulls(ordered, axes[0, 1]).set_title("Beyond random directions")
    plot_removed_directions(ordered, axes[1, 0]).set_title("Without single directions or dead features")
    plot_activation_dimensionality(ordered, axes[1, 1]).set_title("Spectrum of the activations themselves")
    return figure
