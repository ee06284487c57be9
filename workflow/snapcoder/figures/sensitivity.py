"""What onsets depend on: thresholds, snapshots, and how well snapshots are predicted by their neighbours."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snapcoder.figures.axes import place, step_axis
from snapcoder.figures.style import BLACK, BLUE, GREEN, GREY, LIGHT, ORANGE, PURPLE, VERMILION, WIDTH, not_found

_METHODS = {
    "own": ("its own decoder", BLACK, "-"),
    "interpolated": ("between its neighbours", VERMILION, "-"),
    "nearest": ("the nearer neighbour's", BLUE, "-"),
    "endpoints": ("between first and last", GREEN, "-"),
    "pca": ("as many principal components", GREY, "--"),
}


def choices(thresholds: pd.DataFrame, snapshots: pd.DataFrame) -> pd.DataFrame:
    """Return one row per choice of thresholds or snapshots, with its `label`, and whether it is the study's `own`.

    The study's own thresholds on all snapshots come once.
    """
    rules, grids = (
        thresholds.copy(),
        snapshots[snapshots["every"] > 1].copy() if not snapshots.empty else snapshots.copy(),
    )
    if not rules.empty:
        rules["label"] = [f"α {alpha:g}, m {m}" for alpha, m in zip(rules["alpha"], rules["consecutive"], strict=True)]
        rules["own"] = rules["default"].astype(bool)
    if not grids.empty:
        grids["label"] = [
            f"1 of {every} snapshots, from {phase}" for every, phase in zip(grids["every"], grids["phase"], strict=True)
        ]
        grids["own"] = False
    return pd.concat([frame for frame in (rules, grids) if not frame.empty], ignore_index=True)


def plot_peaks(rows: pd.DataFrame, steps: list[int], ax: Axes) -> Axes:
    """Draw the interval of the peak (bar) and the median onset (point) of every choice."""
    for height, row in enumerate(rows.to_dict("records")):
        colour = VERMILION if row["own"] else BLUE
        if pd.notna(row["peak_hi"]):
            ends = place([row["peak_lo"], row["peak_hi"]])
            ax.plot(ends, [height, height], color=colour, linewidth=6, alpha=0.45, solid_capstyle="butt")
        if pd.notna(row["median_onset"]):
            ax.plot(place([row["median_onset"]]), [height], "o", color=colour, markersize=5)
    ax.set_yticks(range(len(rows)), rows["label"])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(visible=True, axis="y")
    earliest = np.nanmin([*rows["peak_lo"].astype(float), *rows["median_onset"].astype(float)])
    return step_axis(ax, [step for step in steps if step >= earliest / 4])


def plot_shares(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share of emergent features of every choice."""
    colours = [VERMILION if own else BLUE for own in rows["own"]]
    ax.barh(range(len(rows)), rows["emergent_share"].astype(float), color=colours, alpha=0.6, height=0.6)
    ax.set_xlim(left=0)
    ax.set_xlabel("share of live features")
    return ax


def plot_agreement(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draw how many features keep their class, and how onsets correlate, against the study's own choice."""
    height = np.arange(len(rows))
    ax.plot(rows["class_agreement"].astype(float), height, "s", color=PURPLE, label="same class")
    ax.plot(rows["spearman_dated"].astype(float), height, "o", color=ORANGE, label="rank correlation of onsets")
    low = np.nanmin([0.5, *rows["spearman_dated"].astype(float), *rows["class_agreement"].astype(float)])
    ax.set_xlim(low - 0.05, 1.03)
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.13), ncols=1, handletextpad=0.3)
    return ax


def plot_heldout(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the explained variance of every inner snapshot by what its decoder is replaced with."""
    for method, (label, colour, style) in _METHODS.items():
        rows = table[table["method"] == method].sort_values("step")
        x = place(rows["step"])
        ax.plot(x, rows["ev"], style, color=colour, marker="o", label=label, linewidth=1.5)
        ax.fill_between(x, rows["ev_ci_lo"], rows["ev_ci_hi"], color=colour, alpha=0.15, linewidth=0)
    ax.set_ylim(min(0.0, float(table.loc[table["method"] != "blind", "ev"].min()) - 0.03), 1.02)
    ax.set_ylabel("explained variance")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return step_axis(ax, [*table["step_before"], *table["step_after"]])


def draw_sensitivity(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw onsets under other thresholds and fewer snapshots above, and predictions of held-out snapshots below."""
    thresholds, snapshots, heldout = (
        tables[name] for name in ("threshold_sensitivity", "snapshot_sensitivity", "heldout_snapshots")
    )
    rows = choices(thresholds, snapshots) if not (thresholds.empty and snapshots.empty) else pd.DataFrame()
    figure = Figure(figsize=(WIDTH, 3.6 + 0.27 * max(len(rows), 4)), layout="constrained")
    parts: np.ndarray = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.2 + 0.27 * max(len(rows), 4), 2.8])
    upper, lower = parts[:, 0]
    peaks, shares, agreement = upper.subplots(1, 3, sharey=True, width_ratios=[2.3, 1, 1.3])
    below = lower.subplots()
    if rows.empty or rows["median_onset"].isna().all():
        for ax in (peaks, shares, agreement):
            not_found(ax, "no onset between two snapshots")
    else:
        ends = tables["onset_distribution"]
        steps = sorted({int(step) for step in ends["step_hi"].dropna()}) if not ends.empty else []
        plot_peaks(rows, steps or _named_steps(rows), peaks).set_title("Peak and median of onsets")
        plot_shares(rows, shares).set_title("Emergent")
        plot_agreement(rows, agreement).set_title("Agreement")
        for ax in (shares, agreement):
            ax.tick_params(axis="y", length=0)
        for ax in (peaks, shares, agreement):
            ax.axhline(len(thresholds) - 0.5, color=LIGHT, linewidth=1.2)
    if heldout.empty:
        not_found(below, "no snapshot between others")
    else:
        plot_heldout(heldout, below).set_title("Snapshots reconstructed with the decoders of others")
    return figure


def _named_steps(rows: pd.DataFrame) -> list[int]:
    named = pd.concat([rows["peak_lo"], rows["peak_hi"]]).dropna().astype(int)
    return sorted(set(named))
