"""Gradients of the metric at the clean prompt, and their mean along a path to it.

The activation moves on a straight line, so one gradient per point of the path serves every feature:
∂m/∂f_i = decoder_i / scale · ∂m/∂a (SCIENCE 1.4). Attribution patching takes the gradient at the clean end, integrated
gradients the mean over the midpoints α = (k + ½) / N. The midpoints of N are among those of 3N, so refining wastes none.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snapcoder.attribution.continuation import Continuation
from snapcoder.attribution.task_prompts import Prefixes, TaskPrompts
from snapcoder.storage.task_examples import Example
from snapcoder.tasks.scoring import answer_tokens, batches_by_length, prefix_tokens

BATCH_TOKENS = 6144  # of one pass; larger ones leave the processor's caches
_FEWEST_POINTS = 3  # that say anything about a curve


@dataclass(frozen=True)
class PathGradient:
    """gradient [position, model]: ∂m/∂a, at the clean end or its mean over the path.

    metric_clean, metric_base [example]: the path's two ends. points: where the gradient was taken; tried: numbers of
    points and the completeness gap with each, the last one used.
    """

    gradient: np.ndarray
    metric_clean: np.ndarray
    metric_base: np.ndarray
    points: int
    tried: tuple[tuple[int, float], ...] = ()


def metric(run: Continuation, examples: Sequence[Example], activation: Tensor) -> Tensor:
    """Return logit(clean answer) − logit(patch answer) [example] with `activation` [example, position, model] put in.

    The examples have one length. Differentiable in `activation`.
    """
    logits = run.last_logits(prefix_tokens(examples, "clean", activation.device), activation)
    clean, patch = answer_tokens(examples, activation.device)
    return (logits.gather(1, clean[:, None]) - logits.gather(1, patch[:, None]))[:, 0]


def point_numbers(most: int) -> tuple[int, ...]:
    """Return the numbers of midpoints to try, ascending: `most` divided by three as often as it goes, at least 3."""
    numbers = [most]
    while numbers[0] % 3 == 0 and numbers[0] // 3 >= _FEWEST_POINTS:
        numbers.insert(0, numbers[0] // 3)
    return tuple(numbers)


def clean_gradient(run: Continuation, prompts: TaskPrompts, *, batch_tokens: int = BATCH_TOKENS) -> PathGradient:
    """Return the gradient at the clean prompt (attribution patching); `metric_base` is not known here and missing."""
    (total,), values = _gradient_sums(run, prompts, [np.zeros_like(prompts.clean)], [(0, 1.0)], batch_tokens)
    return PathGradient(total, values[0], np.full(len(values[0]), np.nan), points=1)


def path_gradient(
    run: Continuation,
    prompts: TaskPrompts,
    *,
    points: int,
    change: np.ndarray | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> PathGradient:
    """Return the mean gradient over `points` midpoints; change [position, model]: see `Path`, default patch to clean."""
    change = prompts.clean - prompts.patch if change is None else change
    ends = metric_at(run, prompts, [prompts.clean, prompts.clean - change], batch_tokens=batch_tokens)
    found = path_gradients(
        run, prompts, {"": change}, clean=ends[0], base={"": ends[1]}, numbers=(points,), batch_tokens=batch_tokens
    )
    return found[""]


def path_gradients(
    run: Continuation,
    prompts: TaskPrompts,
    changes: Mapping[str, np.ndarray],
    *,
    clean: np.ndarray,
    base: Mapping[str, np.ndarray],
    numbers: Sequence[int],
    tolerance: float = 0.0,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[str, PathGradient]:
    """Return mean gradients along several paths, points and paths batched together.

    changes: name → [position, model]; clean, base [example]: metric at the ends. numbers: of midpoints, each three
    times the one before it; a path goes on to the next while its completeness gap exceeds `tolerance`.
    """
    sums = {name: np.zeros_like(prompts.clean) for name in changes}
    tried: dict[str, list[tuple[int, float]]] = {name: [] for name in changes}
    unfinished = list(changes)
    for place, n in enumerate(numbers):
        if place and n != 3 * numbers[place - 1]:
            raise ValueError(f"midpoints of {numbers[place - 1]} are not among those of {n}; use three times as many")
        new = [(k + 0.5) / n for k in range(n) if place == 0 or k % 3 != 1]
        points = [(index, alpha) for index in range(len(unfinished)) for alpha in new]
        totals, _ = _gradient_sums(run, prompts, [changes[name] for name in unfinished], points, batch_tokens)
        for name, total in zip(unfinished, totals, strict=True):
            sums[name] += total
            gap = completeness_gap(prompts, changes[name], sums[name] / np.float32(n), clean - base[name])
            tried[name].append((n, gap))
        unfinished = [name for name in unfinished if not tried[name][-1][1] <= tolerance]
        if not unfinished:
            break
    return {
        name: PathGradient(
            sums[name] / np.float32(tried[name][-1][0]), clean, base[name], tried[name][-1][0], tuple(tried[name])
        )
        for name in changes
    }


def completeness_gap(prompts: Prefixes, change: np.ndarray, gradient: np.ndarray, difference: np.ndarray) -> float:
    """Return mean |Σ of all attributions − Δm| / mean |Δm| over examples; NaN when the metric does not change.

    change, gradient [position, model]; difference [example]: Δm between the path's ends.
    """
    per_position = np.einsum("pd,pd->p", change, gradient, dtype=np.float64)
    total = np.bincount(prompts.example_of_position, weights=per_position, minlength=len(difference))
    size = float(np.abs(difference).mean())
    return float(np.abs(total - difference).mean() / size) if size else float("nan")


def metric_ends(run: Continuation, prompts: TaskPrompts, *, batch_tokens: int = BATCH_TOKENS) -> np.ndarray:
    """Return the metric with the clean and with the patch prompts' activations put in, [end, example]."""
    return metric_at(run, prompts, [prompts.clean, prompts.patch], batch_tokens=batch_tokens)


@torch.no_grad()
def metric_at(
    run: Continuation, prompts: Prefixes, activations: Iterable[np.ndarray], *, batch_tokens: int = BATCH_TOKENS
) -> np.ndarray:
    """Return the metric with each of `activations` [position, model] put in, [activation, example].

    As many activations and examples share a forward pass as fit; of a generator no more are held than that.
    """
    groups = list(example_batches(prompts, batch_tokens))
    waiting: list[list[np.ndarray]] = [[] for _ in groups]
    values: list[np.ndarray] = []  # [example] of each activation

    def put_in(group: int) -> None:
        (indices, _, examples), held = groups[group], waiting[group]
        together = torch.from_numpy(np.concatenate(held)).to(run.device)
        found = metric(run, examples * len(held), together).reshape(len(held), -1).cpu().numpy()
        for of_activation, value in zip(values[-len(held) :], found, strict=True):
            of_activation[indices] = value
        held.clear()

    for activation in activations:
        values.append(np.zeros(len(prompts.examples)))
        for group, (_, rows, _) in enumerate(groups):
            waiting[group].append(activation[rows])  # [example, position, model]
            if (len(waiting[group]) + 1) * rows.size > batch_tokens:
                put_in(group)
    for group, held in enumerate(waiting):
        if held:
            put_in(group)
    return np.array(values).reshape(-1, len(prompts.examples))


def example_batches(prompts: Prefixes, batch_tokens: int) -> Iterator[tuple[list[int], np.ndarray, list[Example]]]:
    """Yield examples of one length that fit in a pass: indices, rows [example, position] of activations, examples."""
    longest = max((len(example.clean_tokens) for example in prompts.examples), default=1)
    for indices in batches_by_length(prompts.examples, max(1, batch_tokens // longest)):
        examples = [prompts.examples[index] for index in indices]
        yield indices, prompts.offset[indices][:, None] + np.arange(len(examples[0].clean_tokens)), examples


def _gradient_sums(
    run: Continuation,
    prompts: TaskPrompts,
    changes: Sequence[np.ndarray],
    points: Sequence[tuple[int, float]],
    batch_tokens: int,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return Σ ∂m/∂a over the points (change, α) of each change [position, model], and the metric [point, example]."""
    sums = [np.zeros_like(prompts.clean) for _ in changes]
    values = np.zeros((len(points), len(prompts.examples)))
    for indices, rows, examples in example_batches(prompts, batch_tokens):
        clean, *moves = (torch.from_numpy(side[rows]).to(run.device) for side in (prompts.clean, *changes))
        totals = [torch.zeros_like(clean) for _ in changes]
        per_pass = max(1, batch_tokens // rows.size)
        for start in range(0, len(points), per_pass):
            part = points[start : start + per_pass]
            at = torch.cat([clean - (1 - alpha) * moves[change] for change, alpha in part]).requires_grad_(True)
            result = metric(run, examples * len(part), at)
            (gradient,) = torch.autograd.grad(result.sum(), at)
            for (change, _), of_point in zip(part, gradient.split(len(examples)), strict=True):
                totals[change] += of_point
            values[start : start + len(part), indices] = result.detach().reshape(len(part), -1).cpu().numpy()
        for total, summed in zip(sums, totals, strict=True):
            total[rows] = summed.cpu().numpy()
    return sums, values
