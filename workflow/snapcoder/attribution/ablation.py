"""How many features carry a task: patch the top k of a ranking, or all but the top k, and look at the metric.

The reconstruction error keeps its clean value throughout. So disrupting none and restoring all both give the clean
metric, and disrupting all and restoring none both give the same other end, which differs from the patch prompt's
metric by what the error carries.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csc_array
from torch import Tensor

from snapcoder.attribution.continuation import Continuation
from snapcoder.attribution.gradients import metric
from snapcoder.attribution.prompt_codes import SnapshotDictionary
from snapcoder.attribution.task_prompts import TaskPrompts
from snapcoder.tasks.intervals import bootstrap_weights, mean_interval
from snapcoder.tasks.scoring import batches_by_length

_BATCH_TOKENS = 6144  # of one forward pass over several variants; larger ones leave the processor's caches


@dataclass(frozen=True)
class Ranking:
    """An order of all features; `draw` counts the repetitions of a random one."""

    name: str
    order: np.ndarray
    draw: int = 0


@dataclass(frozen=True)
class Curve:
    """One ranking in one mode: metric [k, example] for each number of features in `ks`."""

    ranking: Ranking
    mode: str
    ks: tuple[int, ...]
    metric: np.ndarray


def rankings(
    attributed: np.ndarray, norm: np.ndarray, changing: np.ndarray, *, draws: int, rng: np.random.Generator
) -> list[Ranking]:
    """Return the rankings compared: by attribution, by decoder norm, and random ones.

    attributed [feature]: order by attribution; norm [feature]: decoder norm at this snapshot. changing [feature] bool:
    features that differ between any clean and patch prompt; the rankings by norm and at random draw from these first,
    since a control of features that cannot matter would be too easy to beat.
    """
    by_norm = np.lexsort((-norm, ~changing))
    random = []
    for draw in range(draws):
        shuffled = rng.permutation(len(norm))
        random.append(Ranking("random", shuffled[np.argsort(~changing[shuffled], kind="stable")], draw))
    return [Ranking("attr_here", attributed), Ranking("norm", by_norm), *random]


def ablation_sizes(k_grid: Sequence[int], n_features: int) -> tuple[int, ...]:
    """Return the numbers of features to ablate, ascending: those of the grid that are possible, and all."""
    return (*sorted({k for k in k_grid if k < n_features} | {0}), n_features)


def ablation_curves(
    run: Continuation,
    prompts: TaskPrompts,
    here: SnapshotDictionary,
    ranked: Sequence[Ranking],
    ks: tuple[int, ...],
) -> list[Curve]:
    """Return a disrupt and a restore curve for every ranking, at the numbers of features `ks` (0 … all).

    disrupt(k): a − Σ_{top k} Δf_i decoder_i / scale; restore(k): a − Σ_{all but top k} Δf_i decoder_i / scale, at all
    positions, with Δf = clean − patch code. The ends are the same for all rankings and run once.
    """
    n_inner = len(ks) - 2
    delta, clean = csc_array(prompts.delta), torch.from_numpy(prompts.clean)
    everything = _removed(delta, here, ranked[0].order, ks)[-1]
    ends = _metrics(run, prompts, iter([clean, clean - everything]), 2)  # [none or all removed, example]
    curves = []
    for ranking in ranked:
        removed = _removed(delta, here, ranking.order, ks)  # [k, position, model]
        shifted = (clean - part for k in range(1, n_inner + 1) for part in (removed[k], removed[-1] - removed[k]))
        values = _metrics(run, prompts, shifted, 2 * n_inner).reshape(n_inner, 2, len(prompts.examples))
        disrupt = np.concatenate([ends[:1], values[:, 0], ends[1:]])
        restore = np.concatenate([ends[1:], values[:, 1], ends[:1]])
        curves += [Curve(ranking, "disrupt", ks, disrupt), Curve(ranking, "restore", ks, restore)]
    return curves


def _removed(delta: csc_array, here: SnapshotDictionary, order: np.ndarray, ks: tuple[int, ...]) -> Tensor:
    """Return Σ over the first k of `order` of Δf_i decoder_i / scale, for each k, [k, position, model]."""
    ordered, decoder = delta[:, order], here.decoder[order] / np.float32(here.scale)
    steps = [np.zeros((delta.shape[0], decoder.shape[1]), dtype=np.float32)]
    for start, stop in itertools.pairwise(ks):
        steps.append((ordered[:, start:stop] @ decoder[start:stop]).astype(np.float32))
    return torch.from_numpy(np.cumsum(steps, axis=0, dtype=np.float32))


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


def curve_rows(
    curves: Sequence[Curve],
    metric_patch: np.ndarray,
    cluster: np.ndarray,
    *,
    task: str,
    step: int,
    layer: int,
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Return ABLATION_CURVES rows; metric_patch [example]: the metric with the patch prompt's own activations; cluster
    [example]: see `bootstrap_weights`.

    faithfulness = (m − m_patch) / (m_clean − m_patch), missing where the denominator is below 3 of its standard
    errors: there is then nothing to be faithful to.
    """
    n = len(metric_patch)
    weights = bootstrap_weights(cluster, draws=bootstrap, rng=np.random.default_rng(seed))
    span = next(curve.metric[0] for curve in curves if curve.mode == "disrupt") - metric_patch  # [example]
    stable = abs(span.mean()) >= 3 * (span @ weights).std(ddof=1) and span.mean() != 0
    frames = []
    for curve in curves:
        low, high = mean_interval(curve.metric, weights)
        mean = curve.metric.mean(axis=1)
        frames.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "task": task,
                    "step": step,
                    "mode": curve.mode,
                    "ranking": curve.ranking.name,
                    "ablation": "resample",
                    "k": curve.ks,
                    "draw": curve.ranking.draw,
                    "metric": mean,
                    "metric_ci_lo": low,
                    "metric_ci_hi": high,
                    "accuracy": (curve.metric > 0).mean(axis=1),
                    "faithfulness": (mean - metric_patch.mean()) / span.mean() if stable else np.nan,
                    "n_examples": n,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
