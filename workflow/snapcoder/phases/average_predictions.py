"""Predictions averaged over contexts: what is left of a model when its context is averaged out.

Notation: q̄ = E q_x; q̄_u = E[q_x | u] for contexts that end in token u; p_1, p_2 the n-gram models.

    kl_uni_marginal   KL(p_1 ‖ q̄)                        kl_bi_marginal    E KL(p_2(·|u) ‖ q̄_u)
    mi_ctx            H(q̄) − E H(q_x)                    mi_beyond_bigram  E H(q̄_u) − E H(q_x)
    zipf_slope        of log q̄ against log rank over the upper half of the ranks; zipf_slope_unigram the same of p_1

The first four are linearised in the weights of the documents (first-order influence): resampling q̄ itself would add
the plug-in bias of small samples a second time, so that intervals miss their own estimates. Memory is bounded: for
q̄_u, tokens u are taken from the most frequent down (by p_1) until `MAX_VALUES` sums are held, and above
`DENSE_VOCABULARY` tokens they are not split by document and have no interval; `n` says how many predictions they rest
on.
"""

from collections.abc import Iterable

import numpy as np

from snapcoder.ngrams import DENSE_VOCABULARY
from snapcoder.phases.grouped_sums import GroupedSums
from snapcoder.phases.ngram_distances import NgramPredictions
from snapcoder.phases.resampling import sums_by

MAX_VALUES = 1 << 26  # float32 sums over (conditioning token, document) pairs: 256 MiB
CHUNK_VALUES = 1 << 22  # sums looked at at a time
_DOC_BITS = 32


class AveragePredictions:
    """Sums of predictions by document, and by the token before and document, with what they say about averages."""

    def __init__(self, reference: NgramPredictions) -> None:
        self.reference = reference
        vocab = len(reference.unigram)
        self._order = np.argsort(-np.asarray(reference.ngrams.unigram), kind="stable")  # tokens, frequent ones first
        self._rank = np.empty(vocab, dtype=np.int64)
        self._rank[self._order] = np.arange(vocab)
        self._by_document = vocab <= DENSE_VOCABULARY
        self._entropy: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # token, doc, H(q_x) of each prediction
        self._by_doc = GroupedSums(vocab, dtype=np.float64 if self._by_document else np.float32)
        self._by_pair = GroupedSums(vocab, dtype=np.float32, limit=max(MAX_VALUES // vocab, 1), group_bits=_DOC_BITS)

    def add(self, q: np.ndarray, *, token: np.ndarray, doc: np.ndarray, entropy: np.ndarray) -> None:
        """Add predictions q float32 [row, vocab] after `token` in `doc`, whose entropies are `entropy` [row]."""
        doc = doc.astype(np.int64)
        self._entropy.append((token, doc, entropy))
        self._by_doc.add(doc, q)
        self._by_pair.add((self._rank[token] << _DOC_BITS) + (doc if self._by_document else 0), q)

    def metrics(self, doc: np.ndarray, weights: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Return every metric [1 + draw] under the documents' weights [1 + draw, doc]; and n of those not over all.

        doc [doc]: the documents, ascending.
        """
        token, row_doc, entropy = (np.concatenate(parts) for parts in zip(*self._entropy, strict=True))
        place = np.searchsorted(doc, row_doc)
        conditional, n = self._conditional(token, place, entropy, doc, weights)
        values = self._marginal(sums_by(place, entropy, len(doc)), weights) | conditional
        return values, dict.fromkeys(conditional, n)

    def _marginal(self, entropy: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        """kl_uni_marginal, mi_ctx and the slopes; entropy [doc]: ΣH(q_x)."""
        _, counts, sums = self._by_doc.result()  # sums [doc, vocab]
        unigram = np.asarray(self.reference.ngrams.unigram, dtype=np.float64)
        cross, divergence = _influence(counts, sums, np.zeros(len(counts), dtype=np.int64), unigram[None])
        rows = weights @ counts
        mean = weights @ sums / rows[:, None]  # q̄ [1 + draw, vocab]
        return {
            "kl_uni_marginal": np.maximum(weights @ divergence / rows, 0.0),
            "mi_ctx": np.maximum(weights @ (cross - entropy) / rows, 0.0),
            "zipf_slope": zipf_slopes(mean),
            "zipf_slope_unigram": np.concatenate([zipf_slopes(unigram[None]), np.full(len(weights) - 1, np.nan)]),
        }

    def _conditional(
        self, token: np.ndarray, place: np.ndarray, entropy: np.ndarray, doc: np.ndarray, weights: np.ndarray
    ) -> tuple[dict[str, np.ndarray], int]:
        """kl_bi_marginal and mi_beyond_bigram, and the number of predictions behind them."""
        keys, counts, sums = self._by_pair.result()
        rank, pair_doc = keys >> _DOC_BITS, keys & ((1 << _DOC_BITS) - 1)
        cross, divergence = np.zeros(len(keys)), np.zeros(len(keys))  # Σ over a pair's predictions
        for first, last in _group_chunks(rank, max(CHUNK_VALUES // len(self._order), 1)):
            part = slice(first, last)
            bigram = self.reference.ngrams.bigram_probabilities(self._order[np.unique(rank[part])])
            cross[part], divergence[part] = _influence(counts[part], sums[part], rank[part], bigram)
        kept = np.isin(self._rank[token], np.unique(rank))
        entropy_sums = sums_by(place[kept], entropy[kept], len(doc))
        if not self._by_document:
            mi, kl = np.full((2, len(weights)), np.nan)
            mi[0] = (cross.sum() - entropy_sums.sum()) / counts.sum()
            kl[0] = divergence.sum() / counts.sum()
        else:
            pair_place = np.searchsorted(doc, pair_doc)
            rows = weights @ sums_by(pair_place, counts, len(doc))
            with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold no such prediction
                mi = (weights @ (sums_by(pair_place, cross, len(doc)) - entropy_sums)) / rows
                kl = (weights @ sums_by(pair_place, divergence, len(doc))) / rows
        found = {"kl_bi_marginal": np.maximum(kl, 0.0), "mi_beyond_bigram": np.maximum(mi, 0.0)}
        return found, int(counts.sum())


def zipf_slopes(mean: np.ndarray) -> np.ndarray:
    """Return the slope of log probability on log rank of distributions [n, vocab], by weighted least squares, [n].

    Over the ranks 1 … ⌈vocab/2⌉ (below lie tokens that hardly occur), each weighted 1/rank, so that every stretch of
    the logarithmic axis counts by its length. All distributions are ranked by the first: ranks of a resampled one
    would be sorted noise. NaN for fewer than two ranks.
    """
    n_ranks = -(-mean.shape[1] // 2)
    if n_ranks < 2:
        return np.full(len(mean), np.nan)
    order = np.argsort(-mean[0], kind="stable")[:n_ranks]
    log_p = np.log(np.maximum(mean[:, order], np.finfo(np.float32).tiny))
    log_rank = np.log(np.arange(1, n_ranks + 1))
    weight = 1.0 / np.arange(1, n_ranks + 1)
    centred = weight * (log_rank - (weight @ log_rank) / weight.sum())
    return log_p @ centred / float(centred @ log_rank)


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
    sums = sums.astype(np.float64, copy=False)
    mean = np.add.reduceat(sums, start, axis=0) / np.add.reduceat(counts, start)[:, None]  # q̄_u [group, vocab]
    mean = np.maximum(mean, np.finfo(np.float32).tiny)
    log_mean = np.log(mean)
    kl = (reference * (np.log(np.maximum(reference, np.finfo(np.float64).tiny)) - log_mean)).sum(axis=1)  # [group]
    cross = -np.einsum("pv,pv->p", sums, log_mean[place])
    ratio = np.einsum("pv,pv->p", sums, (reference / mean)[place])
    return cross, counts * (kl[place] + 1.0) - ratio
