"""How well a snapshot is predicted by others: its activations from a decoder that is interpolated instead of trained.

Every base snapshot but the first and the last is reconstructed from the same code, on held-out rows, with

- `own`: the decoder trained for it;
- `interpolated`: the straight line in log step between its two neighbours' decoders;
- `nearest`: the decoder of the neighbour that is nearer in log step;
- `endpoints`: the straight line in log step between the first and the last snapshot's decoders;
- `blind`: as `interpolated`, and center and scale interpolated too;
- `pca`: not the dictionary, but as many principal components of its training rows as features are active with `own`.

A decoder stands for its bias too, and for the norms that gate the code, which are interpolated as numbers: the norm of an
interpolated decoder would be too small where directions turn. Center and scale are the snapshot's own except in `blind`:
they are read off its activations, and where the mean activation moves it would drown everything else.

The code is shared and given; it was computed with this snapshot's activations among the others, so this asks whether
decoders change smoothly from snapshot to snapshot, not what a dictionary trained without this one would give.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from snapcoder.evolution.log_steps import log_steps
from snapcoder.storage.dictionaries import DictionaryParts, SnapshotDecoder
from snapcoder.study.timing import TimingSettings


@dataclass(frozen=True)
class Prediction:
    """A decoder that stands in for a snapshot, with the norms [feature] that gate the code."""

    part: SnapshotDecoder
    norm: np.ndarray

    @classmethod
    def of(cls, part: SnapshotDecoder) -> "Prediction":
        """Take a decoder as it is."""
        return cls(part, np.linalg.norm(part.decoder, axis=1))

    def towards(self, other: "Prediction", share: float) -> "Prediction":
        """Return the point at `share` of the straight line from this decoder to another."""

        def mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return a + np.float32(share) * (b - a)

        part = SnapshotDecoder(
            decoder=mix(self.part.decoder, other.part.decoder),
            decoder_bias=mix(self.part.decoder_bias, other.part.decoder_bias),
            scale=(1 - share) * self.part.scale + share * other.part.scale,
            center=mix(self.part.center, other.part.center),
        )
        return Prediction(part, mix(self.norm, other.norm))

    def normalised_as(self, other: SnapshotDecoder) -> "Prediction":
        """Return this decoder in the units of another snapshot: with its center and scale."""
        return dataclasses.replace(self, part=dataclasses.replace(self.part, scale=other.scale, center=other.center))

    def reconstruct(self, z: csr_array, *, threshold: np.ndarray, gate: str) -> tuple[np.ndarray, float]:
        """Return the raw activations [row, model] that the code stands for, and the mean number of active features.

        z [row, feature] holds what is on at some snapshot; with a shared gate all of it is on at every one.
        """
        on = np.ones(len(z.data), dtype=bool) if gate == "shared" else self._fires(z, threshold)
        f = csr_array((np.where(on, z.data, 0.0).astype(np.float32), z.indices, z.indptr), shape=z.shape)
        x = f @ self.part.decoder + self.part.decoder_bias
        return x / np.float32(self.part.scale) + self.part.center, float(on.sum()) / z.shape[0]

    def _fires(self, z: csr_array, threshold: np.ndarray) -> np.ndarray:
        return z.data * self.norm[z.indices] > threshold[z.indices]


def heldout_snapshots(
    dictionary: DictionaryParts,
    z: csr_array,
    *,
    doc: np.ndarray,
    heldout: Callable[[int], np.ndarray],
    train: Callable[[int], np.ndarray],
    settings: TimingSettings,
) -> pd.DataFrame:
    """Return the table heldout_snapshots, one row per inner base snapshot × method.

    Empty below three snapshots and without held-out rows.

    z [row, feature]: code of the held-out rows; doc [row]: their documents; heldout(step), train(step): raw activations
    of these rows and of training rows, float32 [row, model]. At most four decoders are in memory at a time.
    """
    rows = []
    draws = _document_draws(doc, settings)
    for s in range(1, len(dictionary.steps) - 1) if z.shape[0] else ():
        step = dictionary.steps[s]
        target = heldout(step)
        active = 0.0
        for method, prediction in _predictions(dictionary, s):
            found, l0 = prediction.reconstruct(z, threshold=dictionary.threshold, gate=dictionary.gate)
            active = l0 if method == "own" else active
            rows.append({"step": step, "method": method, "l0": l0, **explained(target, found, draws)})
        rank = max(1, min(round(active), target.shape[1]))
        projected = principal_components(train(step), target, rank=rank)
        rows.append({"step": step, "method": "pca", "l0": float(rank), **explained(target, projected, draws)})
    table = pd.DataFrame(rows, columns=["step", "method", "l0", "ev", "ev_ci_lo", "ev_ci_hi"])
    steps = np.asarray(dictionary.steps)
    place = np.searchsorted(steps, table["step"])
    return table.assign(
        layer=dictionary.layer,
        step_before=steps[place - 1] if len(table) else [],
        step_after=steps[place + 1] if len(table) else [],
        n_rows=z.shape[0],
    )


def _predictions(dictionary: DictionaryParts, s: int) -> Iterator[tuple[str, Prediction]]:
    """Yield the stand-ins of snapshot `s` by method, one after the other."""
    place, last = log_steps(dictionary.steps), len(dictionary.steps) - 1
    own = dictionary.snapshot(s)
    yield "own", Prediction.of(own)
    own = dataclasses.replace(own, decoder=own.decoder[:0])  # only its units are needed from here on
    for method, before, after in (("interpolated", s - 1, s + 1), ("endpoints", 0, last)):
        share = float((place[s] - place[before]) / (place[after] - place[before]))
        line = Prediction.of(dictionary.snapshot(before)).towards(Prediction.of(dictionary.snapshot(after)), share)
        if method == "interpolated":
            yield "blind", line
        yield method, line.normalised_as(own)
    nearer = s - 1 if place[s] - place[s - 1] <= place[s + 1] - place[s] else s + 1
    yield "nearest", Prediction.of(dictionary.snapshot(nearer)).normalised_as(own)


def principal_components(train: np.ndarray, rows: np.ndarray, *, rank: int) -> np.ndarray:
    """Return `rows` [row, model] projected on the mean and the first `rank` principal components of `train`."""
    mean = train.mean(axis=0, dtype=np.float64)
    centred = train - mean.astype(np.float32)
    _, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    basis = vectors[:, -rank:].astype(np.float32)
    shift = mean.astype(np.float32)
    return shift + ((rows - shift) @ basis) @ basis.T


def _document_draws(doc: np.ndarray, settings: TimingSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's document number and how often every document is drawn, [draw, document]."""
    _, number = np.unique(doc, return_inverse=True)
    n = int(number.max(initial=-1)) + 1
    if not n:
        return number, np.empty((settings.bootstrap, 0))
    counts = np.random.default_rng(settings.seed).multinomial(n, np.full(n, 1 / n), size=settings.bootstrap)
    return number, counts.astype(np.float64)


def explained(target: np.ndarray, found: np.ndarray, draws: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """Return explained variance of raw activations with its 95% interval over documents (NaN with fewer than two)."""
    number, counts = draws
    error = np.square(target - found, dtype=np.float64).sum(axis=1)
    spread = np.square(target - target.mean(axis=0, dtype=np.float64)).sum(axis=1)
    if not spread.sum():
        return dict.fromkeys(("ev", "ev_ci_lo", "ev_ci_hi"), float("nan"))
    lo = hi = float("nan")
    if counts.shape[1] > 1:
        lost, total = (counts @ np.bincount(number, values) for values in (error, spread))
        lo, hi = np.percentile(1 - lost / np.where(total > 0, total, np.nan), [2.5, 97.5])
    return {"ev": 1 - float(error.sum() / spread.sum()), "ev_ci_lo": float(lo), "ev_ci_hi": float(hi)}
