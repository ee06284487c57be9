"""How many dimensions the features fill, beside how many the activations themselves do."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, step_axis
from snapcoder.figures.style import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, legend_below, new_figure, not_found


def plot_feature_dimensionality(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the total dimensionality rate of all and of alive features, and its random-direction null."""
    x = place(table["step"])
    ax.plot(x, table["total_dim_rate"], marker="o", color=BLUE, label="all features")
    ax.plot(x, table["total_dim_rate_alive"], marker=".", color=SKY, linestyle="-.", label="alive features")
    ax.fill_between(x, table["dim_rate_null_ci_lo"], table["dim_rate_null_ci_hi"], color=GREY, alpha=0.35, linewidth=0)
    ax.plot(x, table["dim_rate_null_norms"], color=GREY, linestyle="--", label="random directions, same norms")
    ax.set_ylim(0, 1.02)
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
    """Draw feature dimensionality with its nulls (left) and that of the activations (right)."""
    table = tables["dimensionality"]
    figure, axes = new_figure(1, 2, height=4.1)
    if table.empty:
        for ax in axes.flat:
            not_found(ax, "no snapshot")
        return figure
    ordered = table.sort_values("step")
    plot_feature_dimensionality(ordered, axes[0, 0]).set_title("Total feature dimensionality")
    plot_activation_dimensionality(ordered, axes[0, 1]).set_title("Spectrum of the activations themselves")
    return figure
