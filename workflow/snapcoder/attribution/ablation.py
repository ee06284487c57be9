"""What a task's metric is when a set of units is ablated, or all but the set (SCIENCE 1.4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snapcoder.attribution.continuation import Continuation
from snapcoder.attribution.gradients import metric
from snapcoder.attribution.rankings import Ranking
from snapcoder.attribution.task_prompts import TaskPrompts
from snapcoder.attribution.units import Replacement
from snapcoder.storage.hashing import array_sha256
from snapcoder.tasks.scoring import batches_by_length

_BATCH_TOKENS = 6144  # of one forward pass over several variants; larger ones leave the processor's caches
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
    run: Continuation, prompts: TaskPrompts, replacement: Replacement, ranked: Sequence[Ranking], clean: np.ndarray
) -> list[Curve]:
    """Return a disrupt and a restore curve of every ranking; clean [example]: the metric with nothing ablated."""
    sets = [chosen for ranking in ranked for chosen in ranking.sets]
    values = ablate_sets(run, prompts, replacement, sets, clean)  # [set, mode, example]
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
        _metrics(run, prompts, iter([torch.from_numpy(prompts.clean - everything)]), 1)[0] if changing.any() else clean
    )
    none, full = array_sha256(np.zeros(0, dtype=np.int64)), array_sha256(np.flatnonzero(changing))
    known = {full: {"disrupt": far, "restore": clean}, none: {"disrupt": clean, "restore": far}}
    waiting = {key: chosen for key, chosen in zip(keys, kept, strict=True) if key not in known}
    variants = _variants(prompts.clean, everything, replacement, list(waiting.values()), modes)
    values = _metrics(run, prompts, variants, len(waiting) * len(modes))
    values = values.reshape(len(waiting), len(modes), len(prompts.examples))
    known |= {key: dict(zip(modes, value, strict=True)) for key, value in zip(waiting, values, strict=True)}
    shape = (len(sets), len(modes), len(prompts.examples))
    return np.array([[known[key][mode] for mode in modes] for key in keys]).reshape(shape)


def _variants(
    clean: np.ndarray, everything: np.ndarray, replacement: Replacement, sets: list[np.ndarray], modes: Sequence[str]
) -> Iterator[Tensor]:
    """Yield the changed activations [position, model] of each set and mode; one is held at a time."""
    for chosen in sets:
        removed = replacement.removed(chosen)
        for mode in modes:
            yield torch.from_numpy(clean - (removed if mode == "disrupt" else everything - removed))


@torch.no_grad()
def _metrics(run: Continuation, prompts: TaskPrompts, variants: Iterator[Tensor], n_variants: int) -> np.ndarray:
    """Return the metric [variant, example] of changed activations [position, model], many in one forward pass."""
    values = np.zeros((n_variants, len(prompts.examples)))
    groups = list(batches_by_length(prompts.examples, 256))
    waiting: list[list[Tensor]] = [[] for _ in groups]
    done = [0] * len(groups)
    for number, variant in enumerate(variants, start=1):
        for g, indices in enumerate(groups):
            length = len(prompts.examples[indices[0]].clean_tokens)
            rows = prompts.offset[indices][:, None] + np.arange(length)
            waiting[g].append(variant[rows])  # [example, position, model]
            full = len(waiting[g]) * rows.size >= _BATCH_TOKENS
            if full or number == n_variants:
                examples = [prompts.examples[index] for index in indices] * len(waiting[g])
                result = metric(run, examples, torch.cat(waiting[g]).to(run.device))
                values[done[g] : number, indices] = result.reshape(len(waiting[g]), -1).cpu().numpy()
                waiting[g], done[g] = [], number
    return values
