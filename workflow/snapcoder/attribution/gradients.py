"""Which features carry a task: integrated gradients from the patch to the clean prompt, through the decoder.

The code f and the reconstruction error both move on straight lines between the two prompts, so the activation does
too: a(α) = ã + α (a − ã). One gradient per point of the path therefore serves every feature:
∂m/∂f_i = decoder_i / scale · ∂m/∂a (SCIENCE 1.4; PEERS D1 for the midpoint rule and the completeness check).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from snapcoder.attribution.continuation import Continuation
from snapcoder.attribution.prompt_codes import SnapshotDictionary
from snapcoder.attribution.task_prompts import TaskPrompts
from snapcoder.storage.task_examples import Example
from snapcoder.tasks.scoring import answer_tokens, batches_by_length, prefix_tokens


@dataclass(frozen=True)
class PathGradient:
    """gradient [position, model]: mean of ∂m/∂a over the path; metric_clean, metric_patch [example]: its two ends."""

    gradient: np.ndarray
    metric_clean: np.ndarray
    metric_patch: np.ndarray


@dataclass(frozen=True)
class Attribution:
    """feature [example, feature] sparse and error [example]: shares of the change of the metric, in logits."""

    feature: csr_array
    error: np.ndarray


def metric(run: Continuation, examples: Sequence[Example], activation: Tensor) -> Tensor:
    """Return logit(clean answer) − logit(patch answer) [example] with `activation` [example, position, model] put in.

    The examples have one length. Differentiable in `activation`.
    """
    logits = run.last_logits(prefix_tokens(examples, "clean", activation.device), activation)
    clean, patch = answer_tokens(examples, activation.device)
    return (logits.gather(1, clean[:, None]) - logits.gather(1, patch[:, None]))[:, 0]


def path_gradient(run: Continuation, prompts: TaskPrompts, *, points: int, batch_size: int = 256) -> PathGradient:
    """Return the mean gradient of the metric on the path from patch to clean, midpoints α = (k + ½) / points."""
    gradient = np.zeros_like(prompts.clean)
    ends = metric_ends(run, prompts, batch_size=batch_size)
    for indices in batches_by_length(prompts.examples, batch_size):
        examples = [prompts.examples[index] for index in indices]
        rows = prompts.offset[indices][:, None] + np.arange(len(examples[0].clean_tokens))  # [example, position]
        clean, patch = (torch.from_numpy(side[rows]).to(run.device) for side in (prompts.clean, prompts.patch))
        total = torch.zeros_like(clean)
        for k in range(points):
            at = (patch + (k + 0.5) / points * (clean - patch)).requires_grad_(True)
            total += torch.autograd.grad(metric(run, examples, at).sum(), at)[0]
        gradient[rows] = (total / points).cpu().numpy()
    return PathGradient(gradient, metric_clean=ends[0], metric_patch=ends[1])


@torch.no_grad()
def metric_ends(run: Continuation, prompts: TaskPrompts, *, batch_size: int = 256) -> np.ndarray:
    """Return the metric with the clean and with the patch prompts' activations put in, [end, example]."""
    ends = np.zeros((2, len(prompts.examples)))
    for indices in batches_by_length(prompts.examples, batch_size):
        examples = [prompts.examples[index] for index in indices]
        rows = prompts.offset[indices][:, None] + np.arange(len(examples[0].clean_tokens))
        for end, side in enumerate((prompts.clean, prompts.patch)):
            ends[end, indices] = metric(run, examples, torch.from_numpy(side[rows]).to(run.device)).cpu().numpy()
    return ends


def attribute(prompts: TaskPrompts, here: SnapshotDictionary, path: PathGradient) -> Attribution:
    """Return attr_i = Δf_i · mean ∂m/∂f_i of every feature and of the error term, summed over positions.

    Works on the non-zero entries of Δf only. Features and error add up to Δa · mean ∂m/∂a, whatever the dictionary.
    """
    entries = prompts.delta.tocoo()
    position, feature = entries.coords
    slope = _row_products(path.gradient, position, here.decoder, feature) / here.scale  # ∂m/∂f at each entry
    example = prompts.example_of_position
    shape = (len(prompts.examples), prompts.delta.shape[1])
    per_feature = csr_array((entries.data.astype(np.float64) * slope, (example[position], feature)), shape=shape)
    per_feature.sum_duplicates()
    change = (prompts.clean - prompts.patch).astype(np.float64)
    error = change - prompts.delta.astype(np.float64) @ here.decoder.astype(np.float64) / here.scale
    per_position = (error * path.gradient).sum(axis=1)
    return Attribution(per_feature, np.bincount(example, weights=per_position, minlength=len(prompts.examples)))


def _row_products(left: np.ndarray, rows: np.ndarray, right: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return left[rows] · right[columns] row by row, [entry] float64, in bounded memory."""
    products = np.empty(len(rows))
    for start in range(0, len(rows), 1 << 15):
        part = slice(start, start + (1 << 15))
        products[part] = np.einsum("ed,ed->e", left[rows[part]], right[columns[part]], dtype=np.float64)
    return products
