"""Extend a frozen dictionary to an added snapshot: an exact decoder, and at level `adapted` its own encoder term.

Feature numbers and everything about the base snapshots stay as they are (PEERS D9).
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array
from torch import Tensor

from snapcoder.crosscoder.codes import entries_above
from snapcoder.crosscoder.gates import batch_threshold
from snapcoder.crosscoder.gradients import Activation, loss_and_gradients
from snapcoder.crosscoder.losses import Penalty
from snapcoder.crosscoder.model import Parameters, encode
from snapcoder.crosscoder.schedules import batch_rows, learning_rate_factor

_REFITS = 2
_SAMPLE_ROWS = 4096


@dataclass(frozen=True)
class SnapshotDecoder:
    """One snapshot's decoder [feature, model] and bias [model], float64 from the exact fit."""

    decoder: np.ndarray
    bias: np.ndarray

    def reconstruct(self, code: csr_array) -> np.ndarray:
        """Return x̂ [row, model] of gated codes."""
        return np.asarray(code @ self.decoder) + self.bias

    def norms(self) -> np.ndarray:
        """Return ‖decoder[i]‖, [feature]."""
        return np.linalg.norm(self.decoder, axis=1)


@dataclass(frozen=True)
class Adapted:
    """The trained own term of an added snapshot; all for one snapshot, float32 tensors.

    Its pre-activation is z + x · encoder + encoder_bias, with z the frozen one; threshold is in units of z · norm.
    """

    encoder: Tensor  # [model, feature]
    encoder_bias: Tensor  # [feature]
    decoder: Tensor  # [feature, model]
    decoder_bias: Tensor  # [model]
    threshold: float

    def pre_activation(self, z: Tensor, x: Tensor) -> Tensor:
        """Return this snapshot's pre-activations [token, feature] from frozen ones and its normalised x [token, model]."""
        return z + x @ self.encoder + self.encoder_bias

    def code(self, z: Tensor, x: Tensor) -> csr_array:
        """Return the gated code [token, feature], sparse."""
        return entries_above(
            self.pre_activation(z, x), self.decoder.norm(dim=1), torch.full_like(self.encoder_bias, self.threshold)
        )


def ridge_decoder(code: csr_array, x: np.ndarray, *, ridge: float) -> SnapshotDecoder:
    """Return the decoder and bias that minimise Σ ‖x − code · decoder − bias‖² + ridge · m · n · ‖decoder‖².

    m is the mean squared code of the features in use, n the number of rows: `ridge` has no units. Solved exactly, from
    the normal equations of the centred data; features that never fire get a decoder of zero.
    """
    n_rows, n_features = code.shape
    target = x.astype(np.float64)
    code = code.astype(np.float64)
    used = np.flatnonzero(np.diff(code.tocsc().indptr) > 0)
    decoder = np.zeros((n_features, x.shape[1]))
    mean = target.mean(axis=0)
    if len(used) == 0:
        return SnapshotDecoder(decoder, mean)
    active = code[:, used]
    center = np.asarray(active.mean(axis=0)).ravel()
    gram = (active.T @ active).toarray() - n_rows * np.outer(center, center)
    moment = np.asarray(active.T @ target) - n_rows * np.outer(center, mean)
    strength = ridge * float(active.power(2).sum()) / len(used)
    gram[np.diag_indices_from(gram)] += max(strength, 1e-10 * float(np.trace(gram)) / len(used))
    decoder[used] = cho_solve(cho_factor(gram), moment)
    return SnapshotDecoder(decoder, mean - center @ decoder[used])


def gated_fit(
    ungated: SnapshotDecoder, code: csr_array, x: np.ndarray, threshold: np.ndarray, *, n_train: int, ridge: float
) -> tuple[SnapshotDecoder, csr_array]:
    """Return an added snapshot's decoder under the per-snapshot gate, and its gated code of all rows.

    code [row, feature] holds the entries that are on at some base snapshot, ungated the decoder fitted to all of them.
    The gate z · ‖decoder[i]‖ > threshold_i needs the decoder and the decoder needs the gate, hence a few refits.
    """
    fitted = ungated
    for _ in range(_REFITS):
        gated = gated_by(code[:n_train], fitted.norms(), threshold)
        fitted = ridge_decoder(gated, x[:n_train], ridge=ridge)
    return fitted, gated_by(code, fitted.norms(), threshold)


def gated_by(code: csr_array, norms: np.ndarray, threshold: np.ndarray) -> csr_array:
    """Return the entries with z · norm > threshold."""
    keep = code.data * norms[code.indices] > threshold[code.indices]
    indptr = np.concatenate([[0], np.cumsum(keep)])[code.indptr]
    return csr_array((code.data[keep], code.indices[keep], indptr), shape=code.shape)


def adapt(
    start: SnapshotDecoder, z: Tensor, x: Tensor, *, l0: float, steps: int, lr: float, batch_size: int, seed: int
) -> Adapted:
    """Train the snapshot's own encoder term, decoder and biases; the frozen pre-activations z are only read.

    z [row, feature] and normalised x [row, model] are train rows. The number of active features is held at l0 while
    training, and the final threshold gives exactly l0 on a sample of these rows.
    """
    parameters = Parameters(
        encoder=torch.zeros(1, x.shape[1], z.shape[1]),
        decoder=torch.from_numpy(start.decoder.astype(np.float32))[None].clone(),
        encoder_bias=torch.zeros(z.shape[1]),
        decoder_bias=torch.from_numpy(start.bias.astype(np.float32))[None].clone(),
        log_threshold=torch.zeros(z.shape[1]),
    )
    trained = {name: tensor for name, tensor in parameters.named().items() if name != "log_threshold"}
    optimizer = torch.optim.Adam(list(trained.values()), lr=lr, fused=True)
    cut = 0.0
    for step in range(steps):
        rows = torch.from_numpy(batch_rows(step, batch_size=batch_size, n_rows=len(x), seed=seed))
        batch = x[rows][:, None]
        own = z[rows] + encode(parameters, batch, precision="bf16")
        cut = batch_threshold(own[: batch_size // 4], parameters.norms(), k=l0, floor=0.5 * cut)
        result = loss_and_gradients(
            parameters,
            batch,
            own,
            cut,
            activation=Activation(gate="per_snapshot"),
            penalty=Penalty("none"),
            precision="bf16",
        )
        for name, tensor in trained.items():
            tensor.grad = result.gradients.named()[name].contiguous()
        optimizer.param_groups[0]["lr"] = lr * learning_rate_factor(
            step, steps=steps, warmup=max(1, steps // 20), decay_share=0.3, final=1 / 32
        )
        optimizer.step()
    sample = torch.from_numpy(np.linspace(0, len(x) - 1, min(len(x), _SAMPLE_ROWS)).astype(np.int64))
    own = z[sample] + encode(parameters, x[sample][:, None])
    return Adapted(
        encoder=parameters.encoder[0],
        encoder_bias=parameters.encoder_bias,
        decoder=parameters.decoder[0],
        decoder_bias=parameters.decoder_bias[0],
        threshold=batch_threshold(own, parameters.norms(), k=l0),
    )


def code_correlation(code: csr_array, frozen: csr_array) -> float:
    """Return the Pearson correlation of two codes over the pairs (row, feature) that are active in either of them."""
    pairs = ((code != 0).astype(np.int8) + (frozen != 0).astype(np.int8)).nnz
    if pairs == 0:
        return float("nan")
    left, right = code.astype(np.float64), frozen.astype(np.float64)
    mean_left, mean_right = left.sum() / pairs, right.sum() / pairs
    covariance = left.multiply(right).sum() / pairs - mean_left * mean_right
    spread = (left.power(2).sum() / pairs - mean_left**2) * (right.power(2).sum() / pairs - mean_right**2)
    return float(np.clip(covariance / np.sqrt(spread), -1, 1)) if spread > 0 else float("nan")


def neighbours(step: int, base_steps: tuple[int, ...]) -> list[int]:
    """Return the indices of the nearest base snapshots on either side of `step`; one when it lies outside."""
    below = [index for index, base in enumerate(base_steps) if base <= step]
    above = [index for index, base in enumerate(base_steps) if base > step]
    return below[-1:] + above[:1]
