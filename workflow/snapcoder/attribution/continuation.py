"""Finish a forward pass from the activations after one block, without running the blocks below."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import LongTensor, Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from snapcoder.language_model import blocks


class Continuation:
    """The part of a model above one block, as a function of that block's output."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._put_in: Tensor | None = None
        self._last_only = False
        self._as_tuple = _blocks_return_tuples(model)
        self.device: torch.device = model.device

    def last_logits(self, tokens: LongTensor, activation: Tensor) -> Tensor:
        """Return the last position's logits [example, vocab] for `activation` [example, position, model].

        Differentiable in `activation`. tokens [example, position] give positions and masks only.
        """
        self._put_in, self._last_only = activation, True
        try:
            return self._model(tokens, use_cache=False, logits_to_keep=1).logits[:, -1].float()
        finally:
            self._put_in, self._last_only = None, False

    def skip(self, hidden: Tensor, *_: Any, **__: Any) -> Any:
        """Stand in for a block below: pass its input on."""
        return (hidden,) if self._as_tuple else hidden

    def last_position(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return what stands in for the last block's MLP: what it says of earlier positions reaches no last logit."""

        def shortened(hidden: Tensor, *rest: Any, **named: Any) -> Any:
            output = forward(hidden[:, -1:] if self._last_only else hidden, *rest, **named)
            if not self._last_only:
                return output
            if not isinstance(output, Tensor):  # a mixture of experts may return more
                return forward(hidden, *rest, **named)
            return pad(output, (0, 0, hidden.shape[1] - 1, 0))

        return shortened

    def replay(self, *_: Any, **__: Any) -> Any:
        """Stand in for the block itself: put out the activation that was put in."""
        return (self._put_in,) if self._as_tuple else self._put_in


@contextmanager
def continue_from(model: PreTrainedModel, *, layer: int) -> Iterator[Continuation]:
    """Yield the model's continuation after block `layer`.

    Equal to replacing that block's output in a full pass, but the blocks up to it are skipped, and so is what the last
    block's MLP says of earlier positions: of a four-block model read after its third, about a tenth is run. While the
    context lasts the model must not be used otherwise.
    """
    continuation = Continuation(model)
    *_, last = every = list(blocks(model))
    skipped = every[: layer + 1]
    for block in skipped[:-1]:
        block.forward = continuation.skip
    skipped[-1].forward = continuation.replay
    changed: list[nn.Module] = [*skipped]
    mlp = getattr(last, "mlp", None)
    if last not in skipped and isinstance(mlp, nn.Module):
        mlp.forward = continuation.last_position(mlp.forward)
        changed.append(mlp)
    try:
        yield continuation
    finally:
        for module in changed:
            del module.forward  # the class's own again


@torch.no_grad()
def _blocks_return_tuples(model: PreTrainedModel) -> bool:
    seen: list[bool] = []
    handle = blocks(model)[0].register_forward_hook(lambda _, __, output: seen.append(isinstance(output, tuple)))
    try:
        model(torch.zeros((1, 1), dtype=torch.long, device=model.device), use_cache=False)
    finally:
        handle.remove()
    return seen[0]
