"""Copying: tokens that repeat at once, and n-grams of natural text that come back.

In both tasks clean and patch prefix differ in one token, the one to copy, and every question is asked from both sides:
without that token, either answer is as good as the other.
"""

import numpy as np

from snapcoder.storage.task_examples import Example
from snapcoder.storage.tokens import HELDOUT, TokenTable
from snapcoder.tasks.agreement import MinedTask
from snapcoder.tasks.questions import both_sides

DOUBLED = (3, 4, 5)
"""Numbers of tokens that are shown twice before the one to repeat."""

NGRAMS = {"bigram": 1, "trigram": 2}
"""Tokens before the one to copy that come back."""


def make_token_copy(usable: np.ndarray, *, n_examples: int, rng: np.random.Generator) -> list[Example]:
    """Make examples A A B B C C D → D; the patch prefix ends in another token D′, which it asks to repeat.

    All tokens are distinct and drawn uniformly from `usable` (token ids). Texts are left empty. Returns no examples
    when there are too few usable tokens.
    """
    largest = max(DOUBLED)
    if len(usable) < largest + 2:
        return []
    examples: list[Example] = []
    for question in range(n_examples // 2):
        drawn = rng.choice(usable, size=largest + 2, replace=False)
        shown = drawn[: int(rng.choice(DOUBLED))].repeat(2)
        prefixes = [np.append(shown, answer) for answer in drawn[-2:]]
        case = f"after {len(shown) // 2} doubled tokens"
        examples += both_sides("copy_token", "copy", case, prefixes, drawn[-2:].tolist(), str(question))
    return examples


def mine_ngram_copy(table: TokenTable, *, length: int, max_examples: int, rng: np.random.Generator) -> MinedTask:
    """Find held-out contexts of `length` tokens whose last n tokens came before, once, and go on as they did then.

    The token to copy occurs nowhere else in the context. The patch context has another token in its place: one that
    follows the context's last token elsewhere in the held-out text and does not occur in the context. A sequence of
    the token table gives one context at most, and `bigram` and `trigram` take turns. Texts are left empty.
    """
    rows = table.sequences(HELDOUT)
    tokens, doc = table.tokens[rows].astype(np.int64), table.doc[rows]
    followers = _followers(tokens, doc, table.end_of_text)
    found: dict[str, list[list[Example]]] = {}
    taken: set[int] = set()
    n_rejected = 0
    for case, size in sorted(NGRAMS.items(), key=lambda item: -item[1]):  # the rarer first
        sequence, start, place = _recurrences(tokens, doc, table.end_of_text, length=length, size=size)
        found[case] = []
        for at in rng.permutation(len(sequence)).tolist():
            row = int(sequence[at])
            if row in taken or len(found[case]) >= max_examples // 2:
                continue
            context = tokens[row, start[at] : start[at] + length]
            answer = int(context[place[at]])
            other = _other(followers, int(context[-1]), context, rng)
            if other is None:
                n_rejected += 1
                continue
            taken.add(row)
            altered = np.where(np.arange(length) == place[at], other, context)
            pair = both_sides("copy_ngram", "copy", case, (context, altered), (answer, other), f"sequence {row}")
            found[case].append(pair)
    ranked = sorted(((rank, case) for case, pairs in found.items() for rank in range(len(pairs))))
    examples = [example for rank, case in ranked[: max_examples // 2] for example in found[case][rank]]
    return MinedTask(examples, n_rejected)


def _recurrences(
    tokens: np.ndarray, doc: np.ndarray, end_of_text: int, *, length: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sequence, start of the context, and place in it of the token to copy, [context], of every valid context."""
    parts = []
    for start in range(tokens.shape[1] - length):
        context, answer = tokens[:, start : start + length], tokens[:, start + length]
        whole = (doc[:, start] == doc[:, start + length]) & (context != end_of_text).all(axis=1)
        whole &= (answer != end_of_text) & ((context == answer[:, None]).sum(axis=1) == 1)
        # earlier[i]: the last `size` tokens come at i − size … i − 1
        earlier = np.ones((len(tokens), length - size), dtype=bool)
        for back in range(1, size + 1):
            earlier &= context[:, size - back : length - back] == context[:, [length - back]]
        at = earlier.argmax(axis=1) + size
        whole &= (earlier.sum(axis=1) == 1) & (context[np.arange(len(tokens)), at] == answer)
        kept = np.flatnonzero(whole)
        parts.append(np.stack([kept, np.full(len(kept), start), at[kept]]))
    sequence, first, place = np.concatenate(parts, axis=1) if parts else np.zeros((3, 0), dtype=np.int64)
    return sequence, first, place


def _followers(tokens: np.ndarray, doc: np.ndarray, end_of_text: int) -> dict[int, np.ndarray]:
    """Return what follows each token in the text, as often as it does."""
    inside = (doc[:, 1:] == doc[:, :-1]) & (tokens[:, 1:] != end_of_text)
    before, after = tokens[:, :-1][inside], tokens[:, 1:][inside]
    order = np.argsort(before, kind="stable")
    values, first = np.unique(before[order], return_index=True)
    return dict(zip(values.tolist(), np.split(after[order], first[1:]), strict=True))


def _other(followers: dict[int, np.ndarray], last: int, context: np.ndarray, rng: np.random.Generator) -> int | None:
    possible = followers.get(last, np.zeros(0, dtype=np.int64))
    possible = possible[~np.isin(possible, context)]
    return int(rng.choice(possible)) if len(possible) else None
