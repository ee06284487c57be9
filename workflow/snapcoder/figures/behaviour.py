"""The model's own predictions beside n-gram models: sampled text, rule sets, and classes of tokens."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import step_axis
from snapcoder.figures.phases import plot_curve
from snapcoder.figures.style import GREY, LINE_COLOURS, METRIC_COLOURS, new_figure, not_found, step_colours
from snapcoder.figures.summary import class_label, metric_curve, shown_classes

_ORDERS = (("uni", "unigram", "h1"), ("bi", "bigram", "h2"), ("tri", "trigram", "h3"))
_RULES = {
    "r2_ngram_regression": "R² of log-probabilities\non three n-gram models",
    "ruleset_agreement": "same first guess as\nthe nearest n-gram model",
    "ruleset_trigram": "nearest is the trigram",
    "tv_ruleset": "distance to the nearest",
}
_FAMILIES = {
    "form": "What the token is",
    "frequency": "How frequent it is",
    "repetition": "Whether it repeats the context",
    "novelty": "Whether training showed it after these tokens",
    "position": "How many tokens precede it",
}
_ORDERED = ("frequency", "position")
LOWEST_GAP = -2.0  # nats: further below the trigram model all classes are alike


def plot_metrics(
    metrics: pd.DataFrame, ax: Axes, *, named: Mapping[str, tuple[str, str]], bottom: float | None = 0.0
) -> Axes:
    """Draw metrics, given as name: (label, colour), with their bands; those that are undefined are left out."""
    for name, (label, colour) in named.items():
        curve = metric_curve(metrics, name)
        if len(curve):
            plot_curve(curve, ax, colour=colour, label=label)
    if bottom is not None:
        ax.set_ylim(bottom=bottom)
    return ax


def draw_ngram_text(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the loss on text of n-gram models, divergences from them, and how far they describe the predictions."""
    metrics = tables["phase_metrics"]
    figure, axes = new_figure(2, 2, height=6.6, sharex=True)
    if metrics.empty or metric_curve(metrics, "loss").empty:
        for ax in axes.flat:
            not_found(ax, "no snapshot was scored")
        return figure
    excess = {f"excess_on_{name}_text": (name, METRIC_COLOURS[colour]) for _, name, colour in _ORDERS}
    divergence = {f"js_{short}_context": (name, METRIC_COLOURS[colour]) for short, name, colour in _ORDERS}
    rules = {name: (label, colour) for (name, label), colour in zip(_RULES.items(), LINE_COLOURS, strict=False)}
    plot_metrics(metrics, axes[0, 0], named=excess).set(
        title="Excess loss on text of n-gram models", ylabel="nats/token"
    )
    plot_metrics(metrics, axes[0, 1], named=divergence).set(title="Jensen–Shannon divergence", ylabel="nats")
    plot_metrics(metrics, axes[1, 0], named=rules).set(title="How far n-grams describe predictions", ylabel="share")
    axes[1, 0].set_ylim(0, 1)
    plot_metrics(metrics, axes[1, 1], named={"zipf_slope": ("average prediction", METRIC_COLOURS["loss"])}, bottom=None)
    axes[1, 1].set(title="Zipf slope of the average prediction", ylabel="log probability per log rank")
    reference = metric_curve(metrics, "zipf_slope_unigram")
    if len(reference):
        axes[1, 1].axhline(
            reference["value"].iloc[-1], color=GREY, linestyle="--", linewidth=1.2, label="training text"
        )
    for ax in axes.flat:
        step_axis(ax, sorted(metrics["step"].unique()), label=ax in axes[1])
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="best")
    axes[1, 0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return figure


def class_colours(family: str, classes: Sequence[str]) -> dict[str, object]:
    """Return a colour for each class: from light to dark where classes have an order."""
    if family in _ORDERED:
        return {classes[index]: colour for index, colour in step_colours(range(len(classes))).items()}
    return dict(zip(classes, LINE_COLOURS, strict=False))


def plot_class_losses(losses: pd.DataFrame, moments: pd.DataFrame, ax: Axes, *, colours: Mapping[str, object]) -> Axes:
    """Draw the loss of each class, with a diamond and its 95% interval where it has come halfway down."""
    for name, colour in colours.items():
        curve = losses[losses["class"] == name].sort_values("step")
        plot_curve(curve.assign(value=curve["loss"]), ax, colour=colour, label=class_label(name))  # type: ignore[arg-type]
        row = moments[moments["class"] == name].iloc[0]
        if pd.notna(row["aoa_step"]):
            height = 0.5 * (row["loss_first"] + row["loss_best"])
            if pd.notna(row["aoa_lo"]):
                ax.plot(
                    [row["aoa_lo"], row["aoa_hi"]], [height] * 2, color=colour, linewidth=3.5, solid_capstyle="butt"
                )
            ax.plot([row["aoa_step"]], [height], "D", color=colour, markeredgecolor="white", markersize=6.5, zorder=4)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("nats/token")
    return ax


def plot_class_gaps(losses: pd.DataFrame, ax: Axes, *, colours: Mapping[str, object]) -> Axes:
    """Draw how much better than the trigram model each class is predicted, from `LOWEST_GAP` up."""
    for name, colour in colours.items():
        curve = losses[losses["class"] == name].sort_values("step")
        renamed = {"gap_h3": "value", "gap_h3_ci_lo": "ci_lo", "gap_h3_ci_hi": "ci_hi"}
        part = curve[["step", *renamed]].rename(columns=renamed)
        plot_curve(part, ax, colour=colour, label=class_label(name))  # type: ignore[arg-type]
    ax.axhline(0, color=GREY, linewidth=1.0, linestyle="--")
    ax.set_ylim(LOWEST_GAP, max(0.5, 1.1 * float(np.nanmax(losses["gap_h3"]))))
    ax.set_ylabel("nats/token")
    return ax


def draw_token_class_loss(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw loss curves of classes of tokens, one family below the other, and their distance to the trigram model."""
    losses, moments = tables["token_class_loss"], tables["token_classes"]
    families = [name for name in _FAMILIES if len(shown_classes(moments, name))]
    figure, axes = new_figure(max(len(families), 1), 2, height=0.6 + 2.3 * max(len(families), 1), sharex=True)
    if not families:
        for ax in axes.flat:
            not_found(ax, "no class of tokens was scored")
        return figure
    steps = sorted(losses["step"].unique())
    for (left, right), family in zip(axes, families, strict=True):
        classes = shown_classes(moments, family)
        own = losses[(losses["family"] == family) & losses["class"].isin(classes)]
        colours = class_colours(family, classes)
        plot_class_losses(own, moments[moments["family"] == family], left, colours=colours)
        plot_class_gaps(own, right, colours=colours)
        left.set_title(_FAMILIES[family])
        if family == families[0]:
            right.set_title("Better than the trigram model by")
        right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        for ax in (left, right):
            step_axis(ax, steps, label=family == families[-1])
    return figure
