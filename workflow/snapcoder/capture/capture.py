"""Run the cached sequences through a snapshot and yield the activations of the chosen rows, in order."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from snapcoder.language_model import capture
from snapcoder.storage.activations import RowTable
from snapcoder.storage.tokens import TokenTable


@torch.inference_mode()
def captured_blocks(
    model: nn.Module, table: TokenTable, rows: RowTable, *, layer: int, batch_size: int, device: torch.device
) -> Iterator[np.ndarray]:
    """Yield float32 [row, model] pieces that together are the activations of `rows` after block `layer`."""
    starts = np.flatnonzero(np.diff(rows.sequence, prepend=-1))  # first row of each cached sequence
    stops = np.append(starts[1:], len(rows))
    for first in range(0, len(starts), batch_size):
        last = min(first + batch_size, len(starts))
        sequences = rows.sequence[starts[first:last]]
        tokens = torch.from_numpy(table.tokens[sequences].astype(np.int64)).to(device)
        activation = capture(model, tokens, layer=layer)
        here = slice(starts[first], stops[last - 1])
        which = np.repeat(np.arange(last - first), stops[first:last] - starts[first:last])
        yield activation[torch.from_numpy(which), torch.from_numpy(rows.position[here].astype(np.int64))].cpu().numpy()
