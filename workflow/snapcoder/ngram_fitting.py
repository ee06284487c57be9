"""Fit the n-gram models on training text, and measure them on held-out text.

The discounts are those that make a held-back part of the *training* documents most likely; held-out text is never
looked at. Each order's likelihood is smooth in its discounts, so a bounded quasi-Newton search with exact gradients
finds them in a few dozen evaluations.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from snapcoder.ngram_smoothing import AddK, JelinekMercer, Smoothing, fit_add_k, fit_jelinek_mercer
from snapcoder.ngrams import (
    KINDS,
    Counts,
    NgramModel,
    count_ngrams,
    split_mass,
    within_document,
)

FIT_TOKENS = 150_000  # held-back tokens that decide the discounts; more change them in the third digit
MARGIN = 0.05  # discounts stay this far from 0 and from the count they apply to: what was never seen stays possible
START = np.array([0.5, 1.0, 1.5])
ORDER_OF = {"unigram": 1, "continuation_unigram": 1, "bigram": 2, "continuation_bigram": 2, "trigram": 3}
MAIN = "kneser_ney"  # the smoothing that everything else is measured against
_TOP = {1: "unigram", 2: "bigram", 3: "trigram"}

Looked = tuple[np.ndarray, np.ndarray, np.ndarray]  # count [n], context total [n], n-grams per discount [n, 3]


def fit_ngrams(tokens: np.ndarray, doc: np.ndarray, *, vocab_size: int, fit_share: float) -> NgramModel:
    """Count the n-grams of training rows and fit the discounts on the documents held back from a first count.

    tokens, doc [sequence, position]; fit_share: share of the sequences held back. Raises ValueError when fewer than
    two sequences are given.
    """
    return fit_smoothings(tokens, doc, vocab_size=vocab_size, fit_share=fit_share)[0]


def fit_smoothings(
    tokens: np.ndarray, doc: np.ndarray, *, vocab_size: int, fit_share: float
) -> tuple[NgramModel, JelinekMercer, AddK]:
    """Return the models of `fit_ngrams`, and the same counts smoothed in two plainer ways."""
    if len(tokens) < 2:
        raise ValueError(f"{len(tokens)} training sequences; n-gram models need at least 2, so add text")
    held = held_back(doc[:, 0], share=fit_share)
    start = dict.fromkeys(KINDS, START)
    partial = _counted(tokens[~held], doc[~held], vocab_size, start)
    looked = {order: _look_up(partial, tokens[held].astype(np.int64), doc[held], order) for order in (1, 2, 3)}
    model = _counted(tokens, doc, vocab_size, _fit_discounts(looked, floor=1.0 / vocab_size))
    return model, fit_jelinek_mercer(model, partial, looked), fit_add_k(model, partial, looked)


def held_back(doc: np.ndarray, *, share: float) -> np.ndarray:
    """Choose sequences to hold back: every 1/share-th document's, or every 1/share-th when documents are few.

    doc [sequence]: document of each sequence's first token. Returns a mask with at least one sequence on either side.
    """
    documents, unit = np.unique(doc, return_inverse=True)
    if len(documents) * share < 1:
        unit = np.arange(len(doc))
    last = np.floor((unit + 1) * share) > np.floor(unit * share)
    if last.any() and not last.all():
        return last
    return np.arange(len(doc)) == len(doc) - 1


def _counted(tokens: np.ndarray, doc: np.ndarray, vocab_size: int, discounts: dict[str, np.ndarray]) -> NgramModel:
    one, two, three = (count_ngrams(tokens, doc, order=n, vocab_size=vocab_size) for n in (1, 2, 3))
    return NgramModel(vocab_size, one, two, three, discounts)


def _fit_discounts(looked: Mapping[int, Mapping[str, Looked]], *, floor: float) -> dict[str, np.ndarray]:
    fitted: dict[str, np.ndarray] = {}
    for chain in (
        ("unigram",),
        ("continuation_unigram", "bigram"),
        ("continuation_unigram", "continuation_bigram", "trigram"),
    ):
        free = [kind for kind in chain if kind not in fitted]
        levels = [looked[len(chain)][kind] for kind in chain]
        fitted |= _most_likely(chain, free, levels, fitted, floor=floor)
    return fitted


def _look_up(model: NgramModel, tokens: np.ndarray, doc: np.ndarray, order: int) -> dict[str, Looked]:
    row, position = np.nonzero(within_document(tokens.shape, doc, order=order))
    if len(row) > FIT_TOKENS:
        kept = np.linspace(0, len(row) - 1, FIT_TOKENS).astype(np.int64)
        row, position = row[kept], position[kept]
    token, context = tokens[row, position], np.zeros(len(row), dtype=np.int64)
    found = {}
    for reach in range(order):
        if reach:
            context = context + tokens[row, position - reach] * model.vocab_size ** (reach - 1)
        for kind in KINDS:
            if ORDER_OF[kind] == reach + 1:
                found[kind] = model.order(kind).lookup(context, token)
    return found


def _most_likely(
    chain: Sequence[str],
    free: Sequence[str],
    levels: Sequence[Looked],
    fixed: Mapping[str, np.ndarray],
    *,
    floor: float,
) -> dict[str, np.ndarray]:
    """Maximise the held-back likelihood over the discounts of the `free` orders of a chain, lowest order first."""
    if not len(levels[0][0]):
        return dict.fromkeys(free, START)

    def split(point: np.ndarray) -> dict[str, np.ndarray]:
        return {kind: point[3 * i : 3 * i + 3] for i, kind in enumerate(free)}

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        now = {**fixed, **split(point)}
        value, gradient = chain_cross_entropy(levels, [now[kind] for kind in chain], floor=floor)
        return value, np.concatenate([gradient[chain.index(kind)] for kind in free])

    bounds = [(MARGIN, j + 1 - MARGIN) for _ in free for j in range(3)]
    sharp = {"gtol": 1e-9, "ftol": 1e-14}  # a discount of a frequent order moves the loss by little
    found = minimize(loss, np.tile(START, len(free)), jac=True, method="L-BFGS-B", bounds=bounds, options=sharp)
    return split(found.x)


def chain_cross_entropy(
    levels: Sequence[Looked], discounts: Sequence[np.ndarray], *, floor: float
) -> tuple[float, list[np.ndarray]]:
    """Return −mean log p of tokens under a chain of orders, and its gradient in each order's discounts.

    levels: `DiscountedCounts.lookup` of the same tokens, lowest order first; floor: probability below the lowest.
    """
    probability = np.full(len(levels[0][0]), floor)
    slopes: list[np.ndarray] = []  # ∂p/∂D of each order so far, [n, 3]
    for (count, total, banded), discount in zip(levels, discounts, strict=True):
        own, left = split_mass(count, total, banded, discount)
        safe = np.where(total > 0, total, np.inf)[:, None]
        band = np.clip(count, 1, 3)[:, None] == np.array([1.0, 2.0, 3.0])
        slope = (banded * probability[:, None] - (band & (count > 0)[:, None])) / safe
        slopes = [left[:, None] * lower for lower in slopes] + [slope]
        probability = own + left * probability
    value = float(-np.log(probability).mean())
    return value, [-(slope / probability[:, None]).mean(axis=0) for slope in slopes]


def ngram_entropies(
    model: NgramModel,
    tokens: np.ndarray,
    doc: np.ndarray,
    *,
    others: Mapping[str, Smoothing],
    draws: int,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Measure each order's cross-entropy on held-out rows [sequence, position], with an interval over documents.

    All orders and smoothings (`model` is Kneser–Ney, `others` by name) are scored on the same tokens, those with a
    token of their own document before them in the row; the trigram falls back where there is just one. Returns the
    rows of the table `ngram_entropy`.
    """
    scored = within_document(tokens.shape, doc, order=2)
    if not scored.any():
        raise ValueError("no held-out tokens to score the n-gram models on; raise corpus.held_out or add text")
    _, unit = np.unique(doc[scored], return_inverse=True)
    n_tokens = np.bincount(unit)  # [document]
    picked = generator.integers(0, len(n_tokens), (draws, len(n_tokens)))  # [draw, document]
    rows = []
    smoothings: dict[str, Smoothing] = {MAIN: model, **others}
    for order in (1, 2, 3):
        counts = (model.unigram_counts, model.bigram_counts, model.trigram_counts)[order - 1]
        shared = {
            "order": order,
            "train_entropy": in_sample_entropy(counts, model.vocab_size),
            "n_tokens": int(scored.sum()),
            "n_distinct": len(counts.key),
        }
        looked = _look_up(model, tokens.astype(np.int64), doc, order)[_TOP[order]]
        for name, smoothing in smoothings.items():
            surprise = -smoothing.log_prob(tokens, order, doc=doc)[scored]
            total = np.bincount(unit, weights=surprise)
            means = total[picked].sum(axis=1) / n_tokens[picked].sum(axis=1)
            low, high = np.percentile(means, [2.5, 97.5])
            found = {"cross_entropy": surprise.mean(), "ci_lo": low, "ci_hi": high}
            rows.append(
                {**shared, **found, "smoothing": name, "interpolation": own_weight(smoothing, looked, order=order)}
            )
    return pd.DataFrame(rows)


def in_sample_entropy(counts: Counts, vocab_size: int) -> float:
    """Return the conditional entropy of the raw counts, −Σ c(h, w)/N · log(c(h, w)/c(h)), in nats."""
    _, context = np.unique(counts.key // vocab_size, return_inverse=True)
    total = np.bincount(context, weights=counts.count)[context]
    return float(max(0.0, -(counts.count * np.log(counts.count / total)).sum() / counts.count.sum()))


def own_weight(smoothing: Smoothing, looked: Looked, *, order: int) -> float:
    """Return the mean over tokens of the weight of this order's own counts, against the order below or added counts.

    looked: `DiscountedCounts.lookup` of the tokens in the order's counts.
    """
    count, total, banded = looked
    if not len(count):
        return 0.0
    if isinstance(smoothing, JelinekMercer):
        return float(smoothing.weights[order - 1] * (total > 0).mean())
    if isinstance(smoothing, AddK):
        return float((total / (total + smoothing.added[order - 1] * smoothing.model.vocab_size)).mean())
    if isinstance(smoothing, NgramModel):
        return float(1.0 - split_mass(count, total, banded, smoothing.discounts[_TOP[order]])[1].mean())
    raise TypeError(f"the weight of {type(smoothing).__name__}'s own counts is not defined")
