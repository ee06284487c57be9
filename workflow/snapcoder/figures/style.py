"""The one look of all figures: sizes, fonts, and a fixed colour for everything that is drawn more than once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

WIDTH = 9.5  # inches; shown at 912 CSS pixels or more, so 9 pt here is 9 pt on the page
SMALL = 8.5  # points: annotations; nothing is smaller

# Okabe & Ito (2008): told apart with every common form of colour blindness.
BLACK, ORANGE, SKY, GREEN, YELLOW = "#222222", "#E69F00", "#56B4E9", "#009E73", "#B8A800"
BLUE, VERMILION, PURPLE, GREY, LIGHT = "#0072B2", "#D55E00", "#AA4499", "#7F7F7F", "#D9D9D9"

CLASS_COLOURS = {
    "initialization": BLUE,
    "emergent": VERMILION,
    "transient": PURPLE,
    "flat": GREEN,
    "dense": ORANGE,
    "dead": GREY,
}
METRIC_COLOURS = {
    "loss": BLACK,
    "h1": SKY,
    "h2": GREEN,
    "h3": PURPLE,
    "unigram": SKY,
    "bigram": GREEN,
    "ev": BLUE,
    "l0": VERMILION,
    "mi_ctx": BLUE,
    "mi_beyond_bigram": VERMILION,
    "plain": BLUE,
    "procrustes": ORANGE,
    "null": GREY,
    "lr": ORANGE,
    "grad_norm": PURPLE,
}
LINE_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, YELLOW)

_RC = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs everywhere
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "legend.frameon": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "legend.fancybox": False,
    "figure.titlesize": 11.0,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": BLACK,
    "text.color": BLACK,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": BLACK,
    "ytick.labelcolor": BLACK,
    "axes.grid": True,
    "grid.color": "#ECECEC",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.0,
    "text.parse_math": False,  # names of tasks come from users and may hold a dollar sign
    "svg.fonttype": "path",
    "svg.hashsalt": "snapcoder",
    "svg.id": None,
    "path.simplify": True,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Apply the house style inside a with block, and leave matplotlib as it was afterwards."""
    look: Any = {**sns.axes_style("ticks"), **_RC}
    with mpl.rc_context(look):
        yield


def new_figure(rows: int = 1, columns: int = 1, *, height: float, **keywords: object) -> tuple[Figure, np.ndarray]:
    """Return a page-wide figure of `height` inches and its axes as an array [rows, columns]."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **keywords)  # type: ignore[call-overload]
    return figure, axes


def sequential() -> Colormap:
    """Return the colour map of quantities that start at zero; even in lightness, safe for the colour-blind."""
    return sns.color_palette("YlGnBu", as_cmap=True)


def diverging() -> Colormap:
    """Return the colour map of signed quantities; white is zero."""
    return sns.color_palette("vlag", as_cmap=True)


def step_colours(steps: Sequence[int]) -> dict[int, tuple[float, float, float]]:
    """Return one colour per snapshot, from light (early) to dark (late)."""
    palette = sns.color_palette("flare", n_colors=max(len(steps), 2))
    return dict(zip(sorted(steps), palette[-len(steps) :], strict=True)) if len(steps) else {}


def legend_below(ax: Axes, *, columns: int) -> None:
    """Put the legend under the axes, where it covers no curve."""
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns, columnspacing=1.2, handlelength=1.8)


def not_found(ax: Axes, what: str) -> Axes:
    """Turn `ax` into a plain panel that says what there is nothing to draw of."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, f"not found: {what}", ha="center", va="center", transform=ax.transAxes, color=GREY, wrap=True)
    return ax
