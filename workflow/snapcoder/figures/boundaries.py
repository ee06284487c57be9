"""Every phase boundary with its interval: metric sets down the page, clocks within each."""

import itertools
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, step_axis
from snapcoder.figures.style import BLUE, GREEN, GREY, ORANGE, SMALL, VERMILION, new_figure, not_found
from snapcoder.figures.summary import CLOCKS, p_text, preferred_segments, supported

_SETS = {"ngram": "n-gram metrics", "features": "feature metrics", "joint": "all metrics"}
_COLOURS = {"log_step": BLUE, "step": VERMILION, "tokens": ORANGE, "loss": GREEN}
_MODELS = {"piecewise_const": "levels", "piecewise_linear": "lines"}


def plot_cut(rows: pd.DataFrame, ax: Axes, *, y: float, colour: str) -> Axes:
    """Draw the boundaries of one cut at height `y`: filled where one continuous process is rejected, else open."""
    records = rows.sort_values("segment").to_dict("records")
    real = supported(rows)
    for before, row in itertools.pairwise(records):
        low, high = place([row["break_lo"], row["break_hi"]])
        ax.plot([low, high], [y, y], color=colour, linewidth=4, alpha=0.35, solid_capstyle="round")
        gap = place([before["last_step"], row["first_step"]])
        ax.plot(
            [float(gap.prod() ** 0.5)],
            [y],
            "o",
            color=colour,
            markersize=6,
            markerfacecolor=colour if real else "white",
        )
    return ax


def summary_of(rows: pd.DataFrame) -> str:
    """Return what stands beside a row: model, K with its support, p-value."""
    first = rows.iloc[0]
    support = f" ({first['k_support']:.0%})" if pd.notna(first["k_support"]) else ""
    return f"{_MODELS[first['model']]}, K = {first['n_segments']}{support}, {p_text(first['p_perm'])}"


def draw_boundaries(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the boundaries of every metric set on every clock, by the model that BIC prefers there."""
    segments = tables["phase_segments"]
    shown = {} if segments.empty else {
        (metric_set, clock): rows
        for metric_set in _SETS
        for clock in CLOCKS
        if len(rows := preferred_segments(segments, metric_set, clock))
    }  # fmt: skip
    figure, axes = new_figure(1, 1, height=max(2.5, 1.2 + 0.33 * len(shown)))
    ax = axes[0, 0]
    if not shown:
        not_found(ax, "no metrics were segmented")
        return figure
    ticks: list[tuple[float, str]] = []
    sets: dict[str, float] = {}  # height of the first row of each
    y = 0.0
    for (metric_set, clock), rows in shown.items():
        if metric_set not in sets:
            y -= 0.8 if sets else 0.0
            sets[metric_set] = y
        plot_cut(rows, ax, y=y, colour=_COLOURS[clock])
        ax.annotate(
            summary_of(rows), (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL,
            annotation_clip=False,
        )  # fmt: skip
        ticks.append((y, CLOCKS[clock]))
        y -= 1.0
    for name, top in sets.items():
        ax.annotate(
            _SETS[name], (0.0, top + 0.62), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL,
            fontweight="bold",
        )  # fmt: skip
    warmup = (segments["break_step"].astype(float) / segments["break_over_warmup"]).dropna()
    if len(warmup):
        ax.axvline(float(warmup.iloc[0]), color=GREY, linestyle=":", linewidth=1.2)
        ax.annotate(
            "end of warm-up", (float(warmup.iloc[0]), 1.0), xycoords=("data", "axes fraction"), xytext=(3, -2),
            textcoords="offset points", va="top", fontsize=SMALL, color=GREY,
        )  # fmt: skip
    ax.set_yticks([at for at, _ in ticks], [text for _, text in ticks])
    ax.set_ylim(y + 0.4, 1.3)
    step_axis(ax, sorted({*segments["first_step"], *segments["last_step"]}))
    return figure
