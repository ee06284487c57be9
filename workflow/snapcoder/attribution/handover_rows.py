"""Rows about who leads a task at which snapshot, and where the lead passes on."""

import numpy as np
import pandas as pd

from snapcoder.attribution.carriers import FeatureHistory, TaskAttribution
from snapcoder.attribution.handover import handovers
from snapcoder.evolution.snapshot_decoders import SnapshotDecoders


def handover_rows(carried: TaskAttribution, history: FeatureHistory, decoders: SnapshotDecoders) -> pd.DataFrame:
    """Return HANDOVER rows of one task: one per snapshot that can do it."""
    found = handovers(carried.attr, carried.se)
    row = np.arange(len(carried.steps))
    events = {at: (before, old, new) for before, at, old, new in found.events}
    places = history.places(carried.steps)
    passed = [_event(events[s], s, carried, history, decoders, places) if s in events else {} for s in row.tolist()]
    columns = ("from_feature", "from_step", "cosine", "cosine_across")
    return pd.DataFrame(
        {
            "task": carried.task,
            "step": carried.steps,
            "leader": carried.features[found.leader],
            "attr": carried.attr[row, found.leader],
            "attr_se": carried.se[row, found.leader],
            "p_runner_up": found.p_runner_up,
            "holder": carried.features[found.holder],
            "told_apart": found.clearly_ahead,
            "n_candidates": len(found.candidates),
            "n_tests": found.tests,
            **{name: pd.array([one.get(name, np.nan) for one in passed], dtype="Float64") for name in columns},
        }
    )


def _event(
    event: tuple[int, int, int],
    at: int,
    carried: TaskAttribution,
    history: FeatureHistory,
    decoders: SnapshotDecoders,
    places: np.ndarray,
) -> dict[str, float]:
    before, old, new = event
    former, next_ = int(carried.features[old]), int(carried.features[new])
    here, there = int(places[at]), int(places[before])
    return {
        "from_feature": former,
        "from_step": int(carried.steps[before]),
        "cosine": _cosine(decoders, history, (here, former), (here, next_)),
        "cosine_across": _cosine(decoders, history, (there, former), (here, next_)),
    }


def _cosine(decoders: SnapshotDecoders, history: FeatureHistory, one: tuple[int, int], other: tuple[int, int]) -> float:
    """Return the cosine of two decoders given as (snapshot, feature); NaN when one of them is silent there."""
    if not (history.alive[one] and history.alive[other]):
        return float("nan")
    a, b = (decoders.decoders[snapshot][feature].astype(np.float64) for snapshot, feature in (one, other))
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / length) if length else float("nan")
