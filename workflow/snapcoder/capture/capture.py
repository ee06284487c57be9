"""Run the sequences of chosen rows through a snapshot and yield the activations of these rows, in order."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from snapcoder.language_model import capture
from snapcoder.storage.activations import RowTable
from snapcoder.storage.tokens import TokenTable


def captured_blocks(
    model: nn.Module, table: TokenTable, rows: RowTable, *, layer: int, batch_size: int, device: torch.device
) -> Iterator[np.ndarray]:
    """Yield float32 [row, model] pieces that together are the activations of `rows` after block `layer`."""
    for piece in captured(model, table, rows, layer=layer, batch_size=batch_size, device=device):
        yield piece.cpu().numpy()


@torch.inference_mode()
def captured(
    model: nn.Module, table: TokenTable, rows: RowTable, *, layer: int, batch_size: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield the same pieces as float32 tensors that are still on the device."""
    starts = np.flatnonzero(np.diff(rows.sequence, prepend=-1))  # first row of each sequence
    stops = np.append(starts[1:], len(rows))
    for first in range(0, len(starts), batch_size):
        last = min(first + batch_size, len(starts))
        sequences = rows.sequence[starts[first:last]]
        tokens = torch.from_numpy(table.tokens[sequences].astype(np.int64)).to(device)
        activation = capture(model, tokens, layer=layer)
        here = slice(starts[first], stops[last - 1])
        which = np.repeat(np.arange(last - first), stops[first:last] - starts[first:last])
        yield activation[torch.from_numpy(which), torch.from_numpy(rows.position[here].astype(np.int64))]
