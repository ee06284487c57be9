"""Two plainer smoothings of the same counts: a line drawn by Kneser–Ney must not hang on how counts are smoothed.

    Jelinek–Mercer   p_n(w|h) = λ_n c(h, w)/c(h) + (1 − λ_n) p_{n−1}(w|h'),  p_0 uniform;  p_{n−1} where h was never seen
    add-k            p_n(w|h) = (c(h, w) + k_n) / (c(h) + k_n V)

One λ and one k per order (Chen & Goodman 1999, 2.2 and 2.1), fitted like the discounts: on training documents that are
held back from the counts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import minimize_scalar

from snapcoder.ngrams import NgramModel, within_document

LEVELS = {1: "unigram", 2: "bigram", 3: "trigram"}
MARGIN = 1e-6  # λ stays this far from 0 and 1
LOG_K = (-14.0, 4.0)  # range of log k

Looked = tuple[np.ndarray, np.ndarray, np.ndarray]  # c(h, w) [n], c(h) [n], and what is not used here


class Smoothing(Protocol):
    """A language model of the three orders."""

    def log_prob(self, tokens: np.ndarray, order: int, *, doc: np.ndarray | None = None) -> np.ndarray:
        """Log p of each token given up to order − 1 tokens before it in its document, [sequence, position]."""


@dataclass(frozen=True)
class JelinekMercer:
    """Counts, and the weight λ of each order against the order below [3]."""

    model: NgramModel
    weights: tuple[float, ...]

    def log_prob(self, tokens: np.ndarray, order: int, *, doc: np.ndarray | None = None) -> np.ndarray:
        """Return log p of each token, [sequence, position], in nats."""
        tokens = np.asarray(tokens, dtype=np.int64)
        p = np.full(tokens.shape, 1.0 / self.model.vocab_size)
        for n in range(1, order + 1):
            inside = within_document(tokens.shape, doc, order=n)
            p[inside] = mixed(_look_up(self.model, tokens, inside, n), self.weights[n - 1], p[inside])
        return np.log(p)


@dataclass(frozen=True)
class AddK:
    """Counts, and the k of each order [3]."""

    model: NgramModel
    added: tuple[float, ...]

    def log_prob(self, tokens: np.ndarray, order: int, *, doc: np.ndarray | None = None) -> np.ndarray:
        """Return log p of each token, [sequence, position], in nats; with a shorter context, of the order below."""
        tokens = np.asarray(tokens, dtype=np.int64)
        p = np.zeros(tokens.shape)
        for n in range(1, order + 1):
            inside = within_document(tokens.shape, doc, order=n)
            p[inside] = padded(_look_up(self.model, tokens, inside, n), self.added[n - 1], self.model.vocab_size)
        return np.log(p)


def _look_up(model: NgramModel, tokens: np.ndarray, inside: np.ndarray, order: int) -> Looked:
    row, position = np.nonzero(inside)
    context = np.zeros(len(row), dtype=np.int64)
    for reach in range(1, order):
        context += tokens[row, position - reach] * model.vocab_size ** (reach - 1)
    return model.order(LEVELS[order]).lookup(context, tokens[row, position])


def mixed(looked: Looked, weight: float, lower: np.ndarray) -> np.ndarray:
    """Return Jelinek–Mercer probabilities [n], given those of the order below [n]."""
    count, total, _ = looked
    own = np.divide(count, total, out=np.zeros(len(count)), where=total > 0)
    return np.where(total > 0, weight * own + (1.0 - weight) * lower, lower)


def padded(looked: Looked, added: float, vocab_size: int) -> np.ndarray:
    """Return add-k probabilities [n]."""
    count, total, _ = looked
    return (count + added) / (total + added * vocab_size)


def fit_jelinek_mercer(
    model: NgramModel, held_back: NgramModel, looked: Mapping[int, Mapping[str, Looked]]
) -> JelinekMercer:
    """Fit the weights on held-back tokens, lowest order first; the likelihood is concave in each.

    model: all counts; held_back: those without the held-back documents; looked: by order, what `held_back` says of the
    held-back tokens with that much context, by kind of n-gram.
    """
    weights: list[float] = []
    for order in LEVELS:
        lower = np.full(len(looked[order]["unigram"][0]), 1.0 / held_back.vocab_size)
        for level in range(1, order):
            lower = mixed(looked[order][LEVELS[level]], weights[level - 1], lower)

        def loss(weight: float, top: Looked = looked[order][LEVELS[order]], lower: np.ndarray = lower) -> float:
            return -float(np.log(mixed(top, weight, lower)).mean())

        weights.append(_lowest(loss, (MARGIN, 1.0 - MARGIN)) if len(lower) else 0.5)
    return JelinekMercer(model, tuple(weights))


def fit_add_k(model: NgramModel, held_back: NgramModel, looked: Mapping[int, Mapping[str, Looked]]) -> AddK:
    """Fit each order's k on held-back tokens; arguments as for `fit_jelinek_mercer`."""
    added: list[float] = []
    for order in LEVELS:
        top = looked[order][LEVELS[order]]

        def loss(log_k: float, top: Looked = top) -> float:
            return -float(np.log(padded(top, np.exp(log_k), held_back.vocab_size)).mean())

        added.append(float(np.exp(_lowest(loss, LOG_K))) if len(top[0]) else 1.0)
    return AddK(model, tuple(added))


def _lowest(loss: Callable[[float], float], bounds: tuple[float, float]) -> float:
    return float(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)
