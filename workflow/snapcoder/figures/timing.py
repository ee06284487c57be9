"""When features appear and how long they last."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from snapcoder.figures.axes import Scale, place, step_axis
from snapcoder.figures.style import BLACK, BLUE, CLASS_COLOURS, GREY, SMALL, VERMILION, new_figure, not_found
from snapcoder.figures.summary import onset_bins

_EVIDENCE_COLOURS = {"combined": BLACK, "norm": VERMILION, "firing": BLUE}  # the first there is gets the band
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


def plot_onset_rate(distribution: pd.DataFrame, ax: Axes, *, scale: Scale) -> Axes:
    """Draw onsets per decade of steps (log axis) or per 100 steps (linear), by every kind of evidence there is.

    The band is the bootstrap interval of the first kind; dotted and dashed, what two nulls expect along this axis.
    """
    inside = distribution[(distribution["group"] == "live") & distribution["decades"].notna()]
    kinds = [name for name in _EVIDENCE_COLOURS if (inside["onset_by"] == name).any()]
    top = 0.0
    for name in kinds:
        rows = inside[inside["onset_by"] == name].sort_values("bin")
        steps = [*rows["step_lo"].astype(int), int(rows["step_hi"].iloc[-1])]
        edges = place(steps, scale)
        width = rows["decades"].to_numpy() if scale == "log" else np.diff(steps) / 100
        rate = (rows["n"] * rows["mass"]).to_numpy() / width
        ax.stairs(rate, edges, color=_EVIDENCE_COLOURS[name], linewidth=1.8 if name == kinds[0] else 1.2, label=name)
        top = max(top, float(rate.max()))
        if name != kinds[0]:
            continue
        low, high = ((rows["n"] * rows[f"mass_ci_{end}"]).to_numpy() / width for end in ("lo", "hi"))
        for bin_ in range(len(rows)):
            ax.fill_between(edges[bin_ : bin_ + 2], low[bin_], high[bin_], color=GREY, alpha=0.22, linewidth=0)
        for null, style, label in (("uniform", ":", "constant rate"), ("hazard", "--", "constant chance")):
            expected = rows[f"expected_{scale}_{null}"].to_numpy(dtype=float) / width
            if np.isfinite(expected).all():
                ax.stairs(expected, edges, color=GREY, linestyle=style, linewidth=1.4, label=label, baseline=None)
    ax.set_ylim(0, max(1.0, 1.5 * top))
    ax.set_ylabel("onsets per decade" if scale == "log" else "onsets per 100 steps")
    return step_axis(ax, steps, scale=scale)


def draw_onset_histogram(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw onsets: counts by norm above, rates below, on a log axis at the left and a linear one at the right."""
    timing, distribution = tables["feature_timing"], tables["onset_distribution"]
    figure, axes = new_figure(2, 2, height=5.2)
    steps = shown_steps(tables["snapshots"], timing) if not timing.empty else []
    if timing.empty or len(steps) < 2 or not (timing["onset_censoring"] == "interval").any():
        for ax in axes.flat:
            not_found(ax, "no feature with an onset between two snapshots")
        return figure
    scales: tuple[Scale, Scale] = ("log", "linear")
    for column, scale in enumerate(scales):
        plot_onset_counts(timing, steps, axes[0, column], scale=scale)
        if distribution.empty:
            not_found(axes[1, column], "no distribution of onsets")
        else:
            plot_onset_rate(distribution, axes[1, column], scale=scale)
    axes[0, 0].set_title("Onsets, log steps")
    axes[0, 1].set_title("The same on linear steps")
    axes[0, 1].legend(loc="upper right")
    if not distribution.empty:
        axes[1, 1].legend(loc="upper right")
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
