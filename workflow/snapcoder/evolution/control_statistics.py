"""The numbers that findings rest on, of a study and of each of its controls, side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from snapcoder.evolution.log_steps import log_steps


@dataclass(frozen=True)
class StudyTables:
    """What one study says: its tables, of which those about text (metrics, segments) only a model of its own has.

    kind: of the control; "study" for the study itself. warmup_steps: length of its learning-rate warm-up, NaN if unknown.
    """

    kind: str
    timing: pd.DataFrame
    rotation_summary: pd.DataFrame
    reconstruction: pd.DataFrame
    metrics: pd.DataFrame | None = None
    segments: pd.DataFrame | None = None
    warmup_steps: float = float("nan")


@dataclass(frozen=True)
class _Value:
    quantity: str
    unit: str
    value: float
    ci_lo: float = float("nan")
    ci_hi: float = float("nan")


def control_statistics(studies: Mapping[str, StudyTables]) -> pd.DataFrame:
    """Return the table control_statistics: one row per study or control × quantity, the study called "study"."""
    rows = [
        {"control": name, "kind": tables.kind, **vars(value)}
        for name, tables in studies.items()
        for value in [*_dictionary(tables), *_features(tables), *_directions(tables), *_text(tables)]
    ]
    table = pd.DataFrame(rows)
    own = table[table["control"] == "study"].set_index("quantity")["value"]
    return table.assign(study_value=table["quantity"].map(own).to_numpy())


def warmup_control(studies: Mapping[str, StudyTables]) -> pd.DataFrame:
    """Return the table warmup_control: when each model reaches a landmark, in steps, in warm-ups, and against the study.

    Models: the study's, those of other seeds, and those of other warm-ups. A landmark that is a fact of learning itself
    stays where it is when the warm-up changes (shift 0 decades); one that the schedule sets moves with it. The spread
    over model seeds says how much a shift must be to mean something.
    """
    rows = []
    for name, tables in studies.items():
        if tables.kind not in ("study", "model_seed", "warmup"):
            continue
        for value in [*_directions(tables), *_text(tables)]:
            if value.unit != "training steps":
                continue
            rows.append(
                {
                    "control": name, "kind": tables.kind, "warmup_steps": tables.warmup_steps, "landmark": value.quantity,
                    "step": value.value, "over_warmup": value.value / tables.warmup_steps if tables.warmup_steps else np.nan,
                }
            )  # fmt: skip
    columns = ["control", "kind", "warmup_steps", "landmark", "step", "over_warmup"]
    table = pd.DataFrame(rows, columns=columns)
    own = table[table["control"] == "study"].set_index("landmark")["step"]
    base = table["landmark"].map(own).to_numpy(dtype=float)
    known = table["step"].notna().to_numpy() & ~np.isnan(base)
    shift = np.full(len(table), np.nan)
    shift[known] = log_steps(table["step"].to_numpy(dtype=float)[known]) - log_steps(base[known])
    return table.assign(shift_decades=shift)


def _dictionary(tables: StudyTables) -> list[_Value]:
    pooled = tables.reconstruction[tables.reconstruction["snapshot"] < 0]
    return [
        _Value("ev", "–", float(pooled["ev"].iloc[0])),
        _Value("l0", "features/token", float(pooled["l0"].iloc[0])),
    ]


def _features(tables: StudyTables) -> list[_Value]:
    timing = tables.timing
    live = timing[timing["class"] != "dead"]
    values = [_Value("live", "features", float(len(live)))]
    for name in ("initialization", "emergent", "transient", "flat", "dense"):
        values.append(_share(f"share_{name}", int((live["class"] == name).sum()), len(live)))
    inside = live[live["onset_censoring"] == "interval"]
    places = log_steps(inside["onset_hi"].to_numpy(dtype=float))
    middle = float(10 ** np.median(places)) if len(places) else float("nan")
    return [*values, _Value("onset_median", "training steps", middle)]


def _share(name: str, count: int, n: int) -> _Value:
    if not n:
        return _Value(name, "share", float("nan"))
    interval = binomtest(count, n).proportion_ci(method="wilson")
    return _Value(name, "share", count / n, float(interval.low), float(interval.high))


def _directions(tables: StudyTables) -> list[_Value]:
    summary = tables.rotation_summary
    steps = np.sort(summary["step_a"].unique())
    pairs = summary.set_index(["step_a", "step_b"])
    first_last = pairs.loc[(steps[0], steps[-1])]
    values = [
        _Value(
            "cos_first_last", "–", float(first_last["cos_median"]), float(first_last["cos_ci_lo"]),
            float(first_last["cos_ci_hi"]),
        )
    ]  # fmt: skip
    if tables.kind != "untrained":
        cosine = np.array([pairs.loc[(a, b), "cos_median"] for a, b in pairwise(steps)], float)
        speed = np.degrees(np.arccos(np.clip(cosine, -1, 1))) / np.diff(log_steps(steps))
        fastest = float(steps[1:][np.nanargmax(speed)]) if (~np.isnan(speed)).any() else float("nan")
        values.append(_Value("fastest_turn", "training steps", fastest))
    return values


_LANDMARKS = {"kl_uni_context": "unigram_nearest", "kl_bi_context": "bigram_nearest"}


def _text(tables: StudyTables) -> list[_Value]:
    if tables.metrics is None:
        return []
    curves = tables.metrics.pivot_table(index="step", columns="metric", values="value", sort=True)
    values = [
        _Value(landmark, "training steps", float(curves.index[int(np.nanargmin(curves[metric]))]))
        for metric, landmark in _LANDMARKS.items()
        if metric in curves and curves[metric].notna().any()
    ]
    if "gap_h2" in curves:
        passed = curves.index[curves["gap_h2"].to_numpy() > 0]
        values.append(_Value("loss_passes_bigram", "training steps", float(passed.min()) if len(passed) else np.nan))
    if "loss" in curves:
        values.append(_Value("loss_final", "nats/token", float(curves["loss"].dropna().iloc[-1])))
    return [*values, *_boundaries(tables.segments)]


def _boundaries(segments: pd.DataFrame | None) -> list[_Value]:
    """Return the boundaries of the n-gram metrics and the feature metrics on log steps."""
    if segments is None:
        return []
    chosen = segments[(segments["clock"] == "log_step") & segments["preferred"] & segments["break_step"].notna()]
    chosen = chosen[chosen["metric_set"].isin(["ngram", "features"])]
    places = chosen[["break_step", "break_lo", "break_hi"]].to_numpy(dtype=float, na_value=np.nan)
    names = zip(chosen["metric_set"], chosen["segment"], strict=True)
    return [
        _Value(f"boundary_{name}_{segment}", "training steps", float(at), float(low), float(high))
        for (name, segment), (at, low, high) in zip(names, places, strict=True)
    ]
