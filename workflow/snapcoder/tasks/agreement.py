"""Agreement tasks mined from held-out text: pairs of contexts that an n-gram model cannot tell apart.

A pair is two contexts of the same length that end in the same tokens; one is followed by word A, the other by word B.
An n-gram model that sees no further than the shared ending gives both contexts the same prediction, so on a balanced
set it is right exactly half of the time: what is above chance comes from further back.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snapcoder.storage.task_examples import Example
from snapcoder.storage.tokens import HELDOUT, TokenTable

WORD_PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "pronoun_number": (
        ("he", "they"), ("his", "their"), ("him", "them"), ("himself", "themselves"), ("I", "we"), ("my", "our"),
        ("me", "us"), ("He", "They"), ("His", "Their"), ("this", "these"), ("that", "those"),
    ),
    "verb_number": (
        ("was", "were"), ("is", "are"), ("has", "have"), ("does", "do"), ("says", "say"), ("goes", "go"),
        ("comes", "come"), ("makes", "make"),
    ),
    "noun_number": (
        ("man", "men"), ("son", "sons"), ("day", "days"), ("king", "kings"), ("child", "children"), ("thing", "things"),
        ("word", "words"), ("year", "years"), ("brother", "brothers"), ("woman", "women"), ("hand", "hands"),
    ),
    "pronoun_gender": (("he", "she"), ("his", "her"), ("him", "her"), ("He", "She")),
    "pronoun_person": (("he", "I"), ("he", "you"), ("his", "my"), ("his", "your"), ("him", "me"), ("him", "you")),
    "tense": (
        ("is", "was"), ("are", "were"), ("has", "had"), ("have", "had"), ("says", "said"), ("come", "came"),
        ("will", "would"), ("shall", "should"), ("goes", "went"), ("may", "might"),
    ),
}  # fmt: skip
"""Words that differ in one grammatical property. Only pairs of single tokens in the vocabulary are used."""

MIXED = {"agreement_near": 0, "agreement_far": 2}
"""Tasks that mix all word pairs, and the tokens that their contexts end in alike.

near: none, so a bigram model may know the answer, a unigram model does not; far: two, so that a trigram model is at
chance. The tasks of one property share one token: a bigram model is at chance.
"""


@dataclass(frozen=True)
class WordPair:
    """Two words that are single tokens with a leading space, and these tokens."""

    a: str
    b: str
    token_a: int
    token_b: int

    @property
    def name(self) -> str:
        """How the pair is called in examples and messages."""
        return f"{self.a}/{self.b}"


@dataclass(frozen=True)
class AgreementTask:
    """Which words a task asks for, and how many tokens the two contexts of a pair end in alike."""

    name: str
    pairs: tuple[WordPair, ...]
    shared_ending: int

    @property
    def described(self) -> str:
        """What was found in the vocabulary, for messages."""
        return "word pairs of single tokens: " + (", ".join(pair.name for pair in self.pairs) or "none")


@dataclass(frozen=True)
class MinedTask:
    """Examples of one task and what it took to get them."""

    examples: list[Example]
    n_rejected: int  # occurrences of the words that found no partner context


def agreement_tasks(vocabulary: Mapping[str, int], *, space: str) -> list[AgreementTask]:
    """Return the tasks with the word pairs in which both words with a leading space are single tokens.

    `vocabulary` maps the tokenizer's pieces to ids; `space` is how it writes a leading space (Ġ in byte-level BPE).
    """
    tasks = []
    for name, pairs in WORD_PAIRS.items():
        found = [
            WordPair(a, b, vocabulary[space + a], vocabulary[space + b])
            for a, b in pairs
            if space + a in vocabulary and space + b in vocabulary
        ]
        tasks.append(AgreementTask(name, tuple(found), shared_ending=1))
    everything = tuple(pair for task in tasks for pair in task.pairs)
    return tasks + [AgreementTask(name, everything, ending) for name, ending in MIXED.items()]


def mine_agreement(
    table: TokenTable, task: AgreementTask, *, length: int, max_examples: int, rng: np.random.Generator
) -> MinedTask:
    """Pair held-out contexts of `length` tokens for one task's words; texts are left empty (see `with_texts`).

    Every context lies in one document and is used at most once per word pair. Which of the two words is the clean
    answer alternates. With more than `max_examples` pairs of contexts, word pairs take turns, so that a frequent one
    does not crowd out the others.
    """
    kept: list[tuple[int, str, Example]] = []
    n_rejected = 0
    for pair in task.pairs:
        contexts_a = _contexts(table, pair.token_a, length)
        contexts_b = _contexts(table, pair.token_b, length)
        matched = _matched(contexts_a, contexts_b, task.shared_ending, rng)[:max_examples]
        n_rejected += len(contexts_a) + len(contexts_b) - 2 * len(matched)
        for rank, (row_a, row_b) in enumerate(matched):
            sides = [(contexts_a[row_a], pair.token_a), (contexts_b[row_b], pair.token_b)]
            example = _example(task.name, pair.name, *(sides if rank % 2 == 0 else sides[::-1]))
            kept.append((rank // 2, pair.name, example))  # both directions of a word pair stay together
    kept.sort(key=lambda item: item[:2])
    return MinedTask([example for _, _, example in kept[:max_examples]], n_rejected)


def _example(task: str, case: str, clean: tuple[np.ndarray, int], patch: tuple[np.ndarray, int]) -> Example:
    return Example(
        task=task,
        kind="agreement",
        case=case,
        clean_prefix="",
        patch_prefix="",
        clean_answer="",
        patch_answer="",
        clean_tokens=tuple(clean[0].tolist()),
        patch_tokens=tuple(patch[0].tolist()),
        clean_token=int(clean[1]),
        patch_token=int(patch[1]),
    )


def _contexts(table: TokenTable, token: int, length: int) -> np.ndarray:
    """Return the held-out contexts after which `token` comes, [context, position] int64, in text order."""
    rows = table.sequences(HELDOUT)
    tokens, doc = table.tokens[rows], table.doc[rows]
    sequence, position = np.nonzero(tokens == token)
    enough = position >= length
    sequence, position = sequence[enough], position[enough]
    inside = doc[sequence, position - length] == doc[sequence, position]
    sequence, position = sequence[inside], position[inside]
    contexts = tokens[sequence[:, None], position[:, None] + np.arange(-length, 0)].astype(np.int64)
    return contexts[(contexts != table.end_of_text).all(axis=1)]


def _matched(
    contexts_a: np.ndarray, contexts_b: np.ndarray, shared_ending: int, rng: np.random.Generator
) -> np.ndarray:
    """Return pairs of rows (of a, of b) with equal endings, each row used at most once, in random order, [pair, 2]."""
    ending_a, ending_b = (_endings(contexts, shared_ending) for contexts in (contexts_a, contexts_b))
    order_a, order_b = rng.permutation(len(ending_a)), rng.permutation(len(ending_b))
    rows_b: dict[tuple[int, ...], list[int]] = {}
    for row in order_b.tolist():
        rows_b.setdefault(ending_b[row], []).append(row)
    pairs = []
    for row in order_a.tolist():
        waiting = rows_b.get(ending_a[row])
        if waiting:
            pairs.append((row, waiting.pop()))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _endings(contexts: np.ndarray, size: int) -> list[tuple[int, ...]]:
    return [tuple(ending) for ending in contexts[:, contexts.shape[1] - size :].tolist()]
