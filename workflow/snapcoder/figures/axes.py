"""Axes of training steps: logarithmic with a place for step 0, linear, and by snapshot."""

import itertools
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from snapcoder.figures.style import GREY, SMALL
from snapcoder.figures.summary import ZERO

Scale = Literal["log", "linear"]

LABELS = {"log": "pre-training step (log scale; step 0 drawn at 0.5)", "linear": "pre-training step (linear scale)"}


def place(steps: Iterable[float] | pd.Series | np.ndarray, scale: Scale = "log") -> np.ndarray:
    """Return where steps are drawn: as they are, but step 0 at 0.5 on a log axis."""
    values = np.asarray(steps, dtype=float)
    return np.where(values == 0, ZERO, values) if scale == "log" else values


def step_text(step: float) -> str:
    """Return a step as a short label: 512, 2k, 143k."""
    if step >= 10_000 and step % 1000 == 0:
        return f"{step / 1000:.0f}k"
    return f"{step:,.0f}"


def step_axis(ax: Axes, steps: Iterable[float] | pd.Index, *, scale: Scale = "log", label: bool = True) -> Axes:
    """Make the x axis an axis of steps: decades and 0 as labels, a small tick at every snapshot."""
    shown = np.unique(place(list(steps), scale))
    if scale == "log":
        ax.set_xscale("log")
        top = shown.max() if shown.size else 10.0
        bottom = shown.min() if shown.size else ZERO
        decades = [10.0**power for power in range(0, 9) if bottom <= 10.0**power <= top * 1.01]
        ticks = [ZERO, *decades] if bottom <= ZERO else decades
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "0" if x == ZERO else step_text(x)))
        if shown.size > 1:
            ax.set_xlim(bottom * 0.85, top * 1.18)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: step_text(x)))
        if shown.size > 1:
            ax.set_xlim(-0.02 * shown.max(), shown.max() * 1.02)
    ax.xaxis.set_minor_locator(FixedLocator(list(shown)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    if label:
        ax.set_xlabel(LABELS[scale])
    return ax


def snapshot_axis(
    ax: Axes, steps: Iterable[float] | pd.Index, *, which: Literal["x", "y"] = "x", most: int = 17
) -> Axes:
    """Label positions 0, 1, 2 … of an axis with the steps of the snapshots; at most `most` labels."""
    labels = [float(step) for step in steps]
    stride = max(1, -(-len(labels) // most))
    ticks = list(range(0, len(labels), stride))
    texts = [step_text(labels[tick]) for tick in ticks]
    if which == "x":
        ax.set_xticks(ticks, texts, rotation=90 if len(texts) > 8 else 0)
    else:
        ax.set_yticks(ticks, texts)
    ax.grid(visible=False)
    return ax


def shade_boundaries(
    ax: Axes, segments: pd.DataFrame, *, scale: Scale = "log", text: bool = False, supported: bool = True
) -> Axes:
    """Shade the 95% interval of every phase boundary in `segments` (one cut) and mark the middle of its gap.

    The boundary lies between the last snapshot of one segment and the first of the next. Cuts that one continuous process
    explains are thin dotted lines without interval.
    """
    rows = segments.sort_values("segment").to_dict("records")
    for before, after in itertools.pairwise(rows):
        if supported and pd.notna(after["break_lo"]) and pd.notna(after["break_hi"]):
            low, high = place([after["break_lo"], after["break_hi"]], scale)
            ax.axvspan(low, high, color=GREY, alpha=0.13, linewidth=0)
        ends = place([before["last_step"], after["first_step"]], scale)
        middle = float(np.sqrt(ends.prod()) if scale == "log" else ends.mean())
        ax.axvline(middle, color=GREY, linewidth=1.0 if supported else 0.7, linestyle="--" if supported else ":")
    if text:
        for label, group in itertools.groupby(rows, key=lambda row: str(row["label"])):
            alike = list(group)  # neighbours with the same label are named once
            ends = place([alike[0]["first_step"], alike[-1]["last_step"]], scale)
            middle = float(np.sqrt(ends.prod()) if scale == "log" else ends.mean())
            ax.text(
                middle, 1.01, label, ha="center", va="bottom", color="#444444", fontsize=SMALL,
                transform=ax.get_xaxis_transform(),
            )  # fmt: skip
    return ax
