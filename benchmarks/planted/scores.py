"""Scores of a dictionary against planted truth. All planted features count: one that was not found is wrong."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from world import CLASSES, World

from snapcoder.evolution.timing import offset, onset, presence_by_norm

RECOVERED = 0.7  # correlation of activations from which a planted feature counts as found


def correlations(amount: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Return the Pearson correlation of activations [planted, learnt] over rows; 0 for a feature that never fires."""
    a = amount - amount.mean(axis=0, dtype=np.float64)
    c = code - code.mean(axis=0, dtype=np.float64)
    a /= np.linalg.norm(a, axis=0).clip(1e-9)
    c /= np.linalg.norm(c, axis=0).clip(1e-9)
    return a.T @ c


def score(world: World, amount: np.ndarray, code: np.ndarray, decoder: np.ndarray) -> dict[str, float]:
    """Return the scores of a dictionary: decoder [snapshot, feature, model], its code [row, feature] of held-out rows.

    amount [row, planted] is the truth of the same rows. Features are matched one to one on activations, never on
    decoder profiles, which the onsets are read from. Onset, offset and turn within one snapshot; a right answer
    needs a recovered feature. false_onset: of the planted features present from the start, those whose match is said
    to appear later; false_offset likewise of survivors.
    """
    n = len(decoder)
    match = correlations(amount, code)
    planted, learnt = linear_sum_assignment(-match)
    best = np.full(len(match), -1)
    best[planted] = learnt
    value = match[np.arange(len(match)), best]
    found = value >= RECOVERED
    norms = np.linalg.norm(decoder, axis=2)[:, best]
    present = presence_by_norm(norms, alpha=0.5)
    start = onset(present, np.arange(n), consecutive=2).hi
    end = offset(present, np.arange(n))[1]
    start_right = found & (np.abs(start - world.onset) <= 1)
    end = np.where(np.isnan(end), n, end)
    fades = world.offset < n
    end_right = found & (np.abs(end - world.offset) <= 1)
    turns = world.turn >= 0
    turn_right = found & (np.abs(turning(decoder[:, best], present) - world.turn) <= 1)
    steady = found & (world.onset == 0)
    survives = found & (world.offset == n)
    extent = found & (np.abs(turned(decoder[:, best], present) - turned(world.direction, world.strength > 0)) <= 15)
    by_class = {f"recovered_{name}": float(found[world.kind == number].mean()) for number, name in enumerate(CLASSES)}
    late = world.onset > 0
    return {
        "onset": float(start_right.mean()),
        "onset_late": float(start_right[late].mean()),
        "offset": float(end_right[fades].mean()),
        "turn": float(turn_right[turns].mean()),
        "turned_by": float(extent.mean()),
        "recovered": float(found.mean()),
        "mcc": float(value.mean()),
        "false_onset": float((start[steady] > 1).mean()) if steady.any() else float("nan"),
        "false_offset": float((end[survives] < n - 1).mean()) if survives.any() else float("nan"),
        **by_class,
    }


def turning(decoder: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the snapshot at whose start each feature turned most, [feature]; decoder [snapshot, feature, model]."""
    unit = decoder / np.linalg.norm(decoder, axis=2, keepdims=True).clip(1e-9)
    cosine = (unit[1:] * unit[:-1]).sum(axis=2)
    both = present[1:] & present[:-1]
    return np.where(both, cosine, 2.0).argmin(axis=0) + 1


def turned(decoder: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the angle in degrees between each feature's first and last present snapshot, [feature]."""
    unit = decoder / np.linalg.norm(decoder, axis=2, keepdims=True).clip(1e-9)
    first = present.argmax(axis=0)
    last = len(present) - 1 - present[::-1].argmax(axis=0)
    each = np.arange(decoder.shape[1])
    return np.degrees(np.arccos((unit[first, each] * unit[last, each]).sum(axis=1).clip(-1, 1)))
