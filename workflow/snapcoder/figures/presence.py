"""Which evidence says that features are present, and what it makes of the decoder norm."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from snapcoder.figures.axes import place, snapshot_axis, step_axis
from snapcoder.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    VERMILION,
    YELLOW,
    new_figure,
    not_found,
    sequential,
)
from snapcoder.figures.summary import median_interval, norm_correlations

_LINES = {
    "by_norm": ("norm", BLUE), "alive": ("fires", ORANGE), "by_regression": ("regression", GREEN),
    "by_probe": ("probe", SKY), "by_scaling": ("latent scaling", PURPLE), "combined": ("combined", BLACK),
}  # fmt: skip
VERDICT_COLOURS = {
    "present_from_start": BLUE, "present": BLUE, "confirmed": GREEN, "unclear": LIGHT, "decoupled": PURPLE,
    "shrinkage": VERMILION, "silent": ORANGE, "unsupported": YELLOW, "absent": GREY,
}  # fmt: skip


def plot_shares(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share of live features that each evidence calls present, over snapshots."""
    by_step = rows.groupby("step", sort=True)
    for column, (label, colour) in _LINES.items():
        share = by_step[column].agg(lambda values: (values.isin([True, "present"])).mean())
        ax.plot(
            place(share.index), share, color=colour, label=label, marker="o", markersize=3,
            linewidth=2.6 if column == "combined" else 1.6, linestyle="-" if column == "combined" else "--",
        )  # fmt: skip
    ax.set(ylabel="share of live features present", ylim=(0, 1.02))
    ax.legend(loc="lower right", ncols=2)
    return step_axis(ax, rows["step"].unique())


def plot_snapshot_verdicts(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draw what the evidence makes of the features that the dictionary calls absent, snapshot by snapshot."""
    kinds = ["confirmed", "decoupled", "shrinkage", "unclear"]
    counts = rows.groupby(["step", "verdict"]).size().unstack(fill_value=0)
    below = np.zeros(len(counts))
    for name in kinds:
        count = counts[name].to_numpy() if name in counts else np.zeros(len(counts))
        ax.bar(range(len(counts)), count, bottom=below, color=VERDICT_COLOURS[name], label=name, width=0.85)
        below = below + count
    ax.set(ylabel="features absent by norm or silent", xlabel="snapshot (pre-training step)")
    ax.set_ylim(0, max(1.0, 1.15 * float(below.max())))
    snapshot_axis(ax, counts.index)
    ax.legend(loc="upper right", ncols=2)
    return ax


def plot_norm_against_probe(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draw probe AUROC against relative norm over features and snapshots, with the median per band of norm."""
    known = rows.dropna(subset=["norm_rel", "probe_auroc"])
    image = ax.hist2d(
        known["norm_rel"], known["probe_auroc"], bins=(30, 30), range=((0, 1), (min(0.45, known["probe_auroc"].min()), 1)),
        cmap=sequential(), norm=LogNorm(),
    )[3]  # fmt: skip
    band = np.clip((known["norm_rel"] * 10).astype(int), 0, 9)
    middle = known["probe_auroc"].groupby(band).median()
    ax.plot((middle.index + 0.5) / 10, middle, color=VERMILION, marker="o", label="median")
    rho = median_interval(norm_correlations(rows, "probe_auroc"))
    ax.annotate(
        f"median ρ over snapshots, per feature:\n{rho.value:.2f} [{rho.low:.2f}, {rho.high:.2f}], n = {rho.n:,}",
        (0.03, 0.03), xycoords="axes fraction", fontsize=SMALL, color="#444444",
        bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none"},
    )  # fmt: skip
    ax.set(xlabel="norm / own maximum", ylabel="AUROC of the probe")
    assert ax.figure is not None
    bar = ax.figure.colorbar(image, ax=ax, label="features × snapshots", pad=0.02)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return ax


def plot_verdicts(onsets: pd.DataFrame, ax: Axes) -> Axes:
    """Draw how many live features there are of each verdict."""
    names = [name for name in VERDICT_COLOURS if name != "present"]
    counts = onsets["verdict"].value_counts().reindex(names, fill_value=0)
    bars = ax.barh(range(len(names)), counts, color=[VERDICT_COLOURS[name] for name in names])
    ax.bar_label(bars, padding=3, fmt="{:,.0f}")
    ax.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set(xlabel="live features", xlim=(0, max(1, counts.max()) * 1.18))
    return ax


def draw_presence_evidence(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw presence by each evidence, verdicts by snapshot and by feature, and norm against probe."""
    rows, onsets = tables["feature_presence"], tables["feature_onsets"]
    figure, axes = new_figure(2, 2, height=6.6)
    live = onsets[onsets["class"] != "dead"] if not onsets.empty else onsets
    if rows.empty or live.empty:
        for ax in axes.flat:
            not_found(ax, "no live feature")
        return figure
    rows = rows[rows["feature"].isin(live["feature"])]
    plot_shares(rows, axes[0, 0]).set_title("Present, by each evidence")
    plot_snapshot_verdicts(rows, axes[0, 1]).set_title("Is the absence real?")
    if rows["probe_auroc"].notna().any():
        plot_norm_against_probe(rows, axes[1, 0]).set_title("Norm and linear separability")
    else:
        not_found(axes[1, 0], "no feature with enough tokens for a probe")
    plot_verdicts(live, axes[1, 1]).set_title("Verdicts on the onset by norm")
    return figure
