"""Activations of a snapshot on task prompts."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from snapcoder.language_model import capture
from snapcoder.storage.prompts import PromptActivations
from snapcoder.storage.task_examples import Example
from snapcoder.tasks.scoring import batches_by_length, prefix_tokens


@torch.no_grad()
def capture_prompts(
    model: PreTrainedModel,
    examples: Sequence[Example],
    lines: np.ndarray,
    *,
    step: int,
    layer: int,
    examples_sha256: str,
    batch_size: int = 128,
) -> PromptActivations:
    """Return what the snapshot holds after block `layer` on the clean and patch prefixes of `examples`.

    lines [example]: their lines in the task file, ascending.
    """
    lengths = np.array([len(example.clean_tokens) for example in examples], dtype=np.int64)
    offset = np.concatenate([[0], np.cumsum(lengths)])
    sides = {}
    for side in ("clean", "patch"):
        held = np.zeros((int(offset[-1]), int(model.config.hidden_size)), dtype=np.float32)  # [position, model]
        for indices in batches_by_length(examples, batch_size):
            tokens = prefix_tokens([examples[index] for index in indices], side, model.device)
            activation = capture(model, tokens, layer=layer).cpu().numpy()  # [example, position, model]
            rows = offset[indices][:, None] + np.arange(tokens.shape[1])
            held[rows] = activation
        sides[side] = held
    return PromptActivations(
        step=step,
        layer=layer,
        line=lines.astype(np.int32),
        offset=offset,
        clean=sides["clean"],
        patch=sides["patch"],
        examples_sha256=examples_sha256,
    )
