"""Score a snapshot on task examples: the logits of both answers after the clean prefix."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import LongTensor, Tensor
from transformers import PreTrainedModel

from snapcoder.storage.task_examples import Example, cluster_ids


def batches_by_length(examples: Sequence[Example], batch_size: int) -> Iterator[list[int]]:
    """Yield indices of examples of one prefix length at a time, at most `batch_size` of them, shortest first.

    Batches of equal length need no padding, so no result depends on its neighbours.
    """
    by_length: dict[int, list[int]] = {}
    for index, example in enumerate(examples):
        by_length.setdefault(len(example.clean_tokens), []).append(index)
    for length in sorted(by_length):
        indices = by_length[length]
        for start in range(0, len(indices), batch_size):
            yield indices[start : start + batch_size]


def prefix_tokens(examples: Sequence[Example], side: str, device: torch.device) -> LongTensor:
    """Return the prefixes of examples of one length, [example, position]; `side` is clean or patch."""
    rows = [example.clean_tokens if side == "clean" else example.patch_tokens for example in examples]
    return torch.tensor(rows, dtype=torch.long, device=device)  # type: ignore[return-value]


def answer_tokens(examples: Sequence[Example], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the clean and the patch answers as two tensors [example]."""
    pairs = torch.tensor([(e.clean_token, e.patch_token) for e in examples], dtype=torch.long, device=device)
    return pairs[:, 0], pairs[:, 1]


@torch.no_grad()
def score_examples(model: PreTrainedModel, examples: Sequence[Example], *, step: int, batch_size: int) -> pd.DataFrame:
    """Return TASK_EXAMPLES rows of one snapshot; `example` is the index in `examples`.

    logit_diff = logit(clean answer) − logit(patch answer) at the last position of the clean prefix; of an example that
    is scored as a sequence, log p(clean) − log p(patch).
    """
    logit_diff, log_prob = np.zeros(len(examples)), np.zeros(len(examples))
    answers = [index for index, example in enumerate(examples) if example.attributable]
    for batch_indices in batches_by_length([examples[index] for index in answers], batch_size):
        indices = [answers[index] for index in batch_indices]
        batch = [examples[index] for index in indices]
        logits = model(prefix_tokens(batch, "clean", model.device), use_cache=False, logits_to_keep=1).logits[:, -1]
        logits = logits.float()  # [example, vocab]
        clean, patch = (logits.gather(1, token[:, None])[:, 0] for token in answer_tokens(batch, model.device))
        logit_diff[indices] = (clean - patch).cpu().numpy()
        log_prob[indices] = (clean - logits.logsumexp(dim=1)).cpu().numpy()
    sequences = [index for index, example in enumerate(examples) if not example.attributable]
    if sequences:
        pairs = [examples[index] for index in sequences]
        sides = [(e.clean_tokens, e.clean_start) for e in pairs] + [(e.patch_tokens, e.patch_start) for e in pairs]
        clean, patch = np.split(sequence_log_probs(model, sides, batch_size=batch_size), 2)
        logit_diff[sequences], log_prob[sequences] = clean - patch, clean
    return pd.DataFrame(
        {
            "step": step,
            "task": [example.task for example in examples],
            "example": np.arange(len(examples)),
            "cluster": cluster_ids(examples),
            "logit_diff": logit_diff,
            "prob_correct": np.minimum(np.exp(log_prob), 1.0),
            "loss_answer": np.maximum(-log_prob, 0.0),
        }
    )


@torch.no_grad()
def sequence_log_probs(
    model: PreTrainedModel, sequences: Sequence[tuple[Sequence[int], int]], *, batch_size: int
) -> np.ndarray:
    """Return Σ log p(token | those before it) over the tokens from a start on, [sequence] float64, in nats.

    sequences: (tokens, start), start at least 1. Only sequences of one length share a forward pass.
    """
    by_length: dict[int, list[int]] = {}
    for index, (tokens, _) in enumerate(sequences):
        by_length.setdefault(len(tokens), []).append(index)
    total = np.zeros(len(sequences))
    for length, members in sorted(by_length.items()):
        for first in range(0, len(members), batch_size):
            indices = members[first : first + batch_size]
            batch = torch.tensor([list(sequences[index][0]) for index in indices], device=model.device)
            logits = model(batch, use_cache=False).logits[:, :-1].float()  # [sequence, position, vocab]
            found = logits.gather(2, batch[:, 1:, None])[..., 0] - logits.logsumexp(dim=2)
            starts = torch.tensor([sequences[index][1] for index in indices], device=model.device)
            scored = torch.arange(1, length, device=model.device) >= starts[:, None]
            total[indices] = (found.double() * scored).sum(dim=1).cpu().numpy()
    return total
