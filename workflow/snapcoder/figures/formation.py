"""When features form in the activations, and whether that is when their norm says so."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from snapcoder.figures.axes import place, step_axis, step_text
from snapcoder.figures.style import CLASS_COLOURS, GREY, LIGHT, SMALL, new_figure, not_found
from snapcoder.figures.summary import ZERO

_SHOWN = ("emergent", "initialization", "transient", "flat", "dense")
MOST_CLASSES = 3
_FEW = 5  # features below which no median is drawn


def plot_formation(formation: pd.DataFrame, ax: Axes, *, value: str) -> Axes:
    """Draw the median of `value` over snapshots, one line per class with quartiles: the classes with most features.

    formation: the table feature_formation with the columns class and above_random.
    """
    counts = formation.groupby("class")["feature"].nunique()
    largest = sorted(counts[counts >= _FEW].index, key=lambda name: (-counts[name], name))[:MOST_CLASSES]
    for name in [name for name in _SHOWN if name in largest]:
        by_step = formation[formation["class"] == name].groupby("step")[value]
        middle = by_step.median()
        colour = CLASS_COLOURS[name]
        ax.fill_between(
            place(middle.index), by_step.quantile(0.25), by_step.quantile(0.75), color=colour, alpha=0.15, lw=0
        )
        ax.plot(place(middle.index), middle, "-o", color=colour, label=f"{name} ({counts[name]:,})")
    ax.axhline(0, color=GREY, linewidth=0.8)
    step_axis(ax, formation["step"].unique(), label=False).set_xlabel("pre-training step (log scale)")
    return ax


def plot_selection(formation: pd.DataFrame, ax: Axes) -> Axes:
    """Draw what choosing rows along random directions gives: the range from the median to the 95% quantile."""
    floor = formation.groupby("step")[["selection_median", "selection_p95"]].first()
    ax.fill_between(
        place(floor.index), floor["selection_median"], floor["selection_p95"], color=LIGHT, alpha=0.6, linewidth=0,
        label="random directions, median to 95%", zorder=0,
    )  # fmt: skip
    return ax


def plot_agreement(both: pd.DataFrame, steps: list[int], ax: Axes) -> Axes:
    """Draw onset by formation against onset by norm, one bubble per pair of snapshots, its area the number of features."""
    pairs = both.groupby(["onset_hi_norm", "onset_hi"]).size().reset_index(name="n")
    ends = place(np.array(steps))
    ax.plot(ends[[0, -1]], ends[[0, -1]], color=GREY, linewidth=1, zorder=0)
    ax.scatter(
        place(pairs["onset_hi_norm"].astype(float)), place(pairs["onset_hi"].astype(float)),
        s=8 + 260 * pairs["n"] / pairs["n"].max(), color=CLASS_COLOURS["emergent"], alpha=0.7, linewidth=0,
    )  # fmt: skip
    step_axis(ax, steps, label=False)
    ax.set_xlabel("onset by norm")
    ax.set_yscale("log")
    ends_at = ax.xaxis.get_majorticklocs()
    ax.yaxis.set_major_locator(FixedLocator(list(ends_at)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: "0" if y == ZERO else step_text(y)))
    ax.yaxis.set_minor_locator(FixedLocator(list(ends)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(*ax.get_xlim())
    ax.set_ylabel("onset by formation")
    return ax


def draw_formation(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw formation beyond tokens, formation against random tokens, and both onsets of emergent features."""
    formation, onsets, timing = (tables[name] for name in ("feature_formation", "formation_onset", "feature_timing"))
    figure, axes = new_figure(1, 3, height=3.6, width_ratios=[1, 1, 0.85])
    if formation.empty or timing.empty or not formation["formation"].notna().any():
        not_found(axes[0, 0], "no feature that fires on enough rows in both halves of the documents")
        for ax in axes[0, 1:]:
            ax.set_axis_off()
        return figure
    known = formation[formation["formation"].notna()].merge(timing[["feature", "class"]], on="feature")
    known["above_random"] = known["similarity"] - known["random"]
    plot_selection(known, axes[0, 0])
    plot_formation(known, axes[0, 0], value="formation").set_ylabel("mean cosine − control")
    axes[0, 0].set_title("Beyond same-token rows")
    axes[0, 0].legend(loc="upper left", fontsize=SMALL)
    axes[0, 0].set_ylim(top=1.45 * axes[0, 0].get_ylim()[1])
    plot_formation(known, axes[0, 1], value="above_random").set_title("Beyond random rows")
    own = timing.loc[
        (timing["class"] == "emergent") & (timing["onset_censoring"] == "interval"), ["feature", "onset_hi"]
    ]
    both = onsets.merge(own, on="feature", suffixes=("", "_norm"))
    never = int(both["onset_hi"].isna().sum())
    both = both[both["onset_hi"].notna()]
    axes[0, 2].set_title("Onsets, emergent")
    if both.empty:
        not_found(axes[0, 2], "no emergent feature that forms")
        return figure
    plot_agreement(both, sorted(int(step) for step in formation["step"].unique()), axes[0, 2])
    said = f"n = {len(both):,}" + (f"; {never:,} never form" if never else "")
    axes[0, 2].annotate(said, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=SMALL, color="#444444")
    return figure
