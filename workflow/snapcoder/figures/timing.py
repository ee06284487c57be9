"""When features appear and how long they last."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from snapcoder.figures.axes import Scale, place, step_axis
from snapcoder.figures.style import BLACK, CLASS_COLOURS, GREY, SMALL, new_figure, not_found
from snapcoder.figures.summary import onset_bins

_LIVE = ("initialization", "emergent", "transient", "flat", "dense")


def shown_steps(snapshots: pd.DataFrame, timing: pd.DataFrame) -> list[int]:
    """Return the study's snapshots in order; without their table, the steps that onsets name."""
    if not snapshots.empty:
        return sorted(int(step) for step in snapshots["step"])
    named = pd.concat([timing["onset_lo"], timing["onset_hi"]]).dropna().astype(int)
    return sorted(set(named))


def plot_onset_counts(timing: pd.DataFrame, steps: list[int], ax: Axes, *, scale: Scale) -> Axes:
    """Draw the number of onsets in each interval between snapshots, stacked by class; bars span the interval."""
    edges = place(steps, scale)
    below = np.zeros(len(steps) - 1)
    for name in _LIVE:
        count = onset_bins(timing[timing["class"] == name], steps)["count"].to_numpy()
        if count.any():
            ax.bar(
                edges[:-1], count, width=np.diff(edges), bottom=below, align="edge", color=CLASS_COLOURS[name],
                edgecolor="white", linewidth=0.6, label=name,
            )  # fmt: skip
            below = below + count
    ax.set_ylabel("features per interval")
    return step_axis(ax, steps, scale=scale, label=False)


def plot_onset_rate(timing: pd.DataFrame, steps: list[int], ax: Axes, *, scale: Scale) -> Axes:
    """Draw onsets per decade of steps (log axis) or per 100 steps (linear), with 95% Poisson intervals.

    The dotted line is what the same number of onsets would give at a constant rate along this axis.
    """
    bins = onset_bins(timing, steps)
    edges = place(steps, scale)
    unit = bins["decades"] if scale == "log" else bins["steps"] / 100
    rescale = bins["decades"] / unit
    ax.stairs(bins["count"] / unit, edges, color=BLACK, linewidth=1.6)
    for left, right, low, high in zip(
        edges[:-1], edges[1:], bins["rate_lo"] * rescale, bins["rate_hi"] * rescale, strict=True
    ):
        ax.fill_between([left, right], low, high, color=GREY, alpha=0.22, linewidth=0)
    constant = bins["count"].sum() / unit.sum()
    ax.axhline(constant, color=GREY, linestyle=":", linewidth=1.4)
    ax.annotate(
        "constant rate", (1, constant), xycoords=("axes fraction", "data"), ha="right", va="bottom",
        xytext=(-3, 2), textcoords="offset points", color="#555555", fontsize=SMALL,
    )  # fmt: skip
    top = float((bins["count"] / unit).max())
    ax.set_ylim(0, max(1.0, 1.6 * top))
    ax.set_ylabel("onsets per decade" if scale == "log" else "onsets per 100 steps")
    return step_axis(ax, steps, scale=scale)


def draw_onset_histogram(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw onsets by norm: counts above, rates below, on a log axis at the left and a linear one at the right."""
    timing = tables["feature_timing"]
    figure, axes = new_figure(2, 2, height=5.2)
    steps = shown_steps(tables["snapshots"], timing) if not timing.empty else []
    if timing.empty or len(steps) < 2 or not (timing["onset_censoring"] == "interval").any():
        for ax in axes.flat:
            not_found(ax, "no feature with an onset between two snapshots")
        return figure
    scales: tuple[Scale, Scale] = ("log", "linear")
    for column, scale in enumerate(scales):
        plot_onset_counts(timing, steps, axes[0, column], scale=scale)
        plot_onset_rate(timing, steps, axes[1, column], scale=scale)
    axes[0, 0].set_title("Onsets, log steps")
    axes[0, 1].set_title("The same on linear steps")
    axes[0, 1].legend(loc="upper right")
    censoring = timing.loc[timing["class"] != "dead", "onset_censoring"].value_counts()
    axes[0, 0].annotate(
        f"not drawn: {censoring.get('left', 0):,} present at the first snapshot\n"
        f"and {censoring.get('right', 0):,} never lastingly present",
        (0, 1), xycoords="axes fraction", va="top", xytext=(6, -4), textcoords="offset points",
        fontsize=SMALL, color="#444444",
    )  # fmt: skip
    low, high = axes[0, 0].get_ylim()
    axes[0, 0].set_ylim(low, high * 1.3)
    return figure


def plot_lifetimes(timing: pd.DataFrame, ax: Axes, *, column: str, bins: np.ndarray) -> Axes:
    """Draw how many features live how long, stacked by class."""
    groups = [timing.loc[timing["class"] == name, column].dropna() for name in _LIVE]
    shown = [(name, group) for name, group in zip(_LIVE, groups, strict=True) if len(group)]
    ax.hist(
        [group for _, group in shown], bins=bins.tolist(), stacked=True, edgecolor="white", linewidth=0.6,
        color=[CLASS_COLOURS[name] for name, _ in shown], label=[name for name, _ in shown],
    )  # fmt: skip
    ax.set_ylabel("features")
    return ax


def draw_lifetime_histogram(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw lifetimes counted in snapshots (left) and in decades of steps (right)."""
    timing = tables["feature_timing"]
    figure, axes = new_figure(1, 2, height=3.3)
    live = timing[timing["class"] != "dead"] if not timing.empty else timing
    if live.empty:
        for ax in axes.flat:
            not_found(ax, "no live feature")
        return figure
    steps = shown_steps(tables["snapshots"], timing)
    n = max(len(steps), 1)
    counted = live.assign(lifetime_snapshots=(live["lifetime_frac"] * n).round())
    plot_lifetimes(counted, axes[0, 0], column="lifetime_snapshots", bins=np.arange(-0.5, n + 1))
    axes[0, 0].set(title="Lifetime in snapshots", xlabel=f"snapshots with the feature present, of {n}")
    longest = max(float(live["lifetime_logstep"].max()), 0.5)
    plot_lifetimes(live, axes[0, 1], column="lifetime_logstep", bins=np.linspace(0, longest, 19))
    axes[0, 1].set(title="Lifetime in steps", xlabel="decades of pre-training steps with the feature present")
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes[0, 0].legend(loc="upper left")
    return figure
