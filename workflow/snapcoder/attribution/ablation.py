"""What a task's metric is when a set of units is ablated, or all but the set (SCIENCE 1.4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from snapcoder.attribution.continuation import Continuation
from snapcoder.attribution.gradients import BATCH_TOKENS, metric_at
from snapcoder.attribution.rankings import Ranking
from snapcoder.attribution.task_prompts import TaskPrompts
from snapcoder.attribution.units import Replacement
from snapcoder.storage.hashing import array_sha256

MODES = ("disrupt", "restore")


@dataclass(frozen=True)
class Curve:
    """One ranking in one mode: metric [k, example] for each number of units in `ks`."""

    unit: str
    n_units: int
    ablation: str
    ranking: str
    draw: int
    mode: str
    ks: tuple[int, ...]
    metric: np.ndarray


def ablation_curves(
    run: Continuation,
    prompts: TaskPrompts,
    replacement: Replacement,
    ranked: Sequence[Ranking],
    clean: np.ndarray,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Curve]:
    """Return a disrupt and a restore curve of every ranking; clean [example]: the metric with nothing ablated."""
    sets = [chosen for ranking in ranked for chosen in ranking.sets]
    values = ablate_sets(run, prompts, replacement, sets, clean, batch_tokens=batch_tokens)  # [set, mode, example]
    curves, start = [], 0
    for ranking in ranked:
        part = values[start : start + len(ranking.ks)]
        start += len(ranking.ks)
        curves += [
            Curve(
                replacement.units.kind,
                len(replacement.units.directions),
                replacement.ablation,
                ranking.name,
                ranking.draw,
                mode,
                ranking.ks,
                part[:, m],
            )
            for m, mode in enumerate(MODES)
        ]
    return curves


def ablate_sets(
    run: Continuation,
    prompts: TaskPrompts,
    replacement: Replacement,
    sets: Sequence[np.ndarray],
    clean: np.ndarray,
    *,
    modes: Sequence[str] = MODES,
    batch_tokens: int = BATCH_TOKENS,
) -> np.ndarray:
    """Return the metric [set, mode, example] of disrupt and restore for each set of units.

    disrupt: a − Σ_{set} (f − r) direction / scale; restore: the same sum over all units but the set, at all positions.
    Sets that differ only in units that the ablation does not change are run once, and so are both ends.
    """
    changing = replacement.changing
    kept = [np.sort(chosen[changing[chosen]]).astype(np.int64) for chosen in sets]
    keys = [array_sha256(chosen) for chosen in kept]
    everything = replacement.removed(np.flatnonzero(changing))
    far = (
        metric_at(run, prompts, [prompts.clean - everything], batch_tokens=batch_tokens)[0] if changing.any() else clean
    )
    none, full = array_sha256(np.zeros(0, dtype=np.int64)), array_sha256(np.flatnonzero(changing))
    known = {full: {"disrupt": far, "restore": clean}, none: {"disrupt": clean, "restore": far}}
    waiting = {key: chosen for key, chosen in zip(keys, kept, strict=True) if key not in known}
    variants = _variants(prompts.clean, everything, replacement, list(waiting.values()), modes)
    values = metric_at(run, prompts, variants, batch_tokens=batch_tokens).reshape(
        len(waiting), len(modes), len(prompts.examples)
    )
    known |= {key: dict(zip(modes, value, strict=True)) for key, value in zip(waiting, values, strict=True)}
    shape = (len(sets), len(modes), len(prompts.examples))
    return np.array([[known[key][mode] for mode in modes] for key in keys]).reshape(shape)


def _variants(
    clean: np.ndarray, everything: np.ndarray, replacement: Replacement, sets: list[np.ndarray], modes: Sequence[str]
) -> Iterator[np.ndarray]:
    """Yield the changed activations [position, model] of each set and mode; one is held at a time."""
    for chosen in sets:
        removed = replacement.removed(chosen)
        for mode in modes:
            yield clean - (removed if mode == "disrupt" else everything - removed)
