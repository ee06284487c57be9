"""What a model loses when the dictionary's reconstruction, or nothing, stands in for the activation after a block.

    â = (f · decoder + decoder_bias) / scale + center           the error a − â is dropped
    recovered = (L_ablated − L_â) / (L_ablated − L_clean)       1: nothing the model uses is lost; 0: no better than ablating

Ablated: the activation is the mean over train rows, or zero. Rows that the dictionary never sees (the first positions of
a sequence, ends of text) keep their activation, and only predictions made from replaced positions are scored.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array
from torch import Tensor
from transformers import PreTrainedModel

from snapcoder.attribution.continuation import Continuation, continue_from
from snapcoder.attribution.prompt_codes import SnapshotDictionary
from snapcoder.language_model import capture
from snapcoder.phases.resampling import document_weights, interval, sums_by
from snapcoder.storage.activations import RowTable
from snapcoder.storage.tokens import TokenTable
from snapcoder.tasks.intervals import CLEAR

_BATCH_TOKENS = 4096  # of one forward pass; larger ones leave the processor's caches
_BATCH_LOGITS = 1 << 25  # values of one forward pass's logits: 128 MB
ABLATIONS = ("mean", "zero")


@dataclass(frozen=True)
class HeldOutText:
    """Sequences with the rows that are replaced in them.

    tokens, doc [sequence, position] int64; row [sequence, position] int64: place in `cached`, −1 where nothing is
    replaced; cached [row] int64: rows of the caches, ascending.
    """

    tokens: np.ndarray
    doc: np.ndarray
    row: np.ndarray
    cached: np.ndarray


@dataclass(frozen=True)
class TextLosses:
    """doc [prediction]; loss and kl: by what stands in for the activation, [prediction] float64, nats."""

    doc: np.ndarray
    loss: dict[str, np.ndarray]
    kl: dict[str, np.ndarray]


def reconstruction(code: csr_array, here: SnapshotDictionary) -> np.ndarray:
    """Return the raw activations [row, model] float32 that the dictionary gives for gated codes [row, feature]."""
    return ((code @ here.decoder + here.decoder_bias) / np.float32(here.scale) + here.center).astype(np.float32)


def gated(z: csr_array, here: SnapshotDictionary) -> csr_array:
    """Return the entries of the shared code z [row, feature] that are on at this snapshot."""
    coo = z.tocoo()
    row, feature = coo.coords
    on = coo.data * here.gate_norm[feature] > here.threshold[feature]
    return csr_array((coo.data[on], (row[on], feature[on])), shape=z.shape)


def held_out_text(table: TokenTable, rows: RowTable, *, sequences: int, seed: int) -> HeldOutText:
    """Choose held-out sequences among those that `rows` were cached of, the same at every snapshot."""
    held_out = np.flatnonzero(rows.split == 1)
    if not len(held_out):
        raise ValueError("no held-out row was cached; raise activations.heldout_tokens")
    known = np.unique(rows.sequence[held_out])
    rng = np.random.default_rng([seed, 1])
    chosen = np.sort(rng.choice(known, size=min(sequences, len(known)), replace=False))
    row = np.full((len(chosen), table.context_length), -1, dtype=np.int64)
    mine = held_out[np.isin(rows.sequence[held_out], chosen)]
    row[np.searchsorted(chosen, rows.sequence[mine]), rows.position[mine]] = np.arange(len(mine))
    return HeldOutText(table.tokens[chosen].astype(np.int64), table.doc[chosen].astype(np.int64), row, mine)


@torch.no_grad()
def text_losses(
    model: PreTrainedModel,
    text: HeldOutText,
    rebuilt: Callable[[np.ndarray], np.ndarray],
    *,
    mean: np.ndarray,
    layer: int,
) -> TextLosses:
    """Score the predictions after replaced positions, with the activation of block `layer` clean and replaced.

    rebuilt: places in `text.cached` [n] to the activations [n, model] that stand in there; mean [model]. Memory: the logits
    of a few sequences at a time.
    """
    doc: list[np.ndarray] = []
    loss: dict[str, list[np.ndarray]] = {name: [] for name in ("clean", "reconstructed", *ABLATIONS)}
    kl: dict[str, list[np.ndarray]] = {name: [] for name in loss}
    for batch in _batches(text, vocab=int(model.config.vocab_size)):
        tokens, replaced = torch.from_numpy(text.tokens[batch]).to(model.device), text.row[batch] >= 0
        scored = replaced[:, :-1] & (text.doc[batch][:, :-1] == text.doc[batch][:, 1:])
        if not scored.any():
            continue
        clean = capture(model, tokens, layer=layer)
        where = torch.from_numpy(replaced).to(model.device)
        at = torch.from_numpy(scored).to(model.device)
        target = tokens[:, 1:][at]
        stand_ins = {
            "clean": clean[where],
            "reconstructed": torch.from_numpy(rebuilt(text.row[batch][replaced])).to(clean),
            "mean": torch.from_numpy(mean.astype(np.float32)).to(clean),
            "zero": torch.zeros((), dtype=clean.dtype, device=clean.device),
        }
        with continue_from(model, layer=layer) as run:
            reference: Tensor | None = None
            for name, values in stand_ins.items():
                log_probs = _log_probs(run, tokens, clean, where, values)[:, :-1][at]  # [prediction, vocab]
                reference = log_probs if reference is None else reference
                divergence = (reference.exp() * (reference - log_probs)).sum(dim=1).clamp_min(0)
                loss[name].append(-log_probs.gather(1, target[:, None])[:, 0].double().cpu().numpy())
                kl[name].append(divergence.double().cpu().numpy())
        doc.append(text.doc[batch][:, :-1][scored])
    if not doc:
        raise ValueError("no prediction to score after a cached held-out row; raise activations.heldout_tokens")
    joined = ({name: np.concatenate(parts) for name, parts in kind.items()} for kind in (loss, kl))
    return TextLosses(np.concatenate(doc), *joined)


def _batches(text: HeldOutText, *, vocab: int) -> Iterator[slice]:
    length = text.tokens.shape[1]
    size = max(1, min(_BATCH_TOKENS // length, _BATCH_LOGITS // (length * vocab)))
    for start in range(0, len(text.tokens), size):
        yield slice(start, start + size)


def _log_probs(run: Continuation, tokens: Tensor, clean: Tensor, where: Tensor, values: Tensor) -> Tensor:
    activation = clean.clone()
    activation[where] = values
    return torch.log_softmax(run.logits(tokens, activation), dim=-1)  # type: ignore[arg-type]


def loss_rows(losses: TextLosses, *, step: int, layer: int, bootstrap: int, seed: int) -> pd.DataFrame:
    """Return RECONSTRUCTION_LOSS rows of one snapshot, with intervals over documents (the same draws at every snapshot)."""
    doc, place = np.unique(losses.doc, return_inverse=True)
    weights = document_weights(len(doc), draws=bootstrap, seed=seed)  # [1 + draw, document]
    size = weights @ np.bincount(place)

    def means(values: np.ndarray) -> np.ndarray:
        return (weights @ sums_by(place, values, len(doc))) / size

    loss = {name: means(values) for name, values in losses.loss.items()}  # each [1 + draw]
    known = len(doc) > 1
    rows = []
    for name in loss:
        recovered = np.full(len(size), np.nan)
        if name in ABLATIONS:
            cost = loss[name] - loss["clean"]
            # At an untrained snapshot an ablation may even help; then there is nothing to recover.
            recovered = share(loss[name] - loss["reconstructed"], cost) if cost[0] > 0 else recovered
        row: dict[str, object] = {"layer": layer, "step": step, "activation": name}
        for column, draws in (("loss", loss[name]), ("kl", means(losses.kl[name])), ("recovered", recovered)):
            low, high = interval(draws[1:]) if known else (np.nan, np.nan)
            row |= {column: draws[0], f"{column}_ci_lo": low, f"{column}_ci_hi": high}
        rows.append({**row, "n_tokens": len(losses.doc), "n_documents": len(doc)})
    return pd.DataFrame(rows)


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole [1 + draw], the estimate first; all NaN where the whole is not clearly different from 0.

    Clearly: at least `CLEAR` standard deviations of its draws. A draw whose whole is 0 is NaN.
    """
    spread = float(whole[1:].std(ddof=1))
    if whole[0] == 0 or abs(whole[0]) < CLEAR * spread:
        return np.full(len(whole), np.nan)
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole != 0)
