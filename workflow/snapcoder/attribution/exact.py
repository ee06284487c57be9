"""The truth that attributions approximate: the metric's change when one feature takes its reference value."""

from dataclasses import dataclass

import numpy as np
import torch

from snapcoder.attribution.continuation import Continuation
from snapcoder.attribution.gradients import BATCH_TOKENS, example_batches, metric
from snapcoder.attribution.task_prompts import TaskPrompts

_FEWEST = 3  # features that a correlation needs


@torch.no_grad()
def exact_effects(
    run: Continuation,
    prompts: TaskPrompts,
    moved: np.ndarray,
    directions: np.ndarray,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> np.ndarray:
    """Return m(a) − m(a − (f_i − r_i) direction_i) of each example and feature, [example, feature].

    moved [position, feature]: f − r; directions [feature, model]: decoder rows / scale. One feature is changed at all
    positions, everything else stays clean. Many features and examples share a forward pass; where a feature does not
    move, nothing is run and the effect is 0.
    """
    effects = np.zeros((len(prompts.examples), moved.shape[1]))
    along = torch.from_numpy(directions.astype(np.float32)).to(run.device)
    for indices, rows, examples in example_batches(prompts, batch_tokens):
        clean = torch.from_numpy(prompts.clean[rows]).to(run.device)  # [example, position, model]
        shift = torch.from_numpy(moved[rows].astype(np.float32)).to(run.device)  # [example, position, feature]
        before = metric(run, examples, clean)
        pairs = torch.nonzero((shift != 0).any(dim=1))  # (example, feature)
        for part in pairs.split(max(1, batch_tokens // rows.shape[1])) if len(pairs) else ():
            example, feature = part[:, 0], part[:, 1]
            changed = clean[example] - shift[example, :, feature][:, :, None] * along[feature][:, None]
            after = metric(run, [examples[index] for index in example.tolist()], changed)
            at = np.asarray(indices)[example.cpu().numpy()], feature.cpu().numpy()
            effects[at] = (before[example] - after).cpu().numpy()
    return effects


def verified_features(size: np.ndarray, *, top: int, random: int, rng: np.random.Generator) -> np.ndarray:
    """Return features to verify: the `top` largest of `size` [feature], and `random` of the others that are not 0."""
    order = np.argsort(-size, kind="stable")
    order = order[size[order] > 0]
    others = np.sort(order[top:])
    drawn = rng.choice(others, size=min(random, len(others)), replace=False)
    return np.concatenate([order[:top], np.sort(drawn)]).astype(np.int64)


@dataclass(frozen=True)
class Agreement:
    """How attributions of n features compare with their exact effects; NaN where undefined.

    slope: of attribution on exact effect, least squares with an intercept; r: Pearson; r2 = 1 − Σ(exact − attr)² /
    Σ(exact − mean exact)², attribution taken as the prediction; sign: share of features with an effect whose
    attribution has its sign.
    """

    n: int
    slope: float
    r: float
    r2: float
    sign: float


def agreement(attributed: np.ndarray, exact: np.ndarray) -> Agreement:
    """Compare attributions with exact effects, both [feature]."""
    n, nan = len(exact), float("nan")
    acting = exact != 0
    sign = float((np.sign(attributed) == np.sign(exact))[acting].mean()) if acting.any() else nan
    if n < _FEWEST:
        return Agreement(n, nan, nan, nan, sign)
    a, e = attributed - attributed.mean(), exact - exact.mean()
    aa, ee, ae = float(a @ a), float(e @ e), float(a @ e)
    if ee == 0:
        return Agreement(n, nan, nan, nan, sign)
    r = ae / np.sqrt(aa * ee) if aa > 0 else nan
    return Agreement(n, ae / ee, r, 1 - float(((exact - attributed) ** 2).sum()) / ee, sign)
