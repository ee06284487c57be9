"""What holds with another seed, another warm-up, without training, or without a shared code."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, step_axis
from snapcoder.figures.style import BLUE, GREY, LINE_COLOURS, VERMILION, new_figure, not_found

LANDMARKS = {
    "unigram_nearest": "nearest to the unigram",
    "bigram_nearest": "nearest to the bigram",
    "loss_passes_bigram": "loss passes the bigram model",
    "fastest_turn": "directions turn fastest",
}
CLASSES = {"share_initialization": "from initialisation", "share_emergent": "emergent", "share_transient": "transient"}


def plot_class_shares(statistics: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share of each class of features in the study and in every control, with Wilson intervals."""
    names = list(dict.fromkeys(["study", *statistics["control"]]))
    for index, (quantity, label) in enumerate(CLASSES.items()):
        chosen = statistics[statistics["quantity"] == quantity].set_index("control").reindex(names)
        y = np.arange(len(names)) + 0.22 * (index - 1)
        low, high = chosen["value"] - chosen["ci_lo"], chosen["ci_hi"] - chosen["value"]
        ax.errorbar(
            chosen["value"], y, xerr=np.vstack([low, high]).clip(0), fmt="o", markersize=4.5, linewidth=1.6,
            color=LINE_COLOURS[index % len(LINE_COLOURS)], label=label,
        )  # fmt: skip
    ax.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    ax.invert_yaxis()
    ax.set_xlim(-0.02, 1.02)
    ax.set_xlabel("share of live features")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, handletextpad=0.3, columnspacing=1)
    return ax


def plot_landmarks(warmups: pd.DataFrame, ax: Axes) -> Axes:
    """Draw when each landmark of training comes, one row per landmark, one mark per model."""
    kinds = {"study": ("o", BLUE), "model_seed": ("D", GREY), "warmup": ("s", VERMILION)}
    shown = [name for name in LANDMARKS if (warmups["landmark"] == name).any()]
    for row, landmark in enumerate(shown):
        here = warmups[(warmups["landmark"] == landmark) & warmups["step"].notna()]
        for kind, (marker, colour) in kinds.items():
            part = here[here["kind"] == kind]
            ax.plot(
                place(part["step"]), np.full(len(part), row) + 0.16 * (list(kinds).index(kind) - 1), marker,
                color=colour, markersize=7, markeredgecolor="white", linestyle="",
                label=_legend(part, kind) if row == 0 and len(part) else None,
            )  # fmt: skip
    for kind, (_, colour) in kinds.items():
        for steps in warmups.loc[warmups["kind"] == kind, "warmup_steps"].dropna().unique():
            if kind != "model_seed":
                ax.axvline(float(steps), color=colour, linewidth=1, linestyle=":")
    ax.set_yticks(range(len(shown)), [LANDMARKS[name] for name in shown])
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, handletextpad=0.2, columnspacing=0.8
    )
    ax.set_xlabel("pre-training step (log scale)")  # the panel is narrow
    return step_axis(ax, [0, *warmups["step"].dropna()], label=False)


def _legend(part: pd.DataFrame, kind: str) -> str:
    if kind == "model_seed":
        return "other seed"
    steps = ", ".join(f"{value:.0f}" for value in part["warmup_steps"].dropna().unique())
    return f"{'study, ' if kind == 'study' else ''}warm-up {steps or 'unknown'}"


def plot_seed_match(features: pd.DataFrame, pairs: pd.DataFrame, ax: Axes) -> Axes:
    """Draw how well features are found again in dictionaries of other seeds, with what a random one gives."""
    cosine = features["seed_match_cos"].dropna()
    ax.hist(cosine, bins=np.linspace(0, 1, 41).tolist(), color=BLUE, alpha=0.8)
    for value in pairs["cos_null_p95"].dropna():
        ax.axvline(float(value), color=GREY, linestyle="--", linewidth=1)
    share = pairs["shared_both"].mean()
    ax.set_title(f"{share:.0%} of live features are shared (dashed: random, 95%)", fontsize=9.5, fontweight="normal")
    ax.set_xlabel("decoder cosine with the match, mean over seeds")
    ax.set_ylabel("features")
    return ax


def plot_series(check: pd.DataFrame, ax: Axes) -> Axes:
    """Draw cosines to the final direction by the dictionary and by autoencoders of single snapshots."""
    ordered = check.sort_values("step")
    steps, ordered = ordered["step"], ordered.iloc[:-1]  # at the last snapshot every direction is the final one
    x = place(ordered["step"])
    ax.plot(x, ordered["cos_final_median"], "-o", color=BLUE, markersize=4, label="to final, dictionary")
    ax.plot(x, ordered["sae_cos_final_median"], "-s", color=VERMILION, markersize=4, label="to final, autoencoders")
    ax.plot(x, ordered["sae_cos_median"], "-", color="black", linewidth=1.2, label="dictionary to autoencoder")
    ax.plot(x, ordered["cos_null_p95"], "--", color=GREY, linewidth=1, label="random, 95%")
    ax.set_ylim(-0.05, 1.02)
    ax.set_ylabel("median cosine")
    ax.legend(loc="upper left", fontsize=8, frameon=False)
    ax.set_xlabel("pre-training step (log scale)")
    return step_axis(ax, steps, label=False)


def draw_controls(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the four comparisons; one that the study did not ask for says so."""
    figure, axes = new_figure(2, 2, height=7.4)
    parts = [
        ("control_statistics", plot_class_shares, "no control with a dictionary of its own"),
        ("warmup_control", plot_landmarks, "no other model or warm-up"),
        ("seed_stability", None, "no dictionary of another seed"),
        ("sae_series_check", plot_series, "no autoencoders of single snapshots"),
    ]
    for (name, plot, missing), ax in zip(parts, axes.flat, strict=True):
        if tables[name].empty:
            not_found(ax, missing)
        elif plot is None:
            plot_seed_match(tables["feature_stability"], tables["seed_stability"], ax)
        else:
            plot(tables[name], ax)
    return figure
