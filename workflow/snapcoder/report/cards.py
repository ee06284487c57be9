"""What the page knows of each feature: one row for the table of features, and a card with everything else."""

import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from snapcoder.tables.attribution import primary_attribution

_LEVELS = "0123456789abcdefghijklmnopqrstuvwxyz"  # one character per snapshot draws a small line
_TIMING = (
    "class", "onset_lo", "onset_hi", "onset_alive_lo", "onset_alive_hi", "onset_censoring", "peak_step", "norm_max",
    "lifetime_frac", "lifetime_logstep", "offset_lo", "offset_step", "stabilised_step", "turn_step", "cos_first_final",
    "rate_mean", "rate_final", "act_mean", "act_max", "threshold",
)  # fmt: skip
_COMPLEXITY = (
    "n_active", "token_entropy", "top_token", "top_token_share", "token_r2", "prev_r2", "bigram_r2", "position_r2",
    "context_need", "bigram_need", "repeat_score", "context_window", "complexity", "type",
)  # fmt: skip
_EVIDENCE = ("onset_lo", "onset_hi", "evidence", "verdict", "agreement")
_STABILITY = ("n_seeds", "seed_match_cos", "seed_shared_share", "onset_near_share")


def strongest_features(trajectory: pd.DataFrame, *, most: int) -> list[int]:
    """Return the `most` features with the largest contribution (norm · rms of the code) at any snapshot, by number."""
    if trajectory.empty:
        return []
    strength = trajectory.groupby("feature", sort=True)["contribution"].max()
    return sorted(int(feature) for feature in strength.sort_values(ascending=False, kind="stable").index[:most])


def feature_rows(tables: Mapping[str, pd.DataFrame], shard_of: Mapping[int, int]) -> dict[str, list[Any]]:
    """Return the table of features column by column: plain values, None where undefined.

    `text` holds the tokens that the search looks through; `line` the norm over snapshots, one character each;
    `shard` the file with the feature's card, or None.
    """
    timing, trajectory = tables["feature_timing"], tables["feature_trajectory"]
    if timing.empty:
        return {"feature": []}
    rows = timing.sort_values("feature")
    features = [int(feature) for feature in rows["feature"]]
    complexity = _indexed(tables["complexity"], features)
    strength = trajectory.groupby("feature")["contribution"].max().reindex(features)
    columns: dict[str, list[Any]] = {"feature": features, "strength": plain(strength)}
    for name in ("class", "onset_lo", "onset_hi", "peak_step", "lifetime_frac", "rate_final"):
        columns[name] = plain(rows[name])
    for name in ("complexity", "type", "top_token"):
        columns[name] = plain(complexity[name]) if name in complexity else [None] * len(features)
    columns["line"] = _lines(trajectory, features)
    columns["text"] = _searched(tables, features, columns["top_token"])
    columns["tasks"] = _task_names(primary_attribution(tables["attribution"]), features)
    columns["shard"] = [shard_of.get(feature) for feature in features]
    return columns


def feature_cards(tables: Mapping[str, pd.DataFrame], features: list[int]) -> dict[int, dict[str, Any]]:
    """Return the card of each feature: trajectory, timing, evidence, stability over seeds, complexity,
    examples, logits, and tasks that it carries."""
    trajectory = tables["feature_trajectory"]
    wanted = trajectory[trajectory["feature"].isin(features)].sort_values(["feature", "step"])
    history = {
        column: wanted.pivot(index="feature", columns="step", values=column).sort_index(axis=1).reindex(features)
        for column in ("norm", "norm_rel", "rate")
    }
    timing, complexity = _indexed(tables["feature_timing"], features), _indexed(tables["complexity"], features)
    examples = _grouped(tables["feature_examples"], ["kind", "rank"])
    logits = _grouped(tables["feature_logits"], ["moment", "sign", "rank"])
    carried = _grouped(primary_attribution(tables["attribution"]), ["task", "step"])
    times = timing[[name for name in _TIMING if name in timing]].to_dict("records")
    kinds = complexity[[name for name in _COMPLEXITY if name in complexity]].to_dict("records")
    evidence, stability = _indexed(tables["feature_onsets"], features), _indexed(tables["feature_stability"], features)
    proofs = evidence[[name for name in _EVIDENCE if name in evidence]].to_dict("records")
    seeds = stability[[name for name in _STABILITY if name in stability]].to_dict("records")
    cards = {}
    for place, feature in enumerate(features):
        cards[feature] = {
            "feature": feature,
            **{column: plain(frame.iloc[place]) for column, frame in history.items()},
            "timing": {str(name): _one(value) for name, value in times[place].items()},
            "complexity": {str(name): _one(value) for name, value in kinds[place].items()},
            "evidence": {str(name): _one(value) for name, value in proofs[place].items()},
            "stability": {str(name): _one(value) for name, value in seeds[place].items()},
            "examples": [_example(row) for row in examples.get(feature, [])],
            "logits": _logits(logits.get(feature, [])),
            "tasks": _tasks(carried.get(feature, [])),
        }
    return cards


def plain(values: Iterable[Any]) -> list[Any]:
    """Return values as JSON takes them: four significant digits, None where undefined."""
    return [_one(value) for value in values]


def _one(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.4g}")
    return value


def _indexed(table: pd.DataFrame, features: list[int]) -> pd.DataFrame:
    return table.set_index("feature").reindex(features) if not table.empty else pd.DataFrame(index=features)


def _grouped(table: pd.DataFrame, order: list[str]) -> dict[int, list[dict[str, Any]]]:
    """Return the rows of each feature as dictionaries, in a stable order."""
    if table.empty:
        return {}
    records: list[Any] = table.sort_values(["feature", *order], kind="stable").to_dict("records")
    return {int(feature): list(rows) for feature, rows in groupby(records, key=lambda row: row["feature"])}


def _lines(trajectory: pd.DataFrame, features: list[int]) -> list[str]:
    matrix = trajectory.pivot(index="feature", columns="step", values="norm_rel").sort_index(axis=1).reindex(features)
    values = matrix.to_numpy(dtype=float)
    level = np.clip(np.round(np.nan_to_num(values) * (len(_LEVELS) - 1)), 0, len(_LEVELS) - 1).astype(int)
    return ["".join(_LEVELS[place] for place in row) for row in level]


def _searched(tables: Mapping[str, pd.DataFrame], features: list[int], top_tokens: list[Any]) -> list[str]:
    """Return per feature the distinct tokens that it is about: strongest examples' own tokens, then promoted ones."""
    found: dict[int, list[str]] = {feature: [] for feature in features}
    for feature, token in zip(features, top_tokens, strict=True):
        if token is not None:
            found[feature].append(str(token))
    examples, logits = tables["feature_examples"], tables["feature_logits"]
    if not examples.empty:
        top = examples[examples["kind"] == "top"].sort_values(["feature", "rank"])
        for feature, tokens, focus in zip(top["feature"], top["tokens"], top["focus"], strict=True):
            if feature in found and len(tokens):
                found[feature].append(str(tokens[int(focus)]))
    if not logits.empty:
        promoted = logits[(logits["moment"] == "final") & (logits["sign"] == "promotes")].sort_values(
            ["feature", "rank"]
        )
        for feature, token in zip(promoted["feature"], promoted["token"], strict=True):
            if feature in found:
                found[feature].append(str(token))
    return ["\u0001".join(dict.fromkeys(found[feature])) for feature in features]


def _task_names(attribution: pd.DataFrame, features: list[int]) -> list[list[str]]:
    """Return per feature the tasks in which it is ever among the ten largest attributions."""
    if attribution.empty:
        return [[] for _ in features]
    strong = attribution[(attribution["feature"] >= 0) & (attribution["rank"] <= 10)]
    names = strong.groupby("feature")["task"].unique()
    return [sorted(names[feature]) if feature in names.index else [] for feature in features]


def _example(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": row["kind"],
        "act": _one(row["act"]),
        "focus": int(row["focus"]),
        "tokens": [str(token) for token in row["tokens"]],
        "acts": [[place, _one(float(act))] for place, act in enumerate(row["acts"]) if act > 0],
        "by": plain(row["act_by_snapshot"]),
        "doc": int(row["doc"]),
    }


def _logits(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        moment = found.setdefault(row["moment"], {"step": int(row["step"]), "promotes": [], "suppresses": []})
        moment[row["sign"]].append([str(row["token"]), _one(row["logit"])])
    return found


def _tasks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return per task the snapshot at which the feature ranks highest, and how often it was among those kept."""
    found = []
    for task, group in groupby(rows, key=lambda row: row["task"]):
        kept = list(group)
        best = min(kept, key=lambda row: (row["rank"], row["step"]))
        found.append(
            {
                "task": task, "step": int(best["step"]), "rank": int(best["rank"]), "attr": _one(best["attr"]),
                "se": _one(best["attr_se"]), "kept": len(kept),
            }
        )  # fmt: skip
    return found
