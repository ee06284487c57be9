"""How a snapshot's next-token predictions relate to n-gram statistics, with draws that all snapshots share.

Row t of the log-probabilities predicts token t + 1. A prediction is scored when both tokens lie in the same document;
the first token of a document has no context, so it is never a target. All logarithms are natural.

Notation: q_x the prediction after context x, u its last token, p_1 and p_2 the smoothed unigram and bigram model.

    loss              −E log q_x(target)                 gap_hN   loss of the N-gram model on the same targets − loss
    entropy           E H(q_x)                           agreement   share of x with argmax q_x = argmax p_2(·|u)
    kl_uni_context    E KL(p_1 ‖ q_x)                    kl_bi_context     E KL(p_2(·|u) ‖ q_x)
    kl_uni_marginal   KL(p_1 ‖ q̄),  q̄ = E q_x            kl_bi_marginal    E KL(p_2(·|u) ‖ q̄_u),  q̄_u = E[q_x | u]
    mi_ctx            H(q̄) − E H(q_x)                    mi_beyond_bigram  E H(q̄_u) − E H(q_x)

Draws resample documents; draw b weighs the same documents at every snapshot. The last two rows are linearised in the
weights of the documents (first-order influence): resampling q̄ itself would add the plug-in bias of small samples a
second time, so that intervals miss their own estimates. Memory is bounded: for q̄_u, conditioning tokens u are taken
from the most frequent down (by p_1) until `MAX_VALUES` sums are held, and above `DENSE_VOCABULARY` tokens they are not
split by document and have no interval; `n` says how many predictions they rest on.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd

from snapcoder.phases.grouped_sums import GroupedSums

DENSE_VOCABULARY = 4096
MAX_VALUES = 1 << 26  # float32 sums over (conditioning token, document) pairs: 256 MiB
CHUNK_VALUES = 1 << 22  # probabilities looked at at a time
LOWEST_LOG_PROB = -80.0  # keeps 0·log 0 at 0 and exp() out of the denormal numbers
_DOC_BITS = 32

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
UNITS = {
    "loss": "nats/token",
    "entropy": "nats/token",
    "gap_h1": "nats/token",
    "gap_h2": "nats/token",
    "gap_h3": "nats/token",
    "agreement": "share",
    "kl_uni_context": "nats",
    "kl_bi_context": "nats",
    "kl_uni_marginal": "nats",
    "kl_bi_marginal": "nats",
    "mi_ctx": "nats",
    "mi_beyond_bigram": "nats",
}


class Ngrams(Protocol):
    """What is asked of the n-gram models."""

    @property
    def unigram(self) -> np.ndarray:
        """p_1, [vocab]."""

    def bigram_probabilities(self, prev: np.ndarray) -> np.ndarray:
        """p_2(·|prev), [n, vocab]."""

    def log_prob(self, tokens: np.ndarray, order: int, *, doc: np.ndarray | None = None) -> np.ndarray:
        """Log p of each token given up to order − 1 tokens before it in its document, [sequence, position]."""


@dataclass
class _Scores:
    """Values per scored prediction, collected in order; and the sums of predictions that the marginals need."""

    by_doc: GroupedSums
    by_pair: GroupedSums
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def keep(self, **values: np.ndarray) -> None:
        for name, value in values.items():
            self.rows.setdefault(name, []).append(np.asarray(value))

    def row(self, name: str) -> np.ndarray:
        return np.concatenate(self.rows[name])


class _Bigrams:
    """p_2 by conditioning token, with its entropy; one table for small vocabularies."""

    def __init__(self, ngrams: Ngrams) -> None:
        self.ngrams, size = ngrams, len(ngrams.unigram)
        self.table = ngrams.bigram_probabilities(np.arange(size)) if size <= DENSE_VOCABULARY else None

    def rows(self, tokens: np.ndarray) -> np.ndarray:
        """p_2(·|token), [n, vocab]."""
        return self.table[tokens] if self.table is not None else self.ngrams.bigram_probabilities(tokens)


def score_predictions(
    batches: Iterable[Batch], *, ngrams: Ngrams, bootstrap: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the metrics of one snapshot (columns metric, value, ci_lo, ci_hi, n, unit) and their draws (metric, draw, value).

    batches yields log_probs float32 [sequence, position, vocab] (row t predicts token t + 1), tokens and doc
    [sequence, position]. Pass the same sequences at every snapshot, so that draws resample the same documents.
    Raises ValueError when a log-probability is NaN or nothing can be scored.
    """
    bigrams = _Bigrams(ngrams)
    scores = _collect(batches, ngrams, bigrams)
    doc, size = np.unique(scores.row("doc"), return_counts=True)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(doc), np.full(len(doc), 1 / len(doc)), size=bootstrap).astype(np.float64)
    weights = np.concatenate([np.ones((1, len(doc))), counts])  # [1 + draw, doc]; the first row is the estimate
    values = _means(scores, doc, size, weights)
    unigram = np.asarray(ngrams.unigram, dtype=np.float64)
    values |= _marginals(scores, unigram, values["entropy"], size, weights)
    conditional, n_conditional = _conditionals(scores, bigrams, doc, weights)
    values |= conditional
    n_rows = {name: int(size.sum()) for name in UNITS} | dict.fromkeys(conditional, n_conditional)
    return _frames(values, n_rows, known=len(doc) > 1)


def _collect(batches: Iterable[Batch], ngrams: Ngrams, bigrams: _Bigrams) -> _Scores:
    unigram = np.asarray(ngrams.unigram, dtype=np.float64)
    vocab = len(unigram)
    rank = np.empty(vocab, dtype=np.int64)
    rank[np.argsort(-unigram, kind="stable")] = np.arange(vocab)
    scores = _Scores(
        by_doc=GroupedSums(vocab, dtype=np.float64 if vocab <= DENSE_VOCABULARY else np.float32),
        by_pair=GroupedSums(vocab, dtype=np.float32, limit=max(MAX_VALUES // vocab, 1), group_bits=_DOC_BITS),
    )
    for log_probs, tokens, doc in batches:
        if log_probs.shape[-1] != vocab:
            raise ValueError(f"predictions over {log_probs.shape[-1]} tokens, but the n-gram models know {vocab}")
        losses = {n: -ngrams.log_prob(tokens, n, doc=doc)[:, 1:] for n in (1, 2, 3)}
        sequence, position = np.nonzero((doc[:, :-1] == doc[:, 1:]) & (doc[:, :-1] >= 0))
        size = max(CHUNK_VALUES // vocab, 1)
        for first in range(0, len(sequence), size):
            at = sequence[first : first + size], position[first : first + size]
            target = tokens[at[0], at[1] + 1]
            scores.keep(doc=doc[at], token=tokens[at])
            loss = _score_chunk(scores, log_probs[at], tokens[at], target, doc[at], unigram, bigrams, rank)
            scores.keep(**{f"gap_h{n}": loss_n[at] - loss for n, loss_n in losses.items()})
    if not scores.rows:
        raise ValueError("no prediction to score: no two tokens in a row lie in the same document")
    return scores


def _score_chunk(
    scores: _Scores,
    log_q: np.ndarray,
    token: np.ndarray,
    target: np.ndarray,
    doc: np.ndarray,
    unigram: np.ndarray,
    bigrams: _Bigrams,
    rank: np.ndarray,
) -> np.ndarray:
    """Score predictions log_q [row, vocab] made after `token`; return their losses [row]."""
    if np.isnan(log_q).any():
        raise ValueError("a log-probability is not a number; check the weights of this snapshot")
    log_q = np.maximum(log_q, np.float32(LOWEST_LOG_PROB))
    q = np.exp(log_q)
    p2 = bigrams.rows(token).astype(np.float32)
    known, place = np.unique(token, return_inverse=True)
    p2_known = np.asarray(bigrams.rows(known), dtype=np.float64)
    h2 = -(p2_known * np.log(np.maximum(p2_known, np.finfo(np.float64).tiny))).sum(axis=1)[place]
    h1 = -float((unigram * np.log(np.maximum(unigram, np.finfo(np.float64).tiny))).sum())
    loss = -log_q[np.arange(len(log_q)), target].astype(np.float64)
    scores.keep(
        loss=loss,
        entropy=-np.einsum("rv,rv->r", q, log_q).astype(np.float64),
        agreement=(log_q.argmax(axis=1) == p2_known.argmax(axis=1)[place]).astype(np.float64),
        kl_uni_context=-(log_q @ unigram.astype(np.float32)).astype(np.float64) - h1,
        kl_bi_context=-np.einsum("rv,rv->r", p2, log_q).astype(np.float64) - h2,
    )
    scores.by_doc.add(doc.astype(np.int64), q)
    by_document = doc.astype(np.int64) if len(unigram) <= DENSE_VOCABULARY else 0
    scores.by_pair.add((rank[token] << _DOC_BITS) + by_document, q)
    return loss


def _by_doc(value: np.ndarray, place: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(place, weights=value, minlength=n)


def _means(scores: _Scores, doc: np.ndarray, size: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Means over predictions under each row of `weights`, [1 + draw] each."""
    place = np.searchsorted(doc, scores.row("doc"))
    names = [name for name in scores.rows if name not in ("doc", "token")]
    sums = np.stack([_by_doc(scores.row(name), place, len(doc)) for name in names], axis=1)  # [doc, metric]
    means = (weights @ sums) / (weights @ size)[:, None]
    for name in ("kl_uni_context", "kl_bi_context"):
        means[:, names.index(name)] = np.maximum(means[:, names.index(name)], 0.0)  # rounding
    return dict(zip(names, means.T, strict=True))


def _marginals(
    scores: _Scores, unigram: np.ndarray, entropy: np.ndarray, size: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """kl_uni_marginal and mi_ctx, [1 + draw] each; entropy [1 + draw]: E H(q_x)."""
    _, counts, sums = scores.by_doc.result()  # sums [doc, vocab]
    cross, divergence = _influence(counts, sums, np.zeros(len(counts), dtype=np.int64), unigram[None])
    rows = weights @ size
    return {
        "kl_uni_marginal": np.maximum(weights @ divergence / rows, 0.0),
        "mi_ctx": np.maximum(weights @ cross / rows - entropy, 0.0),
    }


def _conditionals(
    scores: _Scores, bigrams: _Bigrams, doc: np.ndarray, weights: np.ndarray
) -> tuple[dict[str, np.ndarray], int]:
    """kl_bi_marginal and mi_beyond_bigram, [1 + draw] each, and the number of predictions behind them."""
    keys, counts, sums = scores.by_pair.result()
    rank, pair_doc = keys >> _DOC_BITS, keys & ((1 << _DOC_BITS) - 1)
    order = np.argsort(-np.asarray(bigrams.ngrams.unigram), kind="stable")
    by_document = len(order) <= DENSE_VOCABULARY
    cross, divergence = np.zeros(len(keys)), np.zeros(len(keys))  # Σ over a pair's predictions
    for first, last in _group_chunks(rank, max(CHUNK_VALUES // len(order), 1)):
        part = slice(first, last)
        cross[part], divergence[part] = _influence(
            counts[part], sums[part].astype(np.float64), rank[part], bigrams.rows(order[np.unique(rank[part])])
        )
    token_rank = np.empty(len(order), dtype=np.int64)
    token_rank[order] = np.arange(len(order))
    kept = np.isin(token_rank[scores.row("token")], np.unique(rank))
    row_place = np.searchsorted(doc, scores.row("doc")[kept])
    entropy = _by_doc(scores.row("entropy")[kept], row_place, len(doc))
    if not by_document:
        total = counts.sum()
        fixed = np.full(len(weights), np.nan)
        mi, kl = fixed.copy(), fixed.copy()
        mi[0], kl[0] = (cross.sum() - entropy.sum()) / total, divergence.sum() / total
    else:
        place = np.searchsorted(doc, pair_doc)
        rows = weights @ _by_doc(counts, place, len(doc))
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold no such prediction
            mi = (weights @ (_by_doc(cross, place, len(doc)) - entropy)) / rows
            kl = (weights @ _by_doc(divergence, place, len(doc))) / rows
    return {"kl_bi_marginal": np.maximum(kl, 0.0), "mi_beyond_bigram": np.maximum(mi, 0.0)}, int(counts.sum())


def _group_chunks(group: np.ndarray, size: int) -> Iterable[tuple[int, int]]:
    """Cut sorted groups into ranges of about `size` entries that never split a group."""
    ends = np.append(np.flatnonzero(np.diff(group)) + 1, len(group))
    first = 0
    while first < len(group):
        last = int(ends[max(np.searchsorted(ends, first + size, side="right") - 1, np.searchsorted(ends, first + 1))])
        yield first, last
        first = last


def _influence(
    counts: np.ndarray, sums: np.ndarray, group: np.ndarray, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each part's share of N·H(q̄_u) and of N·KL(p(·|u) ‖ q̄_u), to first order in the weight of the part.

    A part is what one document says after one u: counts, group (u) [part] and sums [part, vocab], sorted by group;
    reference p [group, vocab]. ∂(N_u H(q̄_u))/∂w = −Σ_v S_v log q̄_u(v) and
    ∂(N_u KL)/∂w = N (KL_u + 1) − Σ_v S_v p(v|u)/q̄_u(v); both add up to the estimate at w = 1.
    """
    _, start, place = np.unique(group, return_index=True, return_inverse=True)
    mean = np.add.reduceat(sums, start, axis=0) / np.add.reduceat(counts, start)[:, None]  # q̄_u [group, vocab]
    mean = np.maximum(mean, np.finfo(np.float32).tiny)
    log_mean = np.log(mean)
    kl = (reference * (np.log(np.maximum(reference, np.finfo(np.float64).tiny)) - log_mean)).sum(axis=1)  # [group]
    cross = -np.einsum("pv,pv->p", sums, log_mean[place])
    ratio = np.einsum("pv,pv->p", sums, (reference / mean)[place])
    return cross, counts * (kl[place] + 1.0) - ratio


def _frames(values: dict[str, np.ndarray], n_rows: dict[str, int], *, known: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    metrics, draws = [], []
    for name, unit in UNITS.items():
        estimate, resampled = values[name][0], values[name][1:]
        resampled = resampled[~np.isnan(resampled)] if known else resampled[:0]
        lo, hi = np.percentile(resampled, [2.5, 97.5]) if len(resampled) else (np.nan, np.nan)
        metrics.append({"metric": name, "value": estimate, "ci_lo": lo, "ci_hi": hi, "n": n_rows[name], "unit": unit})
        if len(resampled):
            draws.append(
                pd.DataFrame({"metric": name, "draw": np.arange(len(values[name]) - 1), "value": values[name][1:]})
            )
    empty = pd.DataFrame(
        {"metric": pd.Series(dtype=str), "draw": pd.Series(dtype="int64"), "value": pd.Series(dtype=float)}
    )
    return pd.DataFrame(metrics), pd.concat(draws, ignore_index=True) if draws else empty
