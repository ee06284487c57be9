"""Closing: after an open quotation mark or bracket its end comes, after a closed one something else does.

Mined from held-out text. A pair is two contexts of the same length that end in the same token. In one a mark is open
(the last one it holds opens), and the closing mark follows. In the other it is closed again; or, where no such context
has that ending, there is none, though the document has one nearby. So the kind of text does not give the answer away,
and asked from both sides, a bigram model is right exactly half of the time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snapcoder.storage.task_examples import Example
from snapcoder.storage.tokens import HELDOUT, TokenTable
from snapcoder.tasks.agreement import MinedTask
from snapcoder.tasks.questions import both_sides

MARKS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "quote_closing": (('"', '"'), ("“", "”"), ("«", "»"), ("„", "“")),
    "bracket_closing": (("[", "]"), ("(", ")"), ("{", "}")),
}
"""Opening and closing marks of each task. Single quotes are not among them: they are apostrophes too."""

_PUNCTUATION = ("", ".", ",", "!", "?", ";", ":")


@dataclass(frozen=True)
class ClosingMark:
    """One kind of mark, and what each token of the vocabulary does to it."""

    opening: str
    closing: str
    answers: tuple[int, ...]  # tokens that close it: the mark alone or after one punctuation mark

    @property
    def name(self) -> str:
        """How the mark is called in examples."""
        return f"{self.opening} {self.closing}"


def closing_marks(task: str, texts: Sequence[str]) -> list[ClosingMark]:
    """Return the marks of one task that the vocabulary can close in one token; texts: what each token id stands for."""
    marks = []
    for opening, closing in MARKS[task]:
        written = {sign + closing for sign in _PUNCTUATION}
        answers = tuple(token for token, text in enumerate(texts) if text in written)
        if answers:
            marks.append(ClosingMark(opening, closing, answers))
    return marks


def mine_closing(
    table: TokenTable,
    task: str,
    marks: Sequence[ClosingMark],
    texts: Sequence[str],
    *,
    length: int,
    max_examples: int,
    rng: np.random.Generator,
) -> MinedTask:
    """Pair held-out contexts of `length` tokens where a mark is open and where none is; texts are left empty.

    A sequence of the token table gives one context of each sort at most, and is used once.
    """
    rows = table.sequences(HELDOUT)
    tokens, doc = table.tokens[rows].astype(np.int64), table.doc[rows]
    closings, waiting = [], []
    for kind, mark in enumerate(marks):
        places, pools = _places(tokens, doc, mark, texts, length, table.end_of_text)
        closings += [(kind, row, position) for row, position in places.tolist()]
        waiting.append(pools)
    examples: list[Example] = []
    n_rejected = 0
    used: set[int] = set()
    for at in rng.permutation(len(closings)).tolist():
        if len(examples) + 2 > max_examples:
            break
        kind, row, position = closings[at]
        ending = int(tokens[row, position - 1])
        partner = None
        for against, pool in waiting[kind].items() if row not in used else ():
            partner = partner or _partner(pool.get(ending), against, row, used, rng)
        if partner is None:
            n_rejected += 1
            continue
        against, *other = partner
        used |= {row, other[0]}
        sides = [(row, position), other]
        contexts = [tokens[r, p - length : p] for r, p in sides]
        answers = [int(tokens[r, p]) for r, p in sides]
        case, cluster = f"{marks[kind].name} against {against}", f"sequences {row}, {other[0]}"
        examples += both_sides(task, "closing", case, contexts, answers, cluster)
    return MinedTask(examples, n_rejected)


def _places(
    tokens: np.ndarray, doc: np.ndarray, mark: ClosingMark, texts: Sequence[str], length: int, end_of_text: int
) -> tuple[np.ndarray, dict[str, dict[int, np.ndarray]]]:
    """Return the (sequence, position) of closing marks, [place, 2], and by pool and last token those of other tokens."""
    valid = _within_documents(tokens, doc, end_of_text, length)
    state, uses = _state(tokens, doc, mark, texts, length)
    follows = np.isin(tokens, mark.answers)
    places = np.argwhere(valid & (state == 1) & follows)
    endings = np.unique(tokens[places[:, 0], places[:, 1] - 1])
    others = valid & ~follows & (tokens != end_of_text)
    pools = {"closed": state == -1, "none": (state == 0) & uses}
    return places, {name: _by_ending(tokens, others & pool, endings) for name, pool in pools.items()}


def _within_documents(tokens: np.ndarray, doc: np.ndarray, end_of_text: int, length: int) -> np.ndarray:
    """Return where `length` tokens of the same document come before a token, [sequence, position] bool."""
    valid = np.zeros(tokens.shape, dtype=bool)
    valid[:, length:] = doc[:, length:] == doc[:, :-length]
    ends = np.cumsum(np.pad(tokens == end_of_text, ((0, 0), (1, 0))), axis=1)
    valid[:, length:] &= (ends[:, length + 1 :] - ends[:, : -length - 1]) == 0
    return valid


def _state(
    tokens: np.ndarray, doc: np.ndarray, mark: ClosingMark, texts: Sequence[str], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return how the last mark among the `length` tokens before each position leaves it, and where it is used nearby.

    Both [sequence, position]: int8, 1 open, −1 closed, 0 no mark; bool, the document has it in the same sequence.
    """
    left = np.zeros(tokens.shape, dtype=np.int8)  # by each token alone
    signs = {mark.opening, mark.closing}
    holding = np.isin(tokens, [token for token, text in enumerate(texts) if signs & set(text)])
    for row, position in np.argwhere(holding).tolist():
        before = texts[tokens[row, position - 1]] if position and doc[row, position] == doc[row, position - 1] else ""
        left[row, position] = _left(texts[tokens[row, position]], before, mark)
    at = np.arange(tokens.shape[1])
    last = np.maximum.accumulate(np.where(left != 0, at, -1), axis=1)
    recent = (last >= 0) & (last >= at - length + 1)
    state = np.zeros(tokens.shape, dtype=np.int8)
    state[:, 1:] = np.where(recent, np.take_along_axis(left, np.maximum(last, 0), axis=1), 0)[:, :-1]
    row_doc = doc.astype(np.int64) * len(doc) + np.arange(len(doc))[:, None]
    return state, np.isin(row_doc, np.unique(row_doc[holding]))


def _left(text: str, before: str, mark: ClosingMark) -> int:
    """Return how a token leaves the mark; a mark that opens and closes alike opens behind a space or at the start."""
    state = 0
    for index, sign in enumerate(text):
        previous = text[index - 1] if index else before[-1:]
        if mark.opening == mark.closing and sign == mark.opening:
            state = 1 if not previous or previous.isspace() or previous in "([{—-" else -1
        elif sign == mark.opening:
            state = 1
        elif sign == mark.closing:
            state = -1
    return state


def _by_ending(tokens: np.ndarray, others: np.ndarray, endings: np.ndarray) -> dict[int, np.ndarray]:
    """Return, for each of the last tokens, the (sequence, position) of what comes next, [place, 2]."""
    places = np.argwhere(others[:, 1:] & np.isin(tokens[:, :-1], endings)) + [0, 1]
    before = tokens[places[:, 0], places[:, 1] - 1]
    return {ending: of for ending in endings.tolist() if len(of := places[before == ending])}


def _partner(
    places: np.ndarray | None, against: str, row: int, used: set[int], rng: np.random.Generator
) -> tuple[str, int, int] | None:
    """Return a place, behind its pool's name: in the same sequence, or else by chance in one that is not used."""
    if places is None:
        return None
    here = places[places[:, 0] == row]
    for _ in range(20):  # no more tries than that
        among = here if len(here) else places
        at, position = among[int(rng.integers(len(among)))].tolist()
        if at not in used:
            return against, at, position
    return None
