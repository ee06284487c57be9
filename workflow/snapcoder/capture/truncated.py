"""The snapshots of one language model, each cut off after the block that is read, in memory or one after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from snapcoder.language_model import blocks, load


@dataclass(frozen=True)
class TruncatedSnapshots:
    """Yields every snapshot's model, in order, on `device`; only what is needed up to block `layer` has memory.

    resident: the models when they stay in memory, else empty, and each iteration loads them again, one at a time.
    """

    folders: tuple[Path, ...]
    layer: int
    device: torch.device
    resident: tuple[nn.Module, ...]

    @classmethod
    def open(
        cls, folders: Sequence[Path], *, layer: int, device: torch.device, memory_bytes: int
    ) -> "TruncatedSnapshots":
        """Keep all snapshots in memory when together they fit `memory_bytes`."""
        first = load_truncated(folders[0], layer=layer, device=device)
        resident: tuple[nn.Module, ...] = ()
        if len(folders) * weight_bytes(first) <= memory_bytes:
            resident = (first, *(load_truncated(folder, layer=layer, device=device) for folder in folders[1:]))
        return cls(tuple(folders), layer, device, resident)

    def __len__(self) -> int:
        return len(self.folders)

    def __iter__(self) -> Iterator[nn.Module]:
        if self.resident:
            yield from self.resident
            return
        for folder in self.folders:
            yield load_truncated(folder, layer=self.layer, device=self.device)


def load_truncated(folder: Path, *, layer: int, device: torch.device) -> nn.Module:
    """Load a snapshot without the weights of later blocks and of the output head, which a capture never reaches."""
    model = load(folder)
    nn.Module.to(model, device)
    for block in blocks(model)[layer + 1 :]:
        block.to("meta")
    head = model.get_output_embeddings()
    if head is not None:
        head.to("meta")  # a head that is tied to the input embedding gives up its own reference only
    return model


def weight_bytes(model: nn.Module) -> int:
    """Return the memory of a model's weights and buffers; what is on the meta device has none."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if not tensor.is_meta)
