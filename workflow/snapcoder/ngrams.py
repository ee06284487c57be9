"""Unigram, bigram and trigram models of the training text: what the statistical phase is measured against.

Interpolated modified Kneser–Ney smoothing (Chen & Goodman 1999): each order keeps its discounted counts and gives the
discounted mass to the order below, whose counts say in how many contexts a token occurs. Every probability is
positive, and each distribution sums to one. Contexts never reach over a document border or the start of a sequence.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

DENSE_VOCABULARY = 4096  # up to here whole tables of bigrams are kept: at most two of 128 MiB
BLOCK_TOKENS = 1 << 22  # tokens counted at a time
KINDS = ("unigram", "continuation_unigram", "bigram", "continuation_bigram", "trigram")


@dataclass(frozen=True)
class Counts:
    """Counts of n-grams.

    key [n-gram] int64, ascending: Σ_j token_j · vocab_size^(n−1−j), the last token varying fastest;
    count [n-gram] int64, positive.
    """

    key: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class DiscountedCounts:
    """One order of the model: p(w | h) = (c(h, w) − D)/c(h) + γ(h) · p_lower(w), with γ(h) the discounted mass.

    discounts [3]: D for n-grams counted once, twice, and more often; each in (0, its count).
    """

    counts: Counts
    vocab_size: int
    discounts: np.ndarray

    @cached_property
    def _contexts(self) -> tuple[np.ndarray, np.ndarray]:
        context, start = np.unique(self.counts.key // self.vocab_size, return_index=True)
        return context, np.append(start, len(self.counts.key))  # [context], [context + 1]

    @cached_property
    def _totals(self) -> tuple[np.ndarray, np.ndarray]:
        """c(h) [context] and how many n-grams of each context were counted once, twice, more often [context, 3]."""
        _, start = self._contexts
        if len(start) == 1:
            return np.zeros(0), np.zeros((0, 3))
        band = _band(self.counts.count)
        parts = [np.add.reduceat((band == j).astype(np.float64), start[:-1]) for j in range(3)]
        return np.add.reduceat(self.counts.count, start[:-1]).astype(np.float64), np.stack(parts, axis=1)

    def lookup(self, context: np.ndarray, token: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return c(h, w) [n], c(h) [n] and the numbers of n-grams of h per discount [n, 3]; 0 where never seen."""
        known, _ = self._contexts
        total, banded = self._totals
        place, seen = _find(known, context)
        at, counted = _find(self.counts.key, context * self.vocab_size + token)
        if not len(known):
            zeros = np.zeros(len(context))
            return zeros, zeros, np.zeros((len(context), 3))
        count = np.where(counted, self.counts.count[at], 0).astype(np.float64)
        return count, np.where(seen, total[place], 0.0), np.where(seen[:, None], banded[place], 0.0)

    def probability(self, context: np.ndarray, token: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Return p(token | context) [n], given the lower order's probabilities of the same tokens [n]."""
        count, total, banded = self.lookup(context, token)
        own, left = split_mass(count, total, banded, self.discounts)
        return own + left * lower

    def distribution(self, context: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Return p(· | context) [n, vocab], given the lower order's distributions [n, vocab] or [vocab]."""
        known, start = self._contexts
        total, banded = self._totals
        place, seen = _find(known, context)
        if not seen.any():
            return np.broadcast_to(lower, (len(context), self.vocab_size)).copy()
        left = np.where(seen, (banded[place] @ self.discounts) / total[place], 1.0)
        result = left[:, None] * lower
        length = np.where(seen, start[place + 1] - start[place], 0)
        row = np.repeat(np.arange(len(context)), length)
        entry = np.repeat(np.where(seen, start[place], 0) - (np.cumsum(length) - length), length) + np.arange(len(row))
        count = self.counts.count[entry]
        kept = (count - self.discounts[_band(count)]) / total[place[row]]
        result[row, self.counts.key[entry] % self.vocab_size] += kept
        return result


@dataclass(frozen=True)
class NgramModel:
    """Smoothed unigram, bigram and trigram models.

    unigram_counts, bigram_counts, trigram_counts: as counted; discounts: one [3] for each of `KINDS`.
    """

    vocab_size: int
    unigram_counts: Counts
    bigram_counts: Counts
    trigram_counts: Counts
    discounts: dict[str, np.ndarray]

    def order(self, kind: str) -> DiscountedCounts:
        """Return the discounted counts of one of `KINDS`."""
        return self._orders[kind]

    @cached_property
    def _orders(self) -> dict[str, DiscountedCounts]:
        counts = {
            "unigram": self.unigram_counts,
            "continuation_unigram": continuation_counts(self.bigram_counts, self.vocab_size, order=2),
            "bigram": self.bigram_counts,
            "continuation_bigram": continuation_counts(self.trigram_counts, self.vocab_size, order=3),
            "trigram": self.trigram_counts,
        }
        return {kind: DiscountedCounts(counts[kind], self.vocab_size, self.discounts[kind]) for kind in KINDS}

    @cached_property
    def unigram(self) -> np.ndarray:
        """P(w), [vocab]."""
        return self._empty_context("unigram")

    @cached_property
    def _continuation(self) -> np.ndarray:
        return self._empty_context("continuation_unigram")

    def _empty_context(self, kind: str) -> np.ndarray:
        uniform = np.full(self.vocab_size, 1.0 / self.vocab_size)
        return self.order(kind).distribution(np.zeros(1, dtype=np.int64), uniform)[0]

    @cached_property
    def _dense_bigram(self) -> np.ndarray:
        return self.order("bigram").distribution(np.arange(self.vocab_size), self._continuation)

    @cached_property
    def _dense_continuation_bigram(self) -> np.ndarray:
        return self.order("continuation_bigram").distribution(np.arange(self.vocab_size), self._continuation)

    def bigram_probabilities(self, prev: np.ndarray) -> np.ndarray:
        """Return p(· | prev), [n, vocab]."""
        if self.vocab_size <= DENSE_VOCABULARY:
            return self._dense_bigram[prev]
        return self.order("bigram").distribution(np.asarray(prev, dtype=np.int64), self._continuation)

    def trigram_probabilities(self, prev2: np.ndarray, prev: np.ndarray) -> np.ndarray:
        """Return p(· | prev2, prev), [n, vocab]; prev2 is the earlier token."""
        prev2, prev = np.asarray(prev2, dtype=np.int64), np.asarray(prev, dtype=np.int64)
        if self.vocab_size <= DENSE_VOCABULARY:
            lower = self._dense_continuation_bigram[prev]
        else:
            lower = self.order("continuation_bigram").distribution(prev, self._continuation)
        return self.order("trigram").distribution(prev2 * self.vocab_size + prev, lower)

    def log_prob(self, tokens: np.ndarray, order: int, *, doc: np.ndarray | None = None) -> np.ndarray:
        """Return log p of each token given up to order − 1 tokens before it in its row, [sequence, position], nats.

        At the start of a row, and of a document when `doc` [sequence, position] is given, the context is shorter
        and the lower order is used. Raises ValueError for an order other than 1, 2 or 3.
        """
        if order not in (1, 2, 3):
            raise ValueError(f"n-gram order {order} does not exist; choose 1, 2 or 3")
        tokens = np.asarray(tokens, dtype=np.int64)
        result = np.log(self.unigram)[tokens]
        for n in range(2, order + 1):
            inside = within_document(tokens.shape, doc, order=n)
            result[inside] = np.log(self._conditional(tokens, inside, n))
        return result

    def _conditional(self, tokens: np.ndarray, inside: np.ndarray, order: int) -> np.ndarray:
        row, position = np.nonzero(inside)
        token, prev = tokens[row, position], tokens[row, position - 1]
        lower = self._continuation[token]
        if order == 2:
            return self.order("bigram").probability(prev, token, lower)
        lower = self.order("continuation_bigram").probability(prev, token, lower)
        context = tokens[row, position - 2] * self.vocab_size + prev
        return self.order("trigram").probability(context, token, lower)


def split_mass(
    count: np.ndarray, total: np.ndarray, banded: np.ndarray, discounts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return an order's own share of each probability [n] and the weight of the order below, γ(h) [n].

    A context that was never seen has no share of its own and leaves everything to the order below.
    """
    safe = np.where(total > 0, total, 1.0)
    own = np.where(count > 0, (count - discounts[_band(count)]) / safe, 0.0)
    return own, np.where(total > 0, (banded @ discounts) / safe, 1.0)


def within_document(shape: tuple[int, ...], doc: np.ndarray | None, *, order: int) -> np.ndarray:
    """Return which tokens [sequence, position] have order − 1 tokens of their own document before them in the row."""
    reach = min(order - 1, shape[1])
    inside = np.zeros(shape, dtype=bool)
    inside[:, reach:] = True if doc is None else doc[:, reach:] == doc[:, : shape[1] - reach]
    return inside


def count_ngrams(tokens: np.ndarray, doc: np.ndarray, *, order: int, vocab_size: int) -> Counts:
    """Count the n-grams of rows of tokens [sequence, position] that lie in one document (`doc`, same shape)."""
    step = max(1, BLOCK_TOKENS // max(tokens.shape[1], 1))
    merged = Counts(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    for first in range(0, len(tokens), step):
        block = tokens[first : first + step].astype(np.int64)
        width = max(block.shape[1] - order + 1, 0)
        places = [block[:, j : j + width] * vocab_size ** (order - 1 - j) for j in range(order)]
        key = np.sum(places, axis=0)  # [sequence, first position of the n-gram]
        inside = within_document(block.shape, doc[first : first + step], order=order)[:, order - 1 :]
        found, count = np.unique(key[inside], return_counts=True)
        merged = _merge([merged, Counts(found, count.astype(np.int64))])
    return merged


def continuation_counts(counts: Counts, vocab_size: int, *, order: int) -> Counts:
    """Return, for each n-gram without its first token, how many different first tokens it was seen with."""
    key, count = np.unique(counts.key % vocab_size ** (order - 1), return_counts=True)
    return Counts(key, count.astype(np.int64))


def _merge(parts: Iterable[Counts]) -> Counts:
    kept = [part for part in parts if len(part.key)]
    if len(kept) < 2:
        return kept[0] if kept else Counts(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    key, index = np.unique(np.concatenate([part.key for part in kept]), return_inverse=True)
    total = np.bincount(index, weights=np.concatenate([part.count for part in kept]), minlength=len(key))
    return Counts(key, total.astype(np.int64))


def _band(count: np.ndarray) -> np.ndarray:
    return np.clip(count, 1, 3).astype(np.int64) - 1  # which of the three discounts


def _find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted
