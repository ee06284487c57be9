"""Example prompts of a task with the tokens marked that its attribution falls on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

ALL_FEATURES, ERROR = -2, -1
LEVELS = 8  # shades of each colour in report.css
_EXAMPLES = 4
_FEATURES = 3
_NAMED = 3  # tokens told as text beside the colours


def visible(token: str) -> str:
    """Return a token with line ends and tabs as signs, and the empty token as one too."""
    return token.replace("\n", "⏎").replace("\r", "␍").replace("\t", "⇥") or "∅"


def marked_prompts(positions: pd.DataFrame) -> dict[str, Any] | None:
    """Return the examples of one task at its last snapshot with positions; None when there is no row.

    positions: ATTRIBUTION_POSITIONS rows of the task. Each example has lines: all features together first, then the
    strongest single ones by Σ |attr|. Shades are relative to the largest |attr| of the example.
    """
    if positions.empty:
        return None
    step = int(positions["step"].max())
    here = positions[positions["step"] == step]
    examples = [_example(rows) for _, rows in list(here.groupby("example", sort=True))[:_EXAMPLES]]
    return {"step": step, "examples": examples}


def _example(rows: pd.DataFrame) -> dict[str, Any]:
    size = (
        rows.assign(size=rows["attr"].abs())
        .groupby("feature")["size"]
        .sum()
        .sort_values(ascending=False, kind="stable")
    )
    single = [int(feature) for feature in size.index if feature >= 0][:_FEATURES]
    kinds = [ALL_FEATURES] if ALL_FEATURES in size.index else []
    lines = {feature: rows[rows["feature"] == feature].sort_values("position") for feature in [*kinds, *single]}
    largest = max((float(line["attr"].abs().max()) for line in lines.values()), default=0.0)
    return {"lines": [_line(feature, line, largest) for feature, line in lines.items()]}


def _line(feature: int, rows: pd.DataFrame, largest: float) -> dict[str, Any]:
    attr, tokens = rows["attr"].to_numpy(dtype=float), [visible(str(token)) for token in rows["token"]]
    strongest = [i for i in np.argsort(-np.abs(attr), kind="stable")[:_NAMED] if attr[i] != 0]
    return {
        "feature": None if feature == ALL_FEATURES else feature,
        "sum": signed(float(attr.sum())),
        "tokens": [{"text": text, "shade": shade(value, largest)} for text, value in zip(tokens, attr, strict=True)],
        "named": [{"text": tokens[i], "attr": signed(float(attr[i]))} for i in strongest],
    }


def shade(value: float, largest: float) -> str:
    """Return the class of a marked token: helps-1 … helps-8, hurts-1 … hurts-8, or nothing below a half shade."""
    level = round(LEVELS * abs(value) / largest) if largest > 0 and np.isfinite(value) else 0
    return f"{'helps' if value > 0 else 'hurts'}-{level}" if level else ""


def signed(value: float) -> str:
    """Return a number with its sign: +0.31, −0.02, or a dash where undefined."""
    return f"{value:+.2f}".replace("-", "−") if np.isfinite(value) else "–"


def prompts_of(tables: Mapping[str, pd.DataFrame], task: str) -> dict[str, Any] | None:
    """Return the marked prompts of a task from the tables of a layer."""
    positions = tables["attribution_positions"]
    return None if positions.empty else marked_prompts(positions[positions["task"] == task])
