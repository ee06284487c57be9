"""Finish a forward pass from the activations after one block, without running the blocks below."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import LongTensor, Tensor
from transformers import PreTrainedModel

from snapcoder.language_model import blocks


class Continuation:
    """The part of a model above one block, as a function of that block's output."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._put_in: Tensor | None = None
        self._as_tuple = _blocks_return_tuples(model)
        self.device: torch.device = model.device

    def last_logits(self, tokens: LongTensor, activation: Tensor) -> Tensor:
        """Return the last position's logits [example, vocab] for `activation` [example, position, model].

        Differentiable in `activation`. tokens [example, position] give positions and masks only.
        """
        self._put_in = activation
        try:
            return self._model(tokens, use_cache=False, logits_to_keep=1).logits[:, -1].float()
        finally:
            self._put_in = None

    def logits(self, tokens: LongTensor, activation: Tensor) -> Tensor:
        """Return the logits of every position [sequence, position, vocab] for `activation` [sequence, position, model]."""
        self._put_in = activation
        try:
            return self._model(tokens, use_cache=False).logits.float()
        finally:
            self._put_in = None

    def skip(self, hidden: Tensor, *_: Any, **__: Any) -> Any:
        """Stand in for a block below: pass its input on."""
        return (hidden,) if self._as_tuple else hidden

    def replay(self, *_: Any, **__: Any) -> Any:
        """Stand in for the block itself: put out the activation that was put in."""
        return (self._put_in,) if self._as_tuple else self._put_in


@contextmanager
def continue_from(model: PreTrainedModel, *, layer: int) -> Iterator[Continuation]:
    """Yield the model's continuation after block `layer`.

    Equal to replacing that block's output in a full pass, but the blocks up to it are skipped: of a four-block model
    read after its third, a quarter is run. While the context lasts the model must not be used otherwise.
    """
    continuation = Continuation(model)
    skipped = list(blocks(model))[: layer + 1]
    for block in skipped[:-1]:
        block.forward = continuation.skip
    skipped[-1].forward = continuation.replay
    try:
        yield continuation
    finally:
        for block in skipped:
            del block.forward  # the class's own again


@torch.no_grad()
def _blocks_return_tuples(model: PreTrainedModel) -> bool:
    seen: list[bool] = []
    handle = blocks(model)[0].register_forward_hook(lambda _, __, output: seen.append(isinstance(output, tuple)))
    try:
        model(torch.zeros((1, 1), dtype=torch.long, device=model.device), use_cache=False)
    finally:
        handle.remove()
    return seen[0]
