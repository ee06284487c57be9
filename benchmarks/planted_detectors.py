"""Synthetic text with planted features that are detectors of a known type: the truth that typing is judged by."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array

from snapcoder.features.complexity import previous_tokens, repeated_bigrams
from snapcoder.storage.activations import RowTable
from snapcoder.storage.tokens import TokenTable

TYPES = ("token", "prev_token", "bigram", "induction", "positional", "contextual", "unclear")
MIXTURES = ("token + contextual", "token or prev_token", "bigram + contextual")
VOCAB, LENGTH = 512, 64
FEWEST = 60  # active rows of a planted detector, before noise
DENSEST = 0.1  # share of all rows


@dataclass(frozen=True)
class Noise:
    """How far a feature is from a clean detector.

    spread: standard deviation of log activation; missed: share of its rows on which it is silent; false: share of its
    activation that lies on other rows, at random.
    """

    name: str
    spread: float
    missed: float
    false: float


NOISES = (
    Noise("none", 0.0, 0.0, 0.0),
    Noise("little", 0.3, 0.05, 0.05),
    Noise("moderate", 0.5, 0.15, 0.15),
    Noise("strong", 0.7, 0.25, 0.25),
)


@dataclass(frozen=True)
class Text:
    """A token table and its rows; prev, repeated [row]: the token before, and whether both stood there earlier."""

    table: TokenTable
    rows: RowTable
    prev: np.ndarray
    repeated: np.ndarray


def make_text(rng: np.random.Generator, *, n_sequences: int) -> Text:
    """Sample Zipf-distributed tokens with favourite successors, documents, and stretches copied within a sequence."""
    unigram = 1 / (np.arange(VOCAB) + 2.7)
    unigram /= unigram.sum()
    followers = rng.choice(VOCAB, (VOCAB, 16), p=unigram)
    favourite = 1 / (np.arange(16) + 1.0)
    favourite /= favourite.sum()
    tokens = np.zeros((n_sequences, LENGTH), dtype=np.int64)
    source = np.full(n_sequences, -1)  # place that a copied stretch is read from
    for place in range(LENGTH):
        follows = followers[tokens[:, place - 1], rng.choice(16, n_sequences, p=favourite)]
        new = np.where(rng.random(n_sequences) < 0.5, follows, rng.choice(VOCAB, n_sequences, p=unigram))
        starts = (source < 0) & (rng.random(n_sequences) < 0.04) & (place > 12)
        source = np.where(starts, rng.integers(0, max(place - 8, 1), n_sequences), source)
        copied = tokens[np.arange(n_sequences), np.maximum(source, 0)]
        tokens[:, place] = np.where(source >= 0, copied, new)
        ends = (rng.random(n_sequences) < 0.15) | (source >= place - 1)
        source = np.where((source >= 0) & ~ends, source + 1, -1)
    begins = rng.random(tokens.size) < 1 / 120
    doc = np.cumsum(begins).reshape(tokens.shape).astype(np.int32)
    split = np.zeros(n_sequences, dtype=np.uint8)
    table = TokenTable(tokens.astype(np.uint16), doc, split, VOCAB, VOCAB - 1, "0" * 64)
    sequence, position = (grid.ravel().astype(np.int32) for grid in np.mgrid[0:n_sequences, 1:LENGTH])
    token = tokens[sequence, position].astype(np.int32)
    rows = RowTable(sequence, position, token, doc[sequence, position], np.zeros(len(token), np.uint8))
    return Text(table, rows, previous_tokens(rows, table), repeated_bigrams(rows, table))


def plant(text: Text, kind: str, noise: Noise, rng: np.random.Generator) -> np.ndarray:
    """Return one feature's code [row]: a random detector of a type (or mixture), with noise."""
    for _ in range(200):
        on = _DETECTORS[kind](text, rng)
        if kind == "unclear" or (FEWEST <= on.sum() <= DENSEST * len(on) and _needs_both(text, kind, on)):
            break
    else:
        raise ValueError(f"no {kind} detector of at least {FEWEST} rows in this text; take more sequences")
    on &= rng.random(len(on)) >= noise.missed
    z = on * np.exp(rng.normal(0, noise.spread, len(on))) if noise.spread else on.astype(float)
    n_false = round(noise.false / (1 - noise.false) * on.sum()) if kind != "unclear" else 0
    false = rng.choice(np.flatnonzero(~on), n_false, replace=False)
    z[false] = np.exp(rng.normal(0, noise.spread, n_false))
    return z


def planted_features(text: Text, kinds: list[str], noise: Noise, rng: np.random.Generator) -> csc_array:
    """Return the codes of one detector per entry of `kinds`, [row, feature]."""
    return csc_array(np.stack([plant(text, kind, noise, rng) for kind in kinds], axis=1).astype(np.float32))


def _needs_both(text: Text, kind: str, on: np.ndarray) -> bool:
    """Return whether neither token of a pair tells half of it: where one does, the pair is that token's detector."""
    if not kind.startswith("bigram"):
        return True
    for key in (text.rows.token, text.prev):
        share = np.bincount(key, weights=on) / np.maximum(np.bincount(key), 1)
        if share[key].var() > 0.4 * on.var():
            return False
    return True


def _token(text: Text, rng: np.random.Generator) -> np.ndarray:
    few = rng.permutation(np.unique(text.rows.token))[: rng.integers(1, 7)]
    return np.isin(text.rows.token, few)


def _prev_token(text: Text, rng: np.random.Generator) -> np.ndarray:
    few = rng.permutation(np.unique(text.rows.token))[: rng.integers(1, 7)]
    return np.isin(text.prev, few)


def _bigram(text: Text, rng: np.random.Generator) -> np.ndarray:
    """One to three exact pairs, or any of some tokens after any of some others."""
    if rng.random() < 0.5:
        first, second = (np.isin(values, rng.choice(VOCAB, 60)) for values in (text.prev, text.rows.token))
        return first & second
    pair = text.prev * VOCAB + text.rows.token
    kinds, n = np.unique(pair, return_counts=True)
    return np.isin(pair, rng.choice(kinds[n >= FEWEST], rng.integers(1, 4)))


def _induction(text: Text, rng: np.random.Generator) -> np.ndarray:
    """Repeated bigrams, of all tokens or of a random part of them."""
    part = rng.permutation(VOCAB)[: int(VOCAB * rng.choice([0.1, 0.3, 1.0]))]
    return text.repeated & np.isin(text.rows.token, part)


def _positional(text: Text, rng: np.random.Generator) -> np.ndarray:
    first = rng.integers(1, LENGTH)
    return (text.rows.position >= first) & (text.rows.position < first + rng.integers(1, 6))


def _contextual(text: Text, rng: np.random.Generator) -> np.ndarray:
    """A token of some kind a fixed five or more places back, or anywhere five to thirty back under some tokens."""
    rows, tokens = text.rows, text.table.tokens
    wanted = np.isin(np.arange(VOCAB), rng.permutation(VOCAB)[: rng.integers(2, 8)])
    if rng.random() < 0.5:
        back = rows.position - rng.integers(5, 13)
        return (back >= 0) & wanted[tokens[rows.sequence, np.maximum(back, 0)]]
    seen = np.zeros(len(rows), dtype=bool)
    for lag in range(5, 31):
        back = rows.position - lag
        seen |= (back >= 0) & wanted[tokens[rows.sequence, np.maximum(back, 0)]]
    return seen & np.isin(rows.token, rng.permutation(VOCAB)[: rng.integers(20, 200)])


def _unclear(text: Text, rng: np.random.Generator) -> np.ndarray:
    """A detector of any type that fires on a handful of rows."""
    on = np.zeros(len(text.rows), dtype=bool)
    on[rng.choice(len(on), rng.integers(2, 20), replace=False)] = True
    return on


def _either(*kinds: str) -> Callable[[Text, np.random.Generator], np.ndarray]:
    return lambda text, rng: np.logical_or.reduce([_DETECTORS[kind](text, rng) for kind in kinds])


_DETECTORS: dict[str, Callable[[Text, np.random.Generator], np.ndarray]] = {
    "token": _token,
    "prev_token": _prev_token,
    "bigram": _bigram,
    "induction": _induction,
    "positional": _positional,
    "contextual": _contextual,
    "unclear": _unclear,
    "token + contextual": _either("token", "contextual"),
    "token or prev_token": _either("token", "prev_token"),
    "bigram + contextual": _either("bigram", "contextual"),
}
