"""Attributions beside what they approximate: the exact effect of one feature at a time."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import step_text
from snapcoder.figures.style import BLUE, GREY, new_figure, not_found
from snapcoder.tables.attribution import primary_attribution

_TASKS, _COLUMNS = 6, 3


def best_steps(quality: pd.DataFrame, performance: pd.DataFrame) -> dict[str, int]:
    """Return, for each attributed task by name, the attributed snapshot with the highest accuracy (the last of equals)."""
    if quality.empty or performance.empty:
        return {}
    done = quality[quality["status"] == "attributed"][["task", "step"]]
    scored = done.merge(performance[["task", "step", "accuracy"]], on=["task", "step"])
    ordered = scored.sort_values(["task", "accuracy", "step"])
    return {str(row["task"]): int(row["step"]) for _, row in ordered.groupby("task").tail(1).iterrows()}


def plot_truth(verified: pd.DataFrame, quality: pd.Series, ax: Axes) -> Axes:
    """Draw attribution against exact effect of one task's verified features; quality: its row of attribution_quality."""
    strongest = (verified["rank"] <= quality["n_exact_top"]).to_numpy()
    for chosen, colour, label in ((~strongest, GREY, "others"), (strongest, BLUE, "strongest")):
        ax.plot(
            verified["exact_effect"][chosen], verified["attr"][chosen], "o", color=colour, alpha=0.75, label=label,
            markeredgewidth=0,
        )  # fmt: skip
    both = verified[["exact_effect", "attr"]].to_numpy(dtype=float)
    margin = 0.06 * np.ptp(both)
    low, high = float(both.min() - margin), float(both.max() + margin)
    ax.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1.0)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_aspect("equal")
    ax.locator_params(nbins=5)
    ax.set_title(
        f"{quality['task']}, step {step_text(quality['step'])}\n"
        f"r {_shown(quality['exact_r'])} (held out {_shown(quality['exact_r_heldout'])}), "
        f"slope {_shown(quality['exact_slope'])}, n {len(verified)}",
        fontsize=9.0,
    )
    return ax


def _shown(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"


def draw_attribution_truth(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw attribution against exact effect for up to six tasks, each at its best snapshot."""
    attribution, quality = (primary_attribution(tables[name]) for name in ("attribution", "attribution_quality"))
    chosen = dict(list(best_steps(quality, tables["task_performance"]).items())[:_TASKS]) if len(attribution) else {}
    rows = max(1, -(-len(chosen) // _COLUMNS))
    figure, axes = new_figure(rows, _COLUMNS if chosen else 1, height=0.5 + 3.2 * rows)
    if not chosen:
        not_found(axes[0, 0], "no snapshot has acquired a task, so there is nothing to verify")
        return figure
    for ax, (task, step) in zip(axes.flat, chosen.items(), strict=False):
        here = attribution[(attribution["task"] == task) & (attribution["step"] == step)]
        verified = here[(here["feature"] >= 0) & here["exact_effect"].notna()]
        plot_truth(verified, quality[(quality["task"] == task) & (quality["step"] == step)].iloc[0], ax)
    axes[0, 0].legend(loc="upper left")
    for ax in list(axes.flat)[len(chosen) :]:
        ax.set_axis_off()
    figure.supxlabel("exact effect of the feature alone (logits)", fontsize=9.5)
    figure.supylabel("attribution (logits)", fontsize=9.5)
    return figure
