"""Cloze tasks mined from held-out text: next tokens that the last snapshot knows, beyond a trigram model and within it.

The language model is asked on the very prefixes that the task will show. *Beyond*: it puts the right token first and the
trigram model another one; the patch prefix ends in the same two tokens, so that the trigram model says the same, and
begins like another context. *Within*, the control: both put the right token first; the patch prefix is another context as a
whole. Both ask for the right token against the trigram's best other guess, which the language model prefers after the
patch prefix.

The last snapshot chooses the examples, so its accuracy is 1 by selection, and that of snapshots which err alike is
raised, too. This befalls both tasks, which are matched by how frequent their answers are: what can be read is which of the
two comes first, and from when on, not how good the model is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from snapcoder.ngrams import NgramModel
from snapcoder.storage.task_examples import Example
from snapcoder.storage.tokens import HELDOUT, TokenTable

BEYOND, WITHIN = "cloze_beyond_trigram", "cloze_within_trigram"

ENDING = 2
"""Tokens that both prefixes end in beyond the trigram: all that a trigram model sees."""

DONORS = 4
"""Other contexts that are tried for the patch prefix before a context is given up."""

_CHUNK_VALUES = 1 << 22  # of the trigram's distributions and of the model's logits held at once

Predict = Callable[[np.ndarray], np.ndarray]
"""Prefixes [context, position] to logits of the token after them [context, vocab]."""


@dataclass(frozen=True)
class Contexts:
    """Held-out contexts of one length, each within a document.

    tokens [context, position]; answer [context]: the token that follows; doc [context].
    """

    tokens: np.ndarray
    answer: np.ndarray
    doc: np.ndarray


@dataclass(frozen=True)
class MinedCloze:
    """Examples of both tasks, texts left empty, and the numbers of contexts behind them."""

    beyond: list[Example]
    within: list[Example]
    n_contexts: int
    n_beyond: int  # model right, trigram wrong, before a patch prefix was sought
    n_within: int


def draw_contexts(table: TokenTable, *, length: int, n_contexts: int, rng: np.random.Generator) -> Contexts:
    """Draw up to `n_contexts` places of the held-out text at random that have `length` tokens of their document before."""
    rows = table.sequences(HELDOUT)
    tokens, doc = table.tokens[rows], table.doc[rows]
    last = tokens.shape[1] - length
    inside = (doc[:, :last] == doc[:, length:]) & (doc[:, length:] >= 0)
    ends = np.cumsum(tokens == table.end_of_text, axis=1)
    before = np.concatenate([np.zeros((len(rows), 1), dtype=ends.dtype), ends[:, : last - 1]], axis=1)
    inside &= ends[:, length:] == before  # no end of text in the context, and none as its answer
    places = np.flatnonzero(inside)
    chosen = np.sort(rng.permutation(places)[:n_contexts])
    sequence, start = np.divmod(chosen, max(last, 1))
    return Contexts(
        tokens=tokens[sequence[:, None], start[:, None] + np.arange(length)].astype(np.int64),
        answer=tokens[sequence, start + length].astype(np.int64),
        doc=doc[sequence, start + length].astype(np.int64),
    )


def mine_cloze(
    contexts: Contexts, ngrams: NgramModel, predict: Predict, *, max_examples: int, rng: np.random.Generator
) -> MinedCloze:
    """Choose the examples of both tasks among `contexts`, at most `max_examples` of each.

    As many of the control as beyond the trigram, each with an answer as frequent in the training text as can be had.
    Every example belongs to the cluster of its document.
    """
    other = _best_other(contexts, ngrams)  # [context]: the trigram's best guess that is not the answer
    model_right = np.concatenate(
        [logits.argmax(axis=1) for logits in _logits(predict, contexts.tokens, ngrams.vocab_size)]
    ) == (contexts.answer)
    candidates = rng.permutation(np.flatnonzero(model_right & (other.lead < 0)))
    pool = rng.permutation(np.flatnonzero(model_right & (other.lead > 0)))
    ask = _Patching(contexts, other.token, predict, ngrams.vocab_size, rng)
    beyond = ask.patched(candidates, kept=ENDING)[:max_examples]
    known = ask.patched(pool, kept=0)
    matched = _as_frequent(
        contexts.answer[[row for row, _ in beyond]], contexts.answer[[row for row, _ in known]], ngrams.unigram
    )
    return MinedCloze(
        beyond=[_example(BEYOND, contexts, row, patch, other.token[row]) for row, patch in beyond],
        within=[
            _example(WITHIN, contexts, row, patch, other.token[row]) for row, patch in (known[at] for at in matched)
        ],
        n_contexts=len(contexts.answer),
        n_beyond=len(candidates),
        n_within=len(pool),
    )


@dataclass(frozen=True)
class _Other:
    token: np.ndarray  # [context]
    lead: np.ndarray  # [context]: 1 where the answer is more probable than any other token, −1 less, 0 where they tie


def _best_other(contexts: Contexts, ngrams: NgramModel) -> _Other:
    token, lead = [], []
    for rows in _chunks(len(contexts.answer), ngrams.vocab_size):
        ending, answer = contexts.tokens[rows, -ENDING:], contexts.answer[rows]
        p = ngrams.trigram_probabilities(ending[:, 0], ending[:, 1])  # [context, vocab]
        at = np.arange(len(answer))
        own = p[at, answer].copy()
        p[at, answer] = -1.0
        token.append(p.argmax(axis=1))
        best = p.max(axis=1)
        lead.append(np.where(np.isclose(own, best, rtol=1e-9, atol=0), 0, np.sign(own - best)))
    none = np.zeros(0, dtype=np.int64)
    return _Other(np.concatenate([none, *token]), np.concatenate([none, *lead]))


def _chunks(n_rows: int, vocab_size: int) -> Iterator[slice]:
    size = max(1, _CHUNK_VALUES // vocab_size)
    for start in range(0, n_rows, size):
        yield slice(start, start + size)


def _logits(predict: Predict, prefixes: np.ndarray, vocab_size: int) -> Iterator[np.ndarray]:
    if not len(prefixes):
        yield np.zeros((0, vocab_size))
    for rows in _chunks(len(prefixes), vocab_size):
        yield predict(prefixes[rows])


@dataclass(frozen=True)
class _Patching:
    """Looks for patch prefixes after which the model prefers the other token to the answer."""

    contexts: Contexts
    other: np.ndarray
    predict: Predict
    vocab_size: int
    rng: np.random.Generator

    def patched(self, rows: np.ndarray, *, kept: int) -> list[tuple[int, np.ndarray]]:
        """Return the rows for which a patch prefix was found, in order, each with the first one that serves.

        kept: last tokens of the row's own context that stay.
        """
        found: dict[int, np.ndarray] = {}
        waiting = rows
        for _ in range(DONORS):
            if not len(waiting):
                break
            patches = self._of_other_documents(waiting, kept)
            serves = []
            for logits, part in zip(
                _logits(self.predict, patches, self.vocab_size), _chunks(len(waiting), self.vocab_size), strict=True
            ):
                at, here = np.arange(len(logits)), waiting[part]
                serves.append(logits[at, self.other[here]] > logits[at, self.contexts.answer[here]])
            done = np.concatenate(serves)
            found |= dict(zip(waiting[done].tolist(), patches[done], strict=True))
            waiting = waiting[~done]
        return [(row, found[row]) for row in rows.tolist() if row in found]

    def _of_other_documents(self, rows: np.ndarray, kept: int) -> np.ndarray:
        """Return prefixes [row, position]: a random context of another document, up to the row's own ending."""
        contexts, rng = self.contexts, self.rng
        donors = rng.integers(len(contexts.doc), size=len(rows))
        for at, row in enumerate(rows.tolist()):
            strangers = 0
            while (
                contexts.doc[donors[at]] == contexts.doc[row] and strangers < 64
            ):  # one document only: its own will do
                donors[at], strangers = rng.integers(len(contexts.doc)), strangers + 1
        length = contexts.tokens.shape[1]
        return np.concatenate(
            [contexts.tokens[donors, : length - kept], contexts.tokens[rows, length - kept :]], axis=1
        )


def _as_frequent(wanted: np.ndarray, pool: np.ndarray, unigram: np.ndarray) -> list[int]:
    """Return a place in `pool` for each of the answers `wanted`, the nearest in log frequency that is left, in turn."""
    log_pool, free = np.log(unigram[pool]), np.ones(len(pool), dtype=bool)
    places = []
    for answer in wanted.tolist():
        if not free.any():
            break
        distance = np.where(free, np.abs(log_pool - np.log(unigram[answer])), np.inf)
        places.append(int(distance.argmin()))
        free[places[-1]] = False
    return places


def _example(task: str, contexts: Contexts, row: int, patch: np.ndarray, other: int) -> Example:
    return Example(
        task=task,
        kind="cloze",
        case="",
        clean_prefix="",
        patch_prefix="",
        clean_answer="",
        patch_answer="",
        clean_tokens=tuple(contexts.tokens[row].tolist()),
        patch_tokens=tuple(patch.tolist()),
        clean_token=int(contexts.answer[row]),
        patch_token=int(other),
        cluster=f"document {int(contexts.doc[row])}",
    )
