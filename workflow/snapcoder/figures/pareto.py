"""Explained variance against L0 over a sweep: crosscoders, and sparse autoencoders of single snapshots beside them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from snapcoder.figures.axes import place, step_axis, step_text
from snapcoder.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    SMALL,
    VERMILION,
    WIDTH,
    not_found,
)
from snapcoder.figures.sweep_curves import (
    middle_sparsity,
    pareto_front,
    pooled_points,
    sae_at_equal_l0,
    seed_spread,
    shared_points,
)

ARM_COLOURS = {"batchtopk": BLUE, "topk": GREEN, "jumprelu": VERMILION, "relu_l1": PURPLE}
MARKERS = ("o", "s", "^", "D", "v", "P", "p", "h")
SPARSITY_SIGN = {"batchtopk": "k", "topk": "k", "jumprelu": "λ", "relu_l1": "λ"}
EV, L0 = "explained variance, held out", "active features per token (L0)"


class Look:
    """Colour and marker of every arm and size in one table: colour by arm, lighter and other marker by size."""

    def __init__(self, metrics: pd.DataFrame) -> None:
        self.arms = [arm for arm in ARM_COLOURS if (metrics["arm"] == arm).any()]
        self.sizes = sorted(int(size) for size in metrics["n_features"].unique())

    def colour(self, arm: str, size: int) -> tuple[float, float, float]:
        """Return the arm's colour, mixed with white for all but the largest size."""
        rank, last = self.sizes.index(size), max(len(self.sizes) - 1, 1)
        share = 1.0 if len(self.sizes) == 1 else 0.45 + 0.55 * rank / last
        red, green, blue = to_rgb(ARM_COLOURS[arm])
        return 1 - share * (1 - red), 1 - share * (1 - green), 1 - share * (1 - blue)

    def marker(self, size: int) -> str:
        """Return the marker of a size."""
        return MARKERS[self.sizes.index(size) % len(MARKERS)]

    def legend(self, pooled: pd.DataFrame, shared: pd.DataFrame) -> list[Line2D]:
        """Return the entries of the legend: only what is drawn."""
        points = pd.concat([frame for frame in (pooled, shared) if len(frame)] or [pooled])
        beaten = set(points.loc[~points["on_front"].astype(bool), "kind"])
        entries = [Line2D([], [], color=ARM_COLOURS[arm], label=arm) for arm in self.arms]
        entries += [
            Line2D([], [], color=self.colour(arm, size), marker=self.marker(size), linestyle="", label=f"F = {size:,}")
            for size in self.sizes
            for arm in self.arms[:1]
        ]
        if len(pooled):
            entries.append(Line2D([], [], color=GREY, linewidth=1, label="front of all"))
        if "crosscoder" in beaten:
            entries.append(Line2D([], [], color=BLACK, marker="x", linestyle="", label="dominated"))
        if len(shared):
            entries.append(Line2D([], [], color=BLACK, marker="o", mfc="white", linestyle=":", label="SAEs"))
        if "sae" in beaten:
            entries.append(Line2D([], [], color=BLACK, marker="+", linestyle="", label="dominated SAE"))
        return entries


def plot_curves(points: pd.DataFrame, ax: Axes, look: Look) -> Axes:
    """Draw one line per kind, arm and size through its front; dominated points as crosses that no line joins.

    points: rows of `pooled_points` or `shared_points`. Bars span the seeds.
    """
    for _, curve in points.groupby(["kind", "arm", "n_features"], sort=True):
        first = curve.iloc[0]
        size, sae = int(first["n_features"]), first["kind"] == "sae"
        colour = look.colour(str(first["arm"]), size)
        front = curve[curve["on_front"]].sort_values("l0")
        ax.plot(
            front["l0"], front["ev"], color=colour, marker=look.marker(size), markersize=5.5, linewidth=1.4,
            linestyle=":" if sae else "-", mfc="white" if sae else colour, zorder=3,
        )  # fmt: skip
        beaten = curve[~curve["on_front"]]
        ax.plot(
            beaten["l0"], beaten["ev"], color=colour, marker="+" if sae else "x", markersize=7, linestyle="", zorder=3
        )
        _seed_bars(curve, ax, colour)
    return l0_axis(ax, points["l0"])


def _seed_bars(points: pd.DataFrame, ax: Axes, colour: tuple[float, float, float]) -> None:
    several = points[points["n_seeds"] > 1]
    ax.errorbar(
        several["l0"], several["ev"],
        xerr=np.stack([several["l0"] - several["l0_lo"], several["l0_hi"] - several["l0"]]).clip(0),
        yerr=np.stack([several["ev"] - several["ev_lo"], several["ev_hi"] - several["ev"]]).clip(0),
        color=colour, linestyle="", elinewidth=1.0, zorder=2,
    )  # fmt: skip


def plot_overall_front(points: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the front over all points as a staircase: what the sweep reaches with at most so many active features."""
    on = pareto_front(points["l0"].to_numpy(), points["ev"].to_numpy())
    front = points[on].sort_values("l0")
    ax.step(front["l0"], front["ev"], where="post", color=GREY, linewidth=1.0, zorder=1)
    return ax


def plot_sparsity_labels(points: pd.DataFrame, ax: Axes, look: Look) -> Axes:
    """Write the sparsity settings of every arm: over its largest size or, for every other arm, under its smallest."""
    for number, arm in enumerate(look.arms):
        above = number % 2 == 0
        size = look.sizes[-1 if above else 0]
        curve = points[(points["arm"] == arm) & (points["n_features"] == size)]
        for l0, ev, sparsity in zip(curve["l0"], curve["ev"], curve["sparsity"], strict=True):
            text = f"{SPARSITY_SIGN[arm]}={sparsity:g}"
            ax.annotate(
                text, (l0, ev), xytext=(0, 6 if above else -6), textcoords="offset points", ha="center",
                va="bottom" if above else "top",
                fontsize=SMALL, color=ARM_COLOURS[arm], path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip
    return ax


def plot_snapshots(metrics: pd.DataFrame, ax: Axes, look: Look, *, arm: str) -> Axes:
    """Draw one arm's explained variance per snapshot at its middle sparsity, and its autoencoders' at equal L0."""
    sparsity = middle_sparsity(metrics, arm)
    chosen = metrics[(metrics["arm"] == arm) & (metrics["sparsity"] == sparsity) & (metrics["snapshot"] >= 0)]
    lines = seed_spread(chosen[chosen["kind"] == "crosscoder"], ["n_features", "step"])
    saes = seed_spread(sae_at_equal_l0(metrics, arm=arm, sparsity=sparsity), ["n_features", "step"])
    for rows, sae in ((lines, False), (saes, True)):
        for _, curve in rows.groupby("n_features", sort=True):
            size = int(curve["n_features"].iloc[0])
            colour = look.colour(arm, size)
            x, middle = place(curve["step"]), curve["ev"].to_numpy()
            bars = np.stack([middle - curve["ev_lo"], curve["ev_hi"] - middle]).clip(0)
            ax.errorbar(
                x, middle, yerr=bars, color=colour, linestyle="" if sae else "-", linewidth=1.3, elinewidth=1.0,
                marker=look.marker(size), markersize=6.5 if sae else 2.5, mfc="white" if sae else colour,
                zorder=3 if sae else 2,
            )  # fmt: skip
    ax.set_title(f"{arm}, {SPARSITY_SIGN[arm]} = {sparsity:g}")
    return step_axis(ax, lines["step"], label=False)


def l0_axis(ax: Axes, l0: pd.Series) -> Axes:
    """Make the x axis an axis of L0, logarithmic when the values span a factor of three or more."""
    if len(l0) and l0.min() > 0 and l0.max() / l0.min() >= 3:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(L0)
    return ax


def draw_pareto(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the sweep: pooled over all snapshots; beside autoencoders on the same snapshots; snapshot by snapshot."""
    metrics = tables["sweep_metrics"]
    figure = Figure(figsize=(WIDTH, 7.0), layout="constrained")
    if metrics.empty:
        not_found(figure.subplots(), "no sweep was run")
        return figure
    look = Look(metrics)
    grid = figure.add_gridspec(2, 2 * len(look.arms), height_ratios=(4, 3))
    pooled, shared = pooled_points(metrics), shared_points(metrics)
    left = figure.add_subplot(grid[0, : len(look.arms)])
    right = figure.add_subplot(grid[0, len(look.arms) :], sharey=left)
    _draw_pooled(pooled, left, look)
    _draw_shared(shared, right, look, steps=sorted(metrics.loc[metrics["kind"] == "sae", "step"].unique()))
    for ax in (left, right):  # one scale, with room for the labels
        ax.margins(y=0.1)
    lower = [figure.add_subplot(grid[1, 2 * number : 2 * number + 2]) for number in range(len(look.arms))]
    for arm, ax in zip(look.arms, lower, strict=True):
        plot_snapshots(metrics, ax, look, arm=arm)
    _share_limits(lower)
    lower[0].set_ylabel(EV)
    figure.supxlabel("pre-training step (log scale; step 0 drawn at 0.5)", fontsize=9.5)
    entries = look.legend(pooled, shared)
    rows = -(-len(entries) // 8)
    figure.legend(
        handles=entries, loc="outside upper center", ncols=-(-len(entries) // rows), columnspacing=1.2, handlelength=1.8
    )
    return figure


def _draw_pooled(points: pd.DataFrame, ax: Axes, look: Look) -> None:
    ax.set_title("Crosscoders, all snapshots pooled")
    ax.set_ylabel(EV)
    if points.empty:
        not_found(ax, "no pooled score")
        return
    plot_overall_front(points, ax)
    plot_curves(points, ax, look)
    plot_sparsity_labels(points, ax, look)


def _draw_shared(points: pd.DataFrame, ax: Axes, look: Look, *, steps: Sequence[float]) -> None:
    named = ", ".join(step_text(step) for step in steps) if 0 < len(steps) <= 6 else "with SAEs of their own"
    ax.set_title(f"Mean over snapshots {named}")
    if points.empty:
        not_found(ax, "no snapshot has a sparse autoencoder of its own")
        return
    plot_curves(points, ax, look)
    ax.tick_params(labelleft=False)


def _share_limits(axes: Sequence[Axes]) -> None:
    low, high = min(ax.get_ylim()[0] for ax in axes), max(ax.get_ylim()[1] for ax in axes)
    for number, ax in enumerate(axes):
        ax.set_ylim(low, high)
        if number:
            ax.tick_params(labelleft=False)
