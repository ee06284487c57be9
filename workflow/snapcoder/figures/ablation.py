"""How few features carry each task, beside matched and random features, neurons and principal directions."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, step_axis, step_text
from snapcoder.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
    not_found,
    step_colours,
)
from snapcoder.figures.tasks import carried_tasks, why_nothing

_SNAPSHOTS = 4  # curves in a panel
_CONTROLS = (("matched", GREY, -0.12), ("random", SKY, 0.12))  # name, colour, shift on the axis
_UNITS = (
    ("attr_here", "feature", BLUE, "features"),
    ("attr_final", "feature", SKY, "features, final ranking"),
    ("norm", "feature", GREY, "features, by norm"),
    ("attr_here", "neuron", VERMILION, "neurons"),
    ("attr_here", "pca", PURPLE, "principal directions"),
)
_VALUES = (("resample", BLUE), ("mean", ORANGE), ("zero", GREEN))


def plot_ablation(rows: pd.DataFrame, ax: Axes, *, mode: str, steps: list[int]) -> Axes:
    """Draw the metric against the number of features, one line per snapshot; at the last one, the range of controls."""
    kept = (rows["mode"] == mode) & (rows["ablation"] == "resample") & (rows["unit"] == "feature")
    chosen = rows[kept]
    colours = step_colours(steps)
    grid = sorted(chosen["k"].unique())
    position = {k: index for index, k in enumerate(grid)}
    for step in steps:
        here = chosen[(chosen["step"] == step) & (chosen["ranking"] == "attr_here")].sort_values("k")
        x = here["k"].map(position)
        if step == steps[-1]:
            ax.fill_between(
                x, here["metric_ci_lo"].astype(float), here["metric_ci_hi"].astype(float), color=colours[step], alpha=0.15,
                linewidth=0,
            )  # fmt: skip
        ax.plot(x, here["metric"], color=colours[step], marker=".", label=f"step {step_text(step)}")
    last = chosen[chosen["step"] == steps[-1]]
    for name, colour, shift in _CONTROLS:
        drawn = last[last["ranking"] == name].groupby("k", sort=True)["metric"]
        x = np.array([position[k] for k in drawn.groups], dtype=float) + shift
        ax.vlines(x, drawn.min(), drawn.max(), color=colour, linewidth=5, alpha=0.7)
        ax.plot(x, drawn.mean(), "_", color=BLACK, markersize=7, linestyle="none")
    ax.set_xticks(range(len(grid)), ["all" if k == grid[-1] else f"{k}" for k in grid])
    ax.axhline(0, color=GREY, linewidth=0.9)
    ax.set_ylabel("logit difference")
    return ax


def draw_ablation(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw what happens to each task when its top-k features are ablated, or all but them."""
    curves, performance = tables["ablation_curves"], tables["task_performance"]
    names = carried_tasks(curves, performance)
    rows = max(1, len(names))
    figure, axes = new_figure(rows, 2, height=0.7 + 2.7 * rows, sharex=bool(names))
    if not names:
        return _nothing(figure, axes, curves)
    for (left, right), task in zip(axes, names, strict=True):
        chosen = curves[curves["task"] == task]
        every = sorted(int(step) for step in chosen["step"].unique())
        spread = np.linspace(0, len(every) - 1, min(_SNAPSHOTS, len(every)))
        steps = sorted({every[round(at)] for at in spread})
        plot_ablation(chosen, left, mode="disrupt", steps=steps).set_title(f"{task}: without the top k")
        plot_ablation(chosen, right, mode="restore", steps=steps).set_title("with nothing but the top k")
        for name, colour, _ in _CONTROLS:
            right.plot([], [], color=colour, linewidth=5, alpha=0.7, label=f"{name}, step {step_text(steps[-1])}")
        right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        right.set_ylabel("")
    for ax in axes[-1]:
        ax.set_xlabel("k: number of features")
    return figure


def plot_share(rows: pd.DataFrame, ax: Axes, lines: list[tuple[pd.DataFrame, str, str]]) -> Axes:
    """Draw the share of the whole effect that k units have, k on a log axis; rows gives no line of its own."""
    for here, colour, label in lines:
        ordered = here.sort_values("k")
        metric = ordered["metric"].to_numpy(float)
        if len(ordered) > 1 and metric[-1] != metric[0]:
            share = (metric - metric[0]) / (metric[-1] - metric[0])
            ax.plot(ordered["k"], share, color=colour, marker=".", label=label)
    ax.axhline(0.5, color=GREY, linewidth=0.9, linestyle="--")
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(0, rows["k"].max())
    ax.set_ylim(-0.4, 1.4)
    return ax


def plot_half(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draw k50 of each kind of unit over snapshots, with 95% intervals; nothing where it is undefined."""
    for number, (ranking, unit, colour, _) in enumerate(_UNITS):
        kept = (rows["ranking"] == ranking) & (rows["unit"] == unit) & (rows["ablation"] == "resample")
        here = rows[kept & rows["k50"].notna()].sort_values("step")
        if ranking == "norm" or here.empty:
            continue
        x = place(here["step"]) * 1.04 ** (number - 2)  # side by side
        ax.vlines(x, here["k50_ci_lo"], here["k50_ci_hi"], color=colour, linewidth=1.2, alpha=0.6)
        ax.plot(x, here["k50"], color=colour, marker="o")
    ax.set_yscale("log")
    return step_axis(ax, rows["step"].unique(), label=False)


def draw_ablation_baselines(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw how much of the effect k features have, beside neurons, principal directions and other ablations."""
    curves, summary, performance = (
        tables[name] for name in ("ablation_curves", "ablation_summary", "task_performance")
    )
    names = carried_tasks(summary, performance)
    rows = max(1, len(names))
    figure, axes = new_figure(rows, 3, height=1.0 + 2.5 * rows, sharey="col")
    if not names:
        return _nothing(figure, axes, summary)
    for row, task in zip(axes, names, strict=True):
        of_task = curves[(curves["task"] == task) & (curves["mode"] == "restore")]
        last = of_task[of_task["step"] == of_task["step"].max()]
        main = last[last["ablation"] == "resample"]
        units = [
            (main[(main["ranking"] == ranking) & (main["unit"] == unit)], colour, label)
            for ranking, unit, colour, label in _UNITS
            if ranking != "attr_final"
        ]
        plot_share(last, row[0], units).set_title(f"{task}, step {step_text(int(last['step'].iloc[0]))}")
        ranked = last[(last["ranking"] == "attr_here") & (last["unit"] == "feature")]
        values = [(ranked[ranked["ablation"] == name], colour, name) for name, colour in _VALUES]
        plot_share(last, row[1], values).set_title("by what is put in")
        own = summary[(summary["task"] == task) & (summary["mode"] == "restore")]
        plot_half(own, row[2]).set_title("units for half the effect")
        row[0].set_ylabel("share of the effect")
    for ax, label in zip(axes[-1], ("k: number of units", "k: number of features", "pre-training step"), strict=True):
        ax.set_xlabel(label)
    axes[0, 1].legend(loc="lower right")
    handles = [axes[0, 0].plot([], [], color=colour, label=label)[0] for _, _, colour, label in _UNITS]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _nothing(figure: Figure, axes: np.ndarray, table: pd.DataFrame) -> Figure:
    not_found(axes[0, 0], why_nothing(table, "ablate"))
    for ax in axes[0, 1:]:
        ax.set_axis_off()
    return figure
