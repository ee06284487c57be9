"""Whether later features are more complex, and need more context."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from snapcoder.figures.axes import place, step_axis
from snapcoder.figures.style import GREY, LINE_COLOURS, VERMILION, new_figure, not_found
from snapcoder.figures.summary import median_interval
from snapcoder.figures.timing import shown_steps


def dated_complexity(timing: pd.DataFrame, complexity: pd.DataFrame) -> pd.DataFrame:
    """Return features with both an interval-censored onset and a complexity: onset_lo, onset_hi, complexity, type, …"""
    if timing.empty or complexity.empty:
        return pd.DataFrame(columns=["feature", "class", "onset_lo", "onset_hi", "peak_step", "complexity", "type"])
    onsets = timing.loc[
        (timing["onset_censoring"] == "interval") & (timing["class"] != "dead"),
        ["feature", "class", "onset_lo", "onset_hi", "peak_step", "rate_final", "rate_mean"],
    ]
    return onsets.merge(
        complexity.loc[complexity["complexity"].notna(), ["feature", "complexity", "type", "n_active"]], on="feature"
    )


def plot_complexity(dated: pd.DataFrame, steps: list[int], ax: Axes) -> Axes:
    """Draw complexity against the end of the onset interval, with the mean per onset."""
    jitter = np.random.default_rng(0)
    x = place(dated["onset_hi"]) * 10 ** jitter.uniform(-0.03, 0.03, len(dated))
    y = dated["complexity"].astype(float) + jitter.uniform(-0.22, 0.22, len(dated))
    ax.plot(x, y, ".", color=GREY, alpha=0.55, markersize=5)
    levels = dated.groupby("onset_hi", sort=True)["complexity"].agg(["mean", "count"])
    grouped = levels.loc[levels["count"] >= 3, "mean"]
    ax.plot(place(grouped.index), grouped, "-o", color=VERMILION, markersize=5)
    ax.set_ylim(0.6, 5.4)
    ax.set_yticks(range(1, 6))
    ax.set_ylabel("rule-based complexity")
    return step_axis(ax, steps)


def plot_type_onsets(dated: pd.DataFrame, steps: list[int], ax: Axes) -> Axes:
    """Draw the median onset per type of feature with its 95% interval, and every feature as a tick."""
    types = [name for name, count in dated["type"].value_counts().sort_index().items() if count]
    medians = {name: median_interval(place(dated.loc[dated["type"] == name, "onset_hi"])) for name in types}
    ordered = sorted(types, key=lambda name: (medians[name].value, name))
    for row, name in enumerate(ordered):
        found, colour = medians[name], LINE_COLOURS[row % len(LINE_COLOURS)]
        values = place(dated.loc[dated["type"] == name, "onset_hi"])
        ax.plot(values, np.full(len(values), row), "|", color=colour, alpha=0.35, markersize=9)
        if found.n > 5:
            ax.plot([found.low, found.high], [row, row], color=colour, linewidth=3, alpha=0.6)
        ax.plot([found.value], [row], "o", color=colour, markersize=7, markeredgecolor="white")
    ax.set_yticks(range(len(ordered)), [f"{name} ({medians[name].n})" for name in ordered])
    ax.set_ylim(-0.6, len(ordered) - 0.4)
    ax.invert_yaxis()
    return step_axis(ax, steps)


def correlation_text(tests: pd.DataFrame, measure: str = "complexity", statistic: str = "spearman") -> str:
    """Return Spearman's correlation of onset by norm and a measure, of all features and of emergent ones, as text."""
    lines = []
    for group in ("all", "emergent"):
        where = {"question": "later_more_complex", "x": "onset", "y": measure, "group": group,
                 "onset_by": "norm", "statistic_name": statistic}  # fmt: skip
        found = tests
        for column, value in where.items() if not tests.empty else ():
            found = found[found[column] == value]
        if found.empty or found["effect"].isna().all():
            lines.append(f"{group}: no correlation")
            continue
        row = found.iloc[0]
        p = "< 0.001" if row["p_adjusted"] < 0.001 else f"= {row['p_adjusted']:.3f}"
        lines.append(
            f"{group}: ρ = {row['effect']:+.2f} [{row['ci_lo']:+.2f}, {row['ci_hi']:+.2f}], p {p}, n = {row['n']:,}"
        )
    return "\n".join(lines)


def draw_complexity_onset(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw complexity and type against onset."""
    dated = dated_complexity(tables["feature_timing"], tables["complexity"])
    figure, axes = new_figure(1, 2, height=3.7)
    if dated.empty:
        not_found(axes[0, 0], "no feature with both an onset between two snapshots and a complexity")
        axes[0, 1].set_axis_off()
        return figure
    steps = shown_steps(tables["snapshots"], tables["feature_timing"])
    plot_complexity(dated, steps, axes[0, 0]).set_title(
        correlation_text(tables["order_tests"]), fontsize=9.5, fontweight="normal"
    )
    plot_type_onsets(dated, steps, axes[0, 1]).set_title("Onset by type of feature")
    return figure


def plot_windows(dated: pd.DataFrame, steps: list[int], ax: Axes) -> Axes:
    """Draw the context that features need against the end of the onset interval: points, and medians with quartiles."""
    jitter = np.random.default_rng(0)
    x = place(dated["onset_hi"]) * 10 ** jitter.uniform(-0.03, 0.03, len(dated))
    y = dated["window"] * 2 ** jitter.uniform(-0.12, 0.12, len(dated))
    ax.plot(x, y, ".", color=GREY, alpha=0.45, markersize=5)
    grouped = dated.groupby("onset_hi", sort=True)["window"].quantile([0.25, 0.5, 0.75]).unstack()
    grouped = grouped[dated.groupby("onset_hi")["window"].size() >= 3]
    middle = place(grouped.index)
    spread = np.abs(grouped[[0.25, 0.75]].to_numpy().T - grouped[0.5].to_numpy())
    ax.errorbar(middle, grouped[0.5], yerr=spread, fmt="-o", color=VERMILION, markersize=5, capsize=2, linewidth=1.5)
    _token_axis(ax.yaxis, dated["window"].max())
    ax.set_ylabel("tokens of context needed")
    return step_axis(ax, steps)


def plot_window_types(kinds: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share of features of each type that a context of so many tokens is enough for."""
    sizes = kinds["type"].value_counts()
    types = [str(name) for name, count in sizes.items() if count >= 3]
    for row, name in enumerate(types):
        window = np.sort(kinds.loc[kinds["type"] == name, "window"].to_numpy())
        shares = np.arange(1, len(window) + 1) / len(window)
        colour = LINE_COLOURS[row % len(LINE_COLOURS)]
        ax.step(np.r_[1, window], np.r_[0, shares], where="post", color=colour, label=f"{name} ({len(window)})")
    _token_axis(ax.xaxis, kinds["window"].max())
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("tokens of context needed")
    ax.set_ylabel("share of features")
    if types:
        ax.legend(loc="lower right")
    return ax


def _token_axis(axis: Axis, largest: float) -> None:
    scale = axis.axes.set_yscale if axis.axis_name == "y" else axis.axes.set_xscale
    scale("log", base=2)
    ticks = 2 ** np.arange(0, np.ceil(np.log2(max(largest, 2))) + 1)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def draw_context_window(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw how many tokens of context features need, against onset and by type."""
    windows, complexity = tables["context_length"], tables["complexity"]
    figure, axes = new_figure(1, 2, height=3.9)
    dated = dated_complexity(tables["feature_timing"], complexity)
    if windows.empty or dated.empty:
        not_found(axes[0, 0], "no feature with both an onset between two snapshots and a measured context")
        axes[0, 1].set_axis_off()
        return figure
    dated = dated.merge(windows[["feature", "window"]], on="feature")
    steps = shown_steps(tables["snapshots"], tables["feature_timing"])
    said = [f"{name}{correlation_text(tables['order_tests'], 'context_window', statistic)}"
            for name, statistic in (("", "spearman"), ("with rate and norm held fixed:\n", "partial_spearman"))]  # fmt: skip
    plot_windows(dated, steps, axes[0, 0]).set_title("\n".join(said), fontsize=9, fontweight="normal")
    plot_window_types(windows.merge(complexity[["feature", "type"]], on="feature"), axes[0, 1]).set_title(
        "Context needed by type of feature"
    )
    return figure
