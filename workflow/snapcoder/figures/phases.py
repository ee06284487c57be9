"""The statistical and the feature phase: loss, distances to n-grams, context information, boundaries."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import Scale, place, shade_boundaries, step_axis
from snapcoder.figures.style import METRIC_COLOURS, SMALL, new_figure, not_found
from snapcoder.figures.summary import CLOCKS, metric_curve, preferred_segments, smoothed_entropies, supported

_ORDERS = {1: ("h1", "unigram"), 2: ("h2", "bigram"), 3: ("h3", "trigram")}
_DISTANCES = {
    "kl_uni_context": ("unigram, per context", "unigram", "-"),
    "kl_bi_context": ("bigram, per context", "bigram", "-"),
    "kl_uni_marginal": ("unigram, marginal", "unigram", ":"),
    "kl_bi_marginal": ("bigram, marginal", "bigram", ":"),
}
_INFORMATION = {"mi_ctx": "whole context", "mi_beyond_bigram": "beyond the current token"}
_CLOCK: Mapping[Scale, str] = {"log": "log_step", "linear": "step"}
_FEATURES = {
    "n_new": ("new features", "-", "unigram"),
    "n_lost": ("lost features", "--", "h3"),
}


def plot_curve(
    curve: pd.DataFrame, ax: Axes, *, colour: str, label: str, line: str = "-", scale: Scale = "log"
) -> Axes:
    """Draw one metric per snapshot with its 95% band."""
    x = place(curve["step"], scale)
    low, high = curve["ci_lo"].astype(float), curve["ci_hi"].astype(float)
    if low.notna().any():
        ax.fill_between(x, low, high, color=colour, alpha=0.22, linewidth=0)
    ax.plot(x, curve["value"], color=colour, linestyle=line, marker=".", label=label)
    return ax


def plot_loss(metrics: pd.DataFrame, entropies: pd.DataFrame, ax: Axes, *, scale: Scale) -> Axes:
    """Draw the held-out loss against the cross-entropies of the n-gram models on the same text."""
    plot_curve(metric_curve(metrics, "loss"), ax, colour=METRIC_COLOURS["loss"], label="model", scale=scale)
    for row in smoothed_entropies(entropies).to_dict("records"):
        if row["order"] in _ORDERS:
            name, label = _ORDERS[row["order"]]
            ax.axhspan(row["ci_lo"], row["ci_hi"], color=METRIC_COLOURS[name], alpha=0.15, linewidth=0)
            ax.axhline(row["cross_entropy"], color=METRIC_COLOURS[name], linewidth=1.4, linestyle="--", label=label)
    ax.set_ylabel("nats/token")
    return ax


def plot_distances(metrics: pd.DataFrame, ax: Axes, *, scale: Scale) -> Axes:
    """Draw the KL divergences from the n-gram models to the model, marginal and per context."""
    for metric, (label, colour, line) in _DISTANCES.items():
        curve = metric_curve(metrics, metric)
        if len(curve):
            plot_curve(curve, ax, colour=METRIC_COLOURS[colour], label=label, line=line, scale=scale)
            best = curve.iloc[int(curve["value"].to_numpy().argmin())]
            ax.plot(
                place([best["step"]], scale), [best["value"]], "v", color=METRIC_COLOURS[colour], markersize=8,
                markeredgecolor="white", zorder=4,
            )  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.set_ylabel("nats/token")
    return ax


def plot_information(metrics: pd.DataFrame, ax: Axes, *, scale: Scale) -> Axes:
    """Draw how much the predictions depend on context, in all and beyond the current token."""
    for metric, label in _INFORMATION.items():
        curve = metric_curve(metrics, metric)
        if len(curve):
            plot_curve(curve, ax, colour=METRIC_COLOURS[metric], label=label, scale=scale)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("nats/token")
    return ax


def plot_turnover(metrics: pd.DataFrame, ax: Axes, *, scale: Scale) -> Axes:
    """Draw how many features appear and vanish at each snapshot."""
    for metric, (label, line, colour) in _FEATURES.items():
        curve = metric_curve(metrics, metric)
        if len(curve):
            plot_curve(curve, ax, colour=METRIC_COLOURS[colour], label=label, line=line, scale=scale)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("features")
    return ax


def _draw(tables: Mapping[str, pd.DataFrame], scale: Scale) -> Figure:
    metrics, segments = tables["phase_metrics"], tables["phase_segments"]
    figure, axes = new_figure(4, 1, height=10.0, sharex=True)
    if metrics.empty or metric_curve(metrics, "loss").empty:
        for ax in axes.flat:
            not_found(ax, "no snapshot was scored")
        return figure
    steps = sorted(metrics["step"].unique())
    column = axes[:, 0]
    plot_loss(metrics, tables["ngram_entropy"], column[0], scale=scale)
    plot_distances(metrics, column[1], scale=scale)
    plot_information(metrics, column[2], scale=scale)
    plot_turnover(metrics, column[3], scale=scale)
    titles = (
        "Loss on held-out text, against n-gram models",
        "Distance to n-gram models: KL(n-gram ‖ model); triangles mark minima",
        "Information used from the context",
        "Features that appear and vanish, against the snapshot before",
    )
    sets = ("ngram", "ngram", "ngram", "features")
    for ax, title, metric_set in zip(column, titles, sets, strict=True):
        ax.set_title(title, pad=18 if ax in (column[0], column[3]) else 6)
        step_axis(ax, steps, scale=scale, label=ax is column[-1])
        chosen = preferred_segments(segments, metric_set, _CLOCK[scale])
        if len(chosen):
            text = scale == "log" and ax in (column[0], column[3])
            shade_boundaries(ax, chosen, scale=scale, text=text, supported=supported(chosen))
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    cuts = [preferred_segments(segments, name, _CLOCK[scale]) for name in dict.fromkeys(sets)]
    if not any(supported(cut) for cut in cuts):
        column[0].annotate(
            f"no phase boundary on {CLOCKS[_CLOCK[scale]]}",
            (0.99, 0.97),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=SMALL,
        )
    return figure


def draw_phases(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the phase metrics with the boundaries found, on a log axis of steps."""
    return _draw(tables, "log")


def draw_phases_linear(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the same on a linear axis, where early phases take the room that they take in training."""
    return _draw(tables, "linear")
