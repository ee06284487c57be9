"""How a snapshot's next-token predictions relate to n-gram statistics, with draws that all snapshots share.

Row t of the log-probabilities predicts token t + 1. A prediction is scored when both tokens lie in the same document;
the first token of a document has no context, so it is never a target. All logarithms are natural.

Notation: q_x the prediction after context x, u its last token, p_1, p_2, p_3 the smoothed n-gram models.

    loss              −E log q_x(target)                 gap_hN   loss of the N-gram model on the same targets − loss
    entropy           E H(q_x)                           top1     share of x with argmax q_x = target
    agreement         share of x with argmax q_x = argmax p_2(·|u)
    kl_uni_context    E KL(p_1 ‖ q_x)                    kl_bi_context, kl_tri_context   the same with p_2, p_3
    js_uni_context    E JS(p_1, q_x)                     js_bi_context, js_tri_context   the same with p_2, p_3
    tv_ruleset        E min_n TV(p_n, q_x)               ruleset_agreement   share with the argmax of the nearest p_n
    ruleset_trigram   share of x with p_3 nearer than p_1 and p_2
    r2_ngram_regression   R² of log q_x(target) on log p_1, log p_2, log p_3 of the target (`ngram_regression`)
    kl_uni_marginal … zipf_slope   of predictions averaged over contexts (`average_predictions`)

Draws resample documents; draw b weighs the same documents at every snapshot.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from snapcoder.phases.average_predictions import AveragePredictions
from snapcoder.phases.ngram_distances import NAMES, NgramPredictions, Ngrams, distances
from snapcoder.phases.ngram_regression import ngram_regression
from snapcoder.phases.resampling import document_weights, metric_frames, sums_by

CHUNK_VALUES = 1 << 19  # probabilities looked at at a time: their working copies stay near the processor
LOWEST_LOG_PROB = -80.0  # keeps 0·log 0 at 0 and exp() out of the denormal numbers

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
UNITS = {
    "loss": "nats/token",
    "entropy": "nats/token",
    "gap_h1": "nats/token",
    "gap_h2": "nats/token",
    "gap_h3": "nats/token",
    "top1": "share",
    "agreement": "share",
    "kl_uni_context": "nats",
    "kl_bi_context": "nats",
    "kl_tri_context": "nats",
    "js_uni_context": "nats",
    "js_bi_context": "nats",
    "js_tri_context": "nats",
    "tv_ruleset": "–",
    "ruleset_trigram": "share",
    "ruleset_agreement": "share",
    "r2_ngram_regression": "share",
    "kl_uni_marginal": "nats",
    "kl_bi_marginal": "nats",
    "mi_ctx": "nats",
    "mi_beyond_bigram": "nats",
    "zipf_slope": "–",
    "zipf_slope_unigram": "–",
}
_PLACE = ("doc", "sequence", "position")  # where a prediction is; everything else that is kept per row is a value


@dataclass
class Scores:
    """Values per scored prediction, in order; and the sums of predictions that averages over contexts need."""

    average: AveragePredictions
    _rows: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def keep(self, **values: np.ndarray) -> None:
        """Append values of some predictions [n]."""
        for name, value in values.items():
            self._rows.setdefault(name, []).append(np.asarray(value))

    def row(self, name: str) -> np.ndarray:
        """Return one value of every scored prediction; doc, sequence (as they came) and position say where it was."""
        return np.concatenate(self._rows[name])

    @property
    def values(self) -> list[str]:
        """Names of the values, without places."""
        return [name for name in self._rows if name not in _PLACE]


def score_predictions(
    batches: Iterable[Batch], *, ngrams: Ngrams, bootstrap: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the metrics of one snapshot (columns metric, value, ci_lo, ci_hi, n, unit) and their draws (metric, draw, value).

    batches: as for `collect_scores`. Pass the same sequences at every snapshot, so that draws resample the same
    documents.
    """
    return summarise_scores(collect_scores(batches, ngrams=ngrams), bootstrap=bootstrap, seed=seed)


def collect_scores(batches: Iterable[Batch], *, ngrams: Ngrams) -> Scores:
    """Score every prediction on its own.

    batches yields log_probs float32 [sequence, position, vocab] (row t predicts token t + 1), tokens and doc
    [sequence, position]. Raises ValueError when a log-probability is NaN or nothing can be scored.
    """
    reference = NgramPredictions(ngrams)
    vocab = len(reference.unigram)
    scores, first_sequence = Scores(AveragePredictions(reference)), 0
    for log_probs, tokens, doc in batches:
        if log_probs.shape[-1] != vocab:
            raise ValueError(f"predictions over {log_probs.shape[-1]} tokens, but the n-gram models know {vocab}")
        losses = {n: -ngrams.log_prob(tokens, n, doc=doc)[:, 1:] for n in (1, 2, 3)}
        previous = np.full(tokens.shape, -1, dtype=np.int64)  # −1 where the token before lies in another document
        previous[:, 1:] = np.where(doc[:, :-1] == doc[:, 1:], tokens[:, :-1], -1)
        sequence, position = scored_places(doc)
        size = max(CHUNK_VALUES // vocab, 1)
        for first in range(0, len(sequence), size):
            at = sequence[first : first + size], position[first : first + size]
            target = tokens[at[0], at[1] + 1]
            scores.keep(doc=doc[at], sequence=first_sequence + at[0], position=at[1])
            loss = _score_chunk(scores, log_probs[at], previous[at], tokens[at], target, doc[at], reference)
            scores.keep(**{f"gap_h{n}": loss_n[at] - loss for n, loss_n in losses.items()})
        first_sequence += len(tokens)
    if not scores.values:
        raise ValueError("no prediction to score: no two tokens in a row lie in the same document")
    return scores


def scored_places(doc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sequence and position of the context tokens of all scored predictions; padding has doc −1."""
    sequence, position = np.nonzero((doc[:, :-1] == doc[:, 1:]) & (doc[:, :-1] >= 0))
    return sequence, position


def _score_chunk(
    scores: Scores,
    log_q: np.ndarray,
    previous: np.ndarray,
    token: np.ndarray,
    target: np.ndarray,
    doc: np.ndarray,
    reference: NgramPredictions,
) -> np.ndarray:
    """Score predictions log_q [row, vocab] made after `previous`, `token`; return their losses [row]."""
    if np.isnan(log_q).any():
        raise ValueError("a log-probability is not a number; check the weights of this snapshot")
    log_q = np.maximum(log_q, np.float32(LOWEST_LOG_PROB))
    q = np.exp(log_q)
    loss = -log_q[np.arange(len(log_q)), target].astype(np.float64)
    entropy_q = -np.einsum("rv,rv->r", q, log_q).astype(np.float64)
    guess = log_q.argmax(axis=1)
    bigram, entropy_bigram = reference.bigram(token)
    trigram, entropy_trigram = reference.trigram(previous, token)
    given: dict[int, tuple[np.ndarray, np.ndarray | float]] = {
        1: (reference.unigram, reference.unigram_entropy),
        2: (bigram, entropy_bigram),
        3: (trigram, entropy_trigram),
    }
    guesses, variations = [], []
    for order, (p, entropy_p) in given.items():
        kl, js, variation = distances(q, log_q, p, entropy_q=entropy_q, entropy_p=entropy_p)
        scores.keep(**{f"kl_{NAMES[order]}_context": kl, f"js_{NAMES[order]}_context": js})
        guesses.append(np.broadcast_to(p.argmax(axis=-1), guess.shape))
        variations.append(variation)
    nearest = np.argmin(variations, axis=0)  # equal distances: the shorter context
    scores.keep(
        loss=loss,
        entropy=entropy_q,
        top1=(guess == target).astype(np.float64),
        agreement=(guess == guesses[1]).astype(np.float64),
        tv_ruleset=np.min(variations, axis=0),
        ruleset_trigram=(nearest == 2).astype(np.float64),
        ruleset_agreement=(guess == np.stack(guesses)[nearest, np.arange(len(guess))]).astype(np.float64),
    )
    scores.average.add(q, token=token, doc=doc, entropy=entropy_q)
    return loss


def summarise_scores(scores: Scores, *, bootstrap: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the metrics of one snapshot and their draws, as `score_predictions` does."""
    doc, size = np.unique(scores.row("doc"), return_counts=True)
    weights = document_weights(len(doc), draws=bootstrap, seed=seed)  # [1 + draw, doc]; the first row is the estimate
    place = np.searchsorted(doc, scores.row("doc"))
    sums = np.stack([sums_by(place, scores.row(name), len(doc)) for name in scores.values], axis=1)  # [doc, metric]
    means = (weights @ sums) / (weights @ size)[:, None]
    values = dict(zip(scores.values, means.T, strict=True))
    loss = scores.row("loss")
    values["r2_ngram_regression"] = ngram_regression(
        -loss, np.stack([-loss - scores.row(f"gap_h{n}") for n in (1, 2, 3)], axis=1), place, weights
    )
    averaged, n_conditional = scores.average.metrics(doc, weights)
    values |= averaged
    n_rows = {name: int(size.sum()) for name in UNITS} | n_conditional
    return metric_frames(values, units=UNITS, n_rows=n_rows, known=len(doc) > 1)
