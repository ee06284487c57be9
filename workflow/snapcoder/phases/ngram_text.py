"""Text sampled from the n-gram models, and how a model fares on it (Belrose et al. 2402.04362).

A model that has learnt the statistics of order n and nothing else predicts text of order n as well as the n-gram model
that made it: `excess_on_…_text`, its loss minus the loss of that model on the same tokens, is 0 then, and on average
never below. A model that has moved on expects more than such text holds, and its excess rises again.

Documents of sampled text end as real ones do, with the end-of-text token; what follows starts a new document with a
token of the unigram model, and is not scored.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.phases.ngram_distances import Ngrams
from snapcoder.phases.predictions import LOWEST_LOG_PROB, scored_places
from snapcoder.phases.resampling import document_weights, metric_frames, sums_by
from snapcoder.storage.ngram_text import NgramText

CHUNK_VALUES = 1 << 22  # probabilities looked at at a time
ORDERS = {1: "unigram", 2: "bigram", 3: "trigram"}
UNITS = {f"{kind}_on_{name}_text": "nats/token" for name in ORDERS.values() for kind in ("loss", "excess")}


def sample_ngram_text(ngrams: Ngrams, *, sequences: int, length: int, end_of_text: int, seed: int) -> NgramText:
    """Sample `sequences` sequences of `length` tokens from each order's model.

    The samples of one order do not depend on those of the others, and the first sequences not on how many there are.
    """
    tokens = np.zeros((len(ORDERS), sequences, length), dtype=np.int64)
    doc = np.zeros((len(ORDERS), sequences, length), dtype=np.int64)
    log_prob = np.zeros((len(ORDERS), sequences, length))
    for index, order in enumerate(ORDERS):
        uniform = np.random.default_rng((seed, order)).random((sequences, length))
        step = max(CHUNK_VALUES // len(ngrams.unigram), 1)
        for first in range(0, sequences, step):
            rows = slice(first, first + step)
            tokens[index, rows] = _sample(ngrams, uniform[rows], order, end_of_text)
        ended = np.cumsum(tokens[index] == end_of_text, axis=1)
        doc[index, :, 1:] = ended[:, :-1]
        doc[index] += length * np.arange(sequences)[:, None]
        log_prob[index] = ngrams.log_prob(tokens[index], order, doc=doc[index])
    return NgramText(tokens, doc, log_prob)


def _sample(ngrams: Ngrams, uniform: np.ndarray, order: int, end_of_text: int) -> np.ndarray:
    """Sample sequences by inverting cumulative probabilities at `uniform` [sequence, position]."""
    tokens = np.zeros(uniform.shape, dtype=np.int64)
    known = np.zeros(len(uniform), dtype=np.int64)  # tokens of the current document so far
    for position in range(uniform.shape[1]):
        p = np.repeat(np.asarray(ngrams.unigram, dtype=np.float64)[None], len(uniform), axis=0)
        after_one, after_two = known == 1, known >= 2
        if order == 2:
            after_one, after_two = known >= 1, np.zeros_like(known, dtype=bool)
        if order > 1 and after_one.any():
            p[after_one] = ngrams.bigram_probabilities(tokens[after_one, position - 1])
        if order > 2 and after_two.any():
            earlier, last = tokens[after_two, position - 2], tokens[after_two, position - 1]
            p[after_two] = ngrams.trigram_probabilities(earlier, last)
        cumulative = np.cumsum(p, axis=1)
        chosen = (cumulative <= uniform[:, position, None] * cumulative[:, -1:]).sum(axis=1)
        tokens[:, position] = np.minimum(chosen, p.shape[1] - 1)
        known = np.where(tokens[:, position] == end_of_text, 0, known + 1)
    return tokens


@dataclass
class TextLosses:
    """Σ of model loss and of the generating model's loss over the scored tokens of each sequence, [order, sequence]."""

    model: np.ndarray
    own: np.ndarray
    n: np.ndarray


def text_losses(batches: Iterable[np.ndarray], text: NgramText) -> TextLosses:
    """Score the model on sampled text.

    batches: log_probs [sequence, position, vocab] of all sequences of the first order, then of the second, and so on,
    in any cuts. Raises ValueError when a log-probability is NaN.
    """
    n_orders, n_sequences, length = text.tokens.shape
    tokens, doc = text.tokens.reshape(-1, length), text.doc.reshape(-1, length)
    loss, own, n = (np.zeros(len(tokens)) for _ in range(3))
    first = 0
    for log_probs in batches:
        rows = slice(first, first + len(log_probs))
        sequence, position = scored_places(doc[rows])
        log_q = log_probs[sequence, position, tokens[rows][sequence, position + 1]].astype(np.float64)
        if np.isnan(log_q).any():
            raise ValueError("a log-probability is not a number; check the weights of this snapshot")
        loss[rows] = sums_by(sequence, -np.maximum(log_q, LOWEST_LOG_PROB), len(log_probs))
        generated = text.log_prob.reshape(-1, length)[rows][sequence, position + 1]
        own[rows] = sums_by(sequence, -generated, len(log_probs))
        n[rows] = sums_by(sequence, np.ones(len(sequence)), len(log_probs))
        first += len(log_probs)
    return TextLosses(*(part.reshape(n_orders, n_sequences) for part in (loss, own, n)))


def text_metrics(losses: TextLosses, *, bootstrap: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the loss on each order's text and its excess over the generating model, with draws over sequences.

    Columns as those of `score_predictions`; draw b takes the same sequences at every snapshot. An order without a
    scored token is left out.
    """
    n_sequences = losses.n.shape[1]
    weights = document_weights(n_sequences, draws=bootstrap, seed=seed)
    values: dict[str, np.ndarray] = {}
    n_rows: dict[str, int] = {}
    for index, name in enumerate(ORDERS.values()):
        if not losses.n[index].any():
            continue
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold no scored token
            loss, own = (weights @ part[index] / (weights @ losses.n[index]) for part in (losses.model, losses.own))
        values |= {f"loss_on_{name}_text": loss, f"excess_on_{name}_text": loss - own}
        n_rows |= dict.fromkeys((f"loss_on_{name}_text", f"excess_on_{name}_text"), int(losses.n[index].sum()))
    units = {name: UNITS[name] for name in values}
    return metric_frames(values, units=units, n_rows=n_rows, known=n_sequences > 1)
