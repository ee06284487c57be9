"""Histories of features: norm and firing rate over snapshots."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, snapshot_axis, step_axis
from snapcoder.figures.style import CLASS_COLOURS, new_figure, not_found, sequential

_SHOWN = ("initialization", "emergent", "transient", "flat", "dense")
_SAMPLE = 24  # lines per panel


def history_matrix(trajectory: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return `column` as a frame [feature, step]."""
    return trajectory.pivot(index="feature", columns="step", values=column).sort_index(axis=1)


def history_order(timing: pd.DataFrame) -> pd.DataFrame:
    """Return live features by class, then peak, then onset: the row order of the heat-maps."""
    live = timing[timing["class"] != "dead"].copy()
    live["class_order"] = live["class"].map({name: rank for rank, name in enumerate(CLASS_COLOURS)})
    for column in ("peak_step", "onset_hi"):
        live[column] = live[column].astype("float64")
    return live.sort_values(["class_order", "peak_step", "onset_hi", "feature"], kind="stable", na_position="first")


def plot_class_trajectories(matrix: pd.DataFrame, chosen: pd.DataFrame, ax: Axes, *, colour: str) -> Axes:
    """Draw normalised norms of a spread sample of features, with the median and quartiles of all of them."""
    rows = matrix.reindex(chosen["feature"])
    x = place(rows.columns.to_numpy())
    sample = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).astype(int))]
    ax.plot(x, sample.to_numpy().T, color=colour, alpha=0.25, linewidth=0.8)
    low, middle, high = (rows.quantile(share) for share in (0.25, 0.5, 0.75))
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.plot(x, middle, color=colour, linewidth=2.4)
    ax.set_ylim(-0.03, 1.03)
    return step_axis(ax, rows.columns, label=False)


def draw_norm_trajectories(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw norm trajectories by class of feature, one panel each."""
    trajectory, timing = tables["feature_trajectory"], tables["feature_timing"]
    figure, axes = new_figure(2, 3, height=5.0, sharey=True)
    if trajectory.empty or timing.empty:
        for ax in axes.flat:
            not_found(ax, "no feature")
        return figure
    matrix, order = history_matrix(trajectory, "norm_rel"), history_order(timing)
    for name, ax in zip(_SHOWN, axes.flat, strict=False):
        chosen = order[order["class"] == name]
        if chosen.empty:
            not_found(ax, f"no {name} feature")
            continue
        plot_class_trajectories(matrix, chosen, ax, colour=CLASS_COLOURS[name])
        ax.set_title(f"{name} ({len(chosen):,})")
    _class_counts(timing, axes.flat[-1])
    axes.flat[-1].set_title("features per class")
    for ax in axes[:, 0]:
        ax.set_ylabel("norm / own maximum")
    figure.supxlabel("pre-training step (log scale; step 0 drawn at 0.5)", fontsize=9.5)
    return figure


def _class_counts(timing: pd.DataFrame, ax: Axes) -> Axes:
    counts = timing["class"].value_counts().reindex(list(CLASS_COLOURS), fill_value=0)
    place_on = ax.inset_axes((0.24, 0.0, 0.7, 1.0))
    ax.set_axis_off()
    bars = place_on.barh(range(len(counts)), counts, color=[CLASS_COLOURS[name] for name in counts.index])
    place_on.bar_label(bars, padding=3, fmt="{:,.0f}", fontsize=9)
    place_on.set_yticks(range(len(counts)), list(counts.index))
    place_on.invert_yaxis()
    place_on.grid(visible=False)
    place_on.set_xticks([])
    place_on.spines["bottom"].set_visible(False)
    place_on.set_xlim(0, max(1, counts.max()) * 1.25)
    return ax


def plot_history_heatmap(matrix: pd.DataFrame, order: pd.DataFrame, ax: Axes, *, top: float, label: str) -> Axes:
    """Draw one row per feature and one column per snapshot, with the class as a strip at the left."""
    values = matrix.reindex(order["feature"]).to_numpy(dtype=float)
    image = ax.imshow(values, aspect="auto", cmap=sequential(), vmin=0, vmax=top, interpolation="nearest")
    snapshot_axis(ax, matrix.columns)
    ax.set(xlabel="snapshot (pre-training step)", ylabel="")
    ax.set_yticks([])
    names = list(CLASS_COLOURS)
    strip = ax.inset_axes((-0.045, 0, 0.03, 1))
    codes = order["class"].map({name: rank for rank, name in enumerate(names)}).to_numpy()[:, None]
    strip.imshow(
        codes, aspect="auto", interpolation="nearest", vmin=0, vmax=len(names) - 1,
        cmap=ListedColormap([CLASS_COLOURS[name] for name in names]),
    )  # fmt: skip
    strip.set_axis_off()
    starts = np.flatnonzero(np.r_[True, np.diff(codes[:, 0]) != 0, True])
    for begin, end in itertools.pairwise(starts.tolist()):
        name = names[int(codes[begin, 0])]
        if end - begin >= 0.03 * len(codes):
            ax.text(
                -0.06, 1 - (begin + end) / 2 / len(codes), f"{name} ({end - begin:,})", rotation=0, ha="right",
                va="center", transform=ax.transAxes, color=CLASS_COLOURS[name], fontweight="bold", fontsize=9,
            )  # fmt: skip
        if begin:
            ax.axhline(begin - 0.5, color="white", linewidth=1.2)
    assert ax.figure is not None
    ax.figure.colorbar(image, ax=ax, label=label, shrink=0.7, pad=0.02)
    return ax


def draw_norm_heatmap(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the normalised norm of every live feature at every snapshot."""
    return _heatmap(tables, column="norm_rel", label="norm / own maximum", top=1.0)


def draw_rate_heatmap(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the firing rate of every live feature at every snapshot, relative to its own maximum."""
    return _heatmap(tables, column="rate", label="firing rate / own maximum", top=1.0)


def _heatmap(tables: Mapping[str, pd.DataFrame], *, column: str, label: str, top: float) -> Figure:
    trajectory, timing = tables["feature_trajectory"], tables["feature_timing"]
    figure, axes = new_figure(1, 1, height=5.6)
    order = history_order(timing) if not timing.empty else timing
    if trajectory.empty or order.empty:
        not_found(axes[0, 0], "no live feature")
        return figure
    matrix = history_matrix(trajectory, column).astype(float)
    matrix = matrix.div(matrix.max(axis=1).where(lambda most: most > 0), axis=0)
    plot_history_heatmap(matrix, order, axes[0, 0], top=top, label=label)
    return figure
