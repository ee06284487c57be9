"""How far a prediction is from what the n-gram models say after the same tokens.

    KL(p ‖ q) = Σ p log p − Σ p log q        TV(p, q) = ½ Σ |p − q|
    JS(p, q)  = H(m) − ½ H(p) − ½ H(q),  m = ½ (p + q);  at most log 2

The rule set of Nguyen (2407.12034), reduced to what a token and its predecessor say, is {unigram, bigram, trigram}:
a prediction's distance to it is the smallest TV, and the rule with that distance is the one that describes it.
"""

from typing import Protocol

import numpy as np

from snapcoder.ngrams import DENSE_VOCABULARY

NAMES = {1: "uni", 2: "bi", 3: "tri"}


class Ngrams(Protocol):
    """What is asked of the n-gram models."""

    @property
    def unigram(self) -> np.ndarray:
        """p_1, [vocab]."""

    def bigram_probabilities(self, prev: np.ndarray) -> np.ndarray:
        """p_2(·|prev), [n, vocab]."""

    def trigram_probabilities(self, prev2: np.ndarray, prev: np.ndarray) -> np.ndarray:
        """p_3(·|prev2, prev), [n, vocab]."""

    def log_prob(self, tokens: np.ndarray, order: int, *, doc: np.ndarray | None = None) -> np.ndarray:
        """Log p of each token given up to order − 1 tokens before it in its document, [sequence, position]."""


class NgramPredictions:
    """What each order says after given tokens, with its entropy; tables are kept for small vocabularies only."""

    def __init__(self, ngrams: Ngrams) -> None:
        self.ngrams = ngrams
        self.unigram = np.asarray(ngrams.unigram, dtype=np.float32)
        self.unigram_entropy = float(entropy(np.asarray(ngrams.unigram, dtype=np.float64)))
        self._dense = len(self.unigram) <= DENSE_VOCABULARY
        if self._dense:
            table = np.asarray(ngrams.bigram_probabilities(np.arange(len(self.unigram))), dtype=np.float64)
            self._table, self._table_entropy = table.astype(np.float32), entropy(table)

    def bigram(self, token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return p_2(·|token) as float32 [n, vocab] and its entropy [n]."""
        if self._dense:
            return self._table[token], self._table_entropy[token]
        known, place = np.unique(token, return_inverse=True)
        found = np.asarray(self.ngrams.bigram_probabilities(known), dtype=np.float64)
        return found.astype(np.float32)[place], entropy(found)[place]

    def trigram(self, previous: np.ndarray, token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return p_3(·|previous, token) as float32 [n, vocab] and its entropy [n]; p_2 where previous is negative.

        A negative token stands for one that does not exist: the current token is the first of its document.
        """
        known = previous >= 0
        found = np.empty((len(token), len(self.unigram)), dtype=np.float32)
        if known.any():
            found[known] = self.ngrams.trigram_probabilities(previous[known], token[known])
        if not known.all():
            found[~known] = self.bigram(token[~known])[0]
        return found, entropy(found)


def entropy(p: np.ndarray) -> np.ndarray:
    """Return the entropy of distributions [..., vocab] in nats; 0 log 0 = 0."""
    return -np.einsum("...v,...v->...", p, np.log(np.maximum(p, np.finfo(p.dtype).tiny)))


def distances(
    q: np.ndarray, log_q: np.ndarray, p: np.ndarray, *, entropy_q: np.ndarray, entropy_p: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return KL(p ‖ q), JS(p, q) and TV(p, q), [n] each, in nats (TV: no unit).

    q, log_q: predictions float32 [n, vocab]; p: reference float32 [n, vocab] or [vocab]; their entropies [n].
    """
    cross = log_q @ p if p.ndim == 1 else np.einsum("rv,rv->r", p, log_q)
    work = q + p
    work *= np.float32(0.5)
    mixed = entropy(work)
    np.subtract(q, p, out=work)
    np.abs(work, out=work)
    variation = 0.5 * work.sum(axis=1)
    kl = -cross.astype(np.float64) - entropy_p
    js = mixed.astype(np.float64) - 0.5 * (entropy_p + entropy_q)
    return np.maximum(kl, 0.0), np.clip(js, 0.0, np.log(2.0)), variation.astype(np.float64)  # the bounds: rounding
