"""Minimal pairs: a right and a wrong sentence that differ in as little as possible.

A pair is scored as it is: which sentence is more probable? It has no second prefix after which the wrong word would be
right, so it cannot be attributed. Two pairs of a file can: if one goes on with A where the other goes on with B, and the
other way round, each one's beginning is the other's patch prefix ("the author" laughs/laugh, "the authors" laugh/laughs).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from snapcoder.storage.task_examples import Example
from snapcoder.tasks.files import Encode
from snapcoder.tasks.questions import both_sides
from snapcoder.tasks.rejections import (
    CONTEXT_TOO_LONG,
    DUPLICATE,
    MERGED_AT_JOIN,
    NO_BEGINNING,
    NO_PARTNER,
    NOT_ONE_TOKEN,
    SAME_ANSWER,
)

_LARGEST_GROUP = 512  # pairs with the same two words that are matched with each other: bounds the distances


@dataclass(frozen=True)
class MinimalPair:
    """One pair of a task. `beginnings`: two beginnings, right and wrong, of the same `word` (the two-prefix method)."""

    task: str
    case: str
    good: str
    bad: str
    beginnings: tuple[str, str] | None = None
    word: str = ""

    @property
    def cluster(self) -> str:
        """What the pair asks: the words up to and including the first that differ, in any order.

        Pairs that go on differently after that ("is tall", "is old") do not ask anew.
        """
        good, bad = self.good.split(), self.bad.split()
        same = 0
        while same < min(len(good), len(bad)) and good[same] == bad[same]:
            same += 1
        return " ".join(good[:same]) + " | " + " / ".join(sorted((*good[same : same + 1], *bad[same : same + 1])))


def sentence_examples(
    pairs: Iterable[MinimalPair], encode: Encode, *, start_token: int, context_length: int
) -> tuple[list[Example], Counter[str]]:
    """Return one example per pair, log p(good sentence) against log p(bad one), and the refused by reason.

    Both begin with `start_token` (end of text), so that the first word counts too.
    """
    made = _Sequences(context_length)
    for pair in pairs:
        good, bad = ((start_token, *encode(text)) for text in (pair.good, pair.bad))
        made.add(pair, pair.task, (pair.good, pair.bad), (good, bad), (1, 1))
    return made.examples, made.refused


def two_prefix_examples(
    pairs: Iterable[MinimalPair], encode: Encode, *, start_token: int, context_length: int
) -> tuple[list[Example], Counter[str]]:
    """Return one example per pair that has two beginnings: log p(word) after the right against after the wrong one."""
    made = _Sequences(context_length)
    for pair in pairs:
        if pair.beginnings is None:
            continue
        texts = [f"{beginning} {pair.word}" for beginning in pair.beginnings]
        before = [(start_token, *encode(beginning)) for beginning in pair.beginnings]
        whole = [(start_token, *encode(text)) for text in texts]
        starts = (len(before[0]), len(before[1]))
        joined = all(tokens[: len(start)] == start for tokens, start in zip(whole, before, strict=True))
        if joined and whole[0][starts[0] :] == whole[1][starts[1] :]:
            made.add(pair, f"{pair.task}_two_prefix", (texts[0], texts[1]), (whole[0], whole[1]), starts)
        else:
            made.refused[MERGED_AT_JOIN] += 1
    return made.examples, made.refused


class _Sequences:
    """Collects examples that are scored as sequences, and counts what is refused."""

    def __init__(self, context_length: int) -> None:
        self.examples: list[Example] = []
        self.refused: Counter[str] = Counter()
        self._known: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        self._context_length = context_length

    def add(
        self,
        pair: MinimalPair,
        task: str,
        texts: tuple[str, str],
        tokens: tuple[tuple[int, ...], tuple[int, ...]],
        starts: tuple[int, int],
    ) -> None:
        if max(map(len, tokens)) > self._context_length:
            self.refused[CONTEXT_TOO_LONG] += 1
        elif tokens[0] == tokens[1] or min(map(len, tokens)) < 2:
            self.refused[SAME_ANSWER] += 1
        elif tokens in self._known:
            self.refused[DUPLICATE] += 1
        else:
            self._known.add(tokens)
            self.examples.append(
                Example(
                    task=task,
                    kind="file",
                    case=pair.case,
                    clean_prefix=texts[0],
                    patch_prefix=texts[1],
                    clean_answer="",
                    patch_answer="",
                    clean_tokens=tokens[0],
                    patch_tokens=tokens[1],
                    clean_token=-1,
                    patch_token=-1,
                    cluster=pair.cluster,
                    scoring="sequence",
                    clean_start=starts[0],
                    patch_start=starts[1],
                )
            )


def word_examples(
    pairs: Sequence[MinimalPair], encode: Encode, *, context_length: int, rng: np.random.Generator
) -> tuple[list[Example], Counter[str]]:
    """Return the questions at the word that differs, with a patch prefix from another pair; texts are left empty.

    A pair takes part when its sentences are the same tokens but one, behind a beginning that both share. Its partner
    differs in the same two tokens the other way round, behind a beginning of the same length: the free one that differs
    in the fewest tokens. Every pair is used once.
    """
    refused: Counter[str] = Counter()
    groups: dict[tuple[int, int, int], dict[tuple[int, ...], MinimalPair]] = {}
    for pair in pairs:
        place = _differing_place(encode(pair.good), encode(pair.bad), context_length)
        if isinstance(place, str):
            refused[place] += 1
            continue
        start, good, bad = place
        group = groups.setdefault((good, bad, len(start)), {})
        if start in group:
            refused[DUPLICATE] += 1
        else:
            group[start] = pair
    examples: list[Example] = []
    for good, bad, length in sorted(groups):
        ours, theirs = groups[good, bad, length], groups.get((bad, good, length), {})
        if (good, bad) > (bad, good) and theirs:
            continue  # done from the other side
        matched = _nearest(list(ours), list(theirs), rng)
        refused[NO_PARTNER] += len(ours) + len(theirs) - 2 * len(matched)
        for start, other in matched:
            pair = ours[start]
            cluster = " / ".join(sorted((pair.cluster, theirs[other].cluster)))
            examples += both_sides(f"{pair.task}_word", "file", pair.case, (start, other), (good, bad), cluster)
    return examples, refused


def _differing_place(
    good: Sequence[int], bad: Sequence[int], context_length: int
) -> tuple[tuple[int, ...], int, int] | str:
    """Return the shared beginning and the two tokens after it, or the reason why there is no such place."""
    if list(good) == list(bad):
        return SAME_ANSWER
    same = 0
    while same < min(len(good), len(bad)) and good[same] == bad[same]:
        same += 1
    if len(good) != len(bad) or list(good[same + 1 :]) != list(bad[same + 1 :]):
        return NOT_ONE_TOKEN
    if same == 0:
        return NO_BEGINNING
    return CONTEXT_TOO_LONG if same > context_length else (tuple(good[:same]), good[same], bad[same])


def _nearest(
    ours: list[tuple[int, ...]], theirs: list[tuple[int, ...]], rng: np.random.Generator
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return beginnings of both sides matched one to one, each of ours with the free one nearest to it."""
    if not ours or not theirs:
        return []
    ours, theirs = ([side[i] for i in rng.permutation(len(side))[:_LARGEST_GROUP]] for side in (ours, theirs))
    distance = (np.array(ours)[:, None] != np.array(theirs)[None]).sum(axis=2).astype(np.float64)
    matched = []
    for row in range(min(len(ours), len(theirs))):
        at = int(distance[row].argmin())
        matched.append((ours[row], theirs[at]))
        distance[:, at] = np.inf
    return matched
