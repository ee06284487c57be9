"""Whether late features are still being learnt: what the onsets of a dictionary do while it trains.

Features that appear late in pre-training, or pass, have little energy summed over snapshots and are learnt last. A
dictionary that is scored too early shows too few of them. There is no truth to compare with in a real study, but
there are two signs: their number still grows, and onsets still move.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

PRESENT = 0.5  # present by norm: at least this share of the feature's own largest norm, as in the timing tables


def onsets(norms: Tensor, alive: Tensor) -> Tensor:
    """Return the first snapshot where each live feature is present by norm, [feature]; −1 for the others.

    norms [snapshot, feature]; alive [feature].
    """
    first = (norms >= PRESENT * norms.amax(dim=0)).int().argmax(dim=0)
    return torch.where(alive, first, -1)


def onset_counts(now: Tensor, before: Tensor | None, n_snapshots: int) -> tuple[list[int], list[float]]:
    """Return for every snapshot the number of features with their onset there, and the share of these that is new.

    New: the feature had another onset, or none, in `before` (onsets at the previous score; None: all are new).
    """
    counts, moved = [], []
    for snapshot in range(n_snapshots):
        here = now == snapshot
        count = int(here.sum())
        stays = 0 if before is None else int((here & (before == snapshot)).sum())
        counts.append(count)
        moved.append(1 - stays / count if count else 0.0)
    return counts, moved


def late_growth(history: Sequence[dict[str, float]]) -> tuple[float, float]:
    """Return how many features with a late onset there are at the end, and their growth over the last half of training.

    history: rows with train_step, snapshot and onsets. Late: an onset after the first snapshot. Growth is relative
    to the number at the score nearest to half of training; NaN without two scores.
    """
    steps = sorted({row["train_step"] for row in history})
    late = {
        step: sum(row["onsets"] for row in history if row["train_step"] == step and row["snapshot"] > 0)
        for step in steps
    }
    if len(steps) < 2:
        return (late[steps[-1]] if steps else 0.0), float("nan")
    half = min(steps[:-1], key=lambda step: abs(step - steps[-1] / 2))
    return late[steps[-1]], (late[steps[-1]] - late[half]) / max(late[half], 1)
