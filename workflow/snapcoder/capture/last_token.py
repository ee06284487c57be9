"""The residual stream at the last token of many short contexts."""

import inspect

import numpy as np
import torch
from torch import Tensor, nn

from snapcoder.language_model import capture

BATCH_TOKENS = 8192  # of one forward pass
_SHIFT = 3  # tokens that a context is moved by to see whether its place counts


@torch.inference_mode()
def last_activations(
    model: nn.Module, tokens: np.ndarray, positions: np.ndarray | None, *, layer: int, device: torch.device
) -> Tensor:
    """Return the residual stream after block `layer` at the last place, [context, model] float32 on the device.

    tokens [context, place]; positions [context, place]: places to tell the model, where it takes them.
    """
    size = max(1, BATCH_TOKENS // tokens.shape[1])
    parts = []
    for first in range(0, len(tokens), size):
        batch = torch.from_numpy(tokens[first : first + size]).to(device)
        places = None if positions is None else torch.from_numpy(positions[first : first + size].copy()).to(device)
        parts.append(capture(model, batch, layer=layer, positions=places)[:, -1])
    return torch.cat(parts)


@torch.inference_mode()
def positions_matter(model: nn.Module, *, layer: int, device: torch.device, length: int = 8) -> bool:
    """Return whether a context means something else at another place: false for relative positions (rotary, ALiBi).

    Measured: the same tokens are run at two places. False, too, for models that cannot be told places.
    """
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    tokens = torch.arange(1, length + 1, device=device)[None]
    places = torch.arange(length, device=device)[None]
    here, there = (capture(model, tokens, layer=layer, positions=at) for at in (places, places + _SHIFT))
    return not torch.allclose(here, there, rtol=1e-3, atol=1e-3 * float(here.abs().max()))
