"""How well a dictionary reconstructs: explained variance, sparsity, dead and dense features, per snapshot and pooled."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snapcoder.crosscoder.gates import gate_norms, is_on
from snapcoder.crosscoder.model import Parameters, encode
from snapcoder.crosscoder.sharding import WHOLE, Shard

DENSE_RATE = 0.1  # a feature is dense when it fires on more than this share of the rows
POOLED = -1

Batches = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class Scores:
    """Scores of one snapshot, or of all pooled (snapshot = −1); the definitions are those of tables/crosscoder.py."""

    snapshot: int
    ev: float
    ev_legacy: float
    ev_raw: float
    l0: float
    nrmse: float
    dead: float
    dense: float
    n_rows: int


class _Sums:
    """Float64 sums over rows, per snapshot, of what the scores are made of."""

    def __init__(self, n_snapshots: int, n_features: int) -> None:
        self.n_rows = 0
        self.squared_error = np.zeros(n_snapshots)
        self.error_norm = np.zeros(n_snapshots)
        self.norm = np.zeros(n_snapshots)
        self.deviation = np.zeros(n_snapshots)  # Σ ‖x − x̄‖²
        self.ratio = np.zeros(n_snapshots)  # Σ ‖x − x̂‖² / ‖x − x̄‖²
        self.active = np.zeros(n_snapshots)
        self.fired = np.zeros((n_snapshots + 1, n_features), dtype=np.int64)  # last row: at any snapshot

    def add(self, snapshot: int, x: Tensor, mean: Tensor, reconstruction: Tensor) -> None:
        squared = (x - reconstruction).double().square().sum(dim=1)
        deviation = (x - mean).double().square().sum(dim=1)
        self.squared_error[snapshot] += float(squared.sum())
        self.error_norm[snapshot] += float(squared.sqrt().sum())
        self.norm[snapshot] += float(x.double().square().sum(dim=1).sqrt().sum())
        self.deviation[snapshot] += float(deviation.sum())
        self.ratio[snapshot] += float((squared / deviation.clamp_min(1e-30)).sum())

    def joined(self, shard: Shard) -> "_Sums":
        """Return the sums of all snapshots and features, of those that each process has."""
        if not shard.axis:
            return self
        of_snapshot = [self.squared_error, self.error_norm, self.norm, self.deviation, self.ratio]
        columns = shard.join_snapshots(torch.from_numpy(np.stack(of_snapshot)), 1).numpy()
        whole = _Sums(columns.shape[1], 0)
        whole.n_rows = self.n_rows
        whole.squared_error, whole.error_norm, whole.norm, whole.deviation, whole.ratio = columns
        whole.active = shard.join_snapshots(shard.over_features(torch.from_numpy(self.active)), 0).numpy()
        fired = shard.join_features(torch.from_numpy(self.fired), 1)
        of_gate, anywhere = shard.join_snapshots(fired[:-1], 0), fired[-1:]
        whole.fired = torch.cat([of_gate, anywhere]).numpy()
        return whole


def evaluate(
    parameters: Parameters,
    threshold: Tensor,
    batches: Batches,
    *,
    gate: str,
    scale: np.ndarray,
    precision: str = "fp32",
    shard: Shard = WHOLE,
) -> list[Scores]:
    """Score a dictionary on normalised rows; return one `Scores` per snapshot and one pooled, last.

    batches() yields x [token, snapshot, model] and is called twice: the mean that explained variance is measured
    against is that of these rows. threshold [feature]; scale [snapshot] turns normalised errors into raw units.
    x, parameters and threshold are those of the shard; scale and the scores are of all snapshots.
    """
    mean = mean_rows(batches)
    norms = parameters.norms()
    gating = gate_norms(norms, gate=gate, shard=shard)
    largest = shard.largest_over_snapshots(norms.amax(dim=0))
    sums = _Sums(parameters.n_snapshots, parameters.n_features)
    for x in batches():
        z = encode(parameters, x, precision=precision, shard=shard)
        sums.n_rows += len(x)
        sums.fired[-1] += is_on(z, largest, threshold).sum(dim=0).cpu().numpy()
        for s in range(parameters.n_snapshots):
            on = is_on(z, gating[s % len(gating)], threshold)
            fires = is_on(z, norms[s], threshold) if gate == "shared" else on
            reconstruction = shard.over_features(torch.where(on, z, 0.0) @ parameters.decoder[s])
            sums.add(s, x[:, s], mean[s], reconstruction + parameters.decoder_bias[s])
            sums.active[s] += float(on.sum())
            sums.fired[s] += fires.sum(dim=0).cpu().numpy()
    return _scores(sums.joined(shard), np.asarray(scale, dtype=np.float64))


def reconstruction_scores(x: np.ndarray, reconstruction: np.ndarray) -> tuple[float, float, float]:
    """Return explained variance, its per-row flavour and the normalised error of one snapshot, x [row, model]."""
    squared = np.square(x.astype(np.float64) - reconstruction).sum(axis=1)
    deviation = np.square(x - x.mean(axis=0, dtype=np.float64)).sum(axis=1)
    norm = np.sqrt(np.square(x.astype(np.float64)).sum(axis=1))
    ev_legacy = 1 - float(np.mean(squared / deviation.clip(1e-30)))
    return 1 - float(squared.sum() / deviation.sum()), ev_legacy, float(np.sqrt(squared).sum() / norm.sum())


def mean_rows(batches: Batches) -> Tensor:
    """Return the mean activation [snapshot, model] of all rows, summed in float64."""
    total: Tensor | None = None
    count = 0
    for x in batches():
        part = x.sum(dim=0, dtype=torch.float64)
        total = part if total is None else total + part
        count += len(x)
    if total is None:
        raise ValueError("there are no rows to score; raise activations.heldout_tokens")
    return (total / count).float()


def _scores(sums: _Sums, scale: np.ndarray) -> list[Scores]:
    n_rows, n_snapshots = sums.n_rows, len(sums.active)
    ratio = sums.fired / n_rows
    ev = 1 - sums.squared_error / sums.deviation
    scores = [
        Scores(
            snapshot=s,
            ev=float(ev[s]),
            ev_legacy=float(1 - sums.ratio[s] / n_rows),
            ev_raw=float(ev[s]),  # one scale per snapshot cancels in the ratio
            l0=float(sums.active[s] / n_rows),
            nrmse=float(sums.error_norm[s] / sums.norm[s]),
            dead=float((sums.fired[s] == 0).mean()),
            dense=float((ratio[s] > DENSE_RATE).mean()),
            n_rows=n_rows,
        )
        for s in range(n_snapshots)
    ]
    pooled = Scores(
        snapshot=POOLED,
        ev=float(1 - sums.squared_error.sum() / sums.deviation.sum()),
        ev_legacy=float(np.mean([score.ev_legacy for score in scores])),
        ev_raw=float(1 - (sums.squared_error / scale**2).sum() / (sums.deviation / scale**2).sum()),
        l0=float(sums.active.mean() / n_rows),
        nrmse=float(sums.error_norm.sum() / sums.norm.sum()),
        dead=float((sums.fired[-1] == 0).mean()),
        dense=float((ratio[-1] > DENSE_RATE).mean()),
        n_rows=n_rows,
    )
    return [*scores, pooled]
