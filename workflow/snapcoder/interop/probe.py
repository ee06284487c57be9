"""A batch of our cached activations on which an imported dictionary is tried."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder.metrics import POOLED, Scores, evaluate
from snapcoder.crosscoder.model import encode, from_dictionary
from snapcoder.crosscoder.normalise import Normaliser
from snapcoder.interop.files import InteropError
from snapcoder.storage.aligned import iterate_aligned, read_aligned_headers
from snapcoder.storage.dictionaries import Dictionary

PROBE_ROWS = 4096
_BATCH = 256


@dataclass(frozen=True)
class Probe:
    """Raw activations [row, snapshot, model] of the first rows of the caches, in the order of `steps`."""

    rows: np.ndarray
    steps: tuple[int, ...]
    layer: int

    def require(self, steps: tuple[int, ...], d_model: int) -> None:
        """Raise `InteropError` when the caches are not those of a dictionary's snapshots."""
        if self.steps != steps or self.rows.shape[2] != d_model:
            raise InteropError(
                f"the probe's caches are snapshots {list(self.steps)} of width {self.rows.shape[2]}, the dictionary has "
                f"snapshots {list(steps)} of width {d_model}; give one cache for each of its snapshots"
            )

    def mean_norms(self) -> np.ndarray:
        """Return the mean norm of each snapshot, [snapshot]."""
        return np.linalg.norm(self.rows.astype(np.float64), axis=2).mean(axis=0)

    def scores(self, dictionary: Dictionary) -> list[Scores]:
        """Return the scores of each snapshot, the pooled ones last."""
        return evaluate(
            from_dictionary(dictionary),
            torch.from_numpy(dictionary.threshold),
            lambda: self._normalised(dictionary),
            gate=dictionary.gate,
            scale=dictionary.scale,
        )

    def threshold(self, dictionary: Dictionary, weights: np.ndarray, *, k: float) -> float:
        """Return the threshold above which k entries per row and gate of z · weights [gate, feature] lie on average.

        This is the cut of BatchTopK over all rows of the probe as one batch; 0 when fewer entries are positive.
        """
        keep = round(k * len(self.rows) * len(weights))
        parameters, largest = from_dictionary(dictionary), np.zeros(0, dtype=np.float32)
        for x in self._normalised(dictionary):
            z = encode(parameters, x)
            for weight in torch.from_numpy(np.asarray(weights, dtype=np.float32)):
                u = (z * weight).flatten()
                largest = np.concatenate([largest, u[u > 0].numpy()])
                if len(largest) > keep + 1:
                    largest = np.partition(largest, len(largest) - keep - 1)[-keep - 1 :]
        return float(largest.min()) if len(largest) > keep else 0.0

    def _normalised(self, dictionary: Dictionary) -> Iterable[Tensor]:
        normaliser = Normaliser.of(dictionary.center, dictionary.scale)
        for start in range(0, len(self.rows), _BATCH):
            yield normaliser.normalise(torch.from_numpy(self.rows[start : start + _BATCH]))


def mean_ev(scores: list[Scores]) -> float:
    """Return the explained variance averaged over snapshots, which does not depend on how they are scaled."""
    return float(np.mean([score.ev for score in scores if score.snapshot != POOLED]))


def read_probe(paths: Sequence[Path], *, n_rows: int = PROBE_ROWS) -> Probe:
    """Read the first rows of the caches of all snapshots, in the order of their steps."""
    _, headers = read_aligned_headers(paths)
    order = np.argsort([header.step for header in headers])
    blocks, count = [], 0
    for block in iterate_aligned([paths[index] for index in order]):
        blocks.append(block[: n_rows - count])
        count += len(blocks[-1])
        if count == n_rows:
            break
    steps = tuple(headers[index].step for index in order)
    return Probe(rows=np.concatenate(blocks), steps=steps, layer=headers[0].layer)
