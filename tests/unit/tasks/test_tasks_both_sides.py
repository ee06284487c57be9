"""Tasks that ask every question from both sides: a model that does not see what differs is right exactly half the time."""

import re
from collections import Counter

import numpy as np
import pytest

from snapcoder.storage.tokens import TokenTable
from snapcoder.tasks.closing import ClosingMark, closing_marks, mine_closing
from snapcoder.tasks.copying import NGRAMS, make_token_copy, mine_ngram_copy
from snapcoder.tasks.files import tokenize_candidates
from snapcoder.tasks.names import NAMES, PERSONS, TEMPLATES, name_candidates
from snapcoder.tasks.numbers import WORDS, number_candidates
from snapcoder.tasks.selection import TaskDraft, select_tasks
from snapcoder.tasks.templates import template_candidates

LENGTH, END = 10, 0
TEXTS = ["<end>", *(f" w{n}" for n in range(1, 30)), " [", "]", '."', ' "', "(", ").", "."]
OPEN, CLOSE, QUOTE_END, QUOTE, ROUND, ROUND_END, DOT = range(30, 37)


class Words:
    """A tokenizer whose pieces are what a pattern finds, with an id for each new one."""

    def __init__(self, pattern=r" ?[A-Za-z]+| ?\d|[^ ]"):
        self.pattern, self.ids = re.compile(pattern), {}

    def __call__(self, text):
        return [self.ids.setdefault(piece, len(self.ids)) for piece in self.pattern.findall(text)]


def kept(candidates, encode):
    return tokenize_candidates(candidates, encode, context_length=64)[0]


def text_table(seed=0, n_sequences=300, context=40):
    """Random words, in which pieces of earlier text and closed pairs of marks come again and again."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 30, size=(n_sequences, context))
    for row in tokens:
        start = rng.integers(0, 12)
        row[start + 8 : start + 11] = row[start : start + 3]
        for opening, closing in ((OPEN, CLOSE), (QUOTE, QUOTE_END)):
            first, second = np.sort(rng.choice(context, size=2, replace=False))
            row[first], row[second] = opening, closing
    doc = np.repeat(np.arange(n_sequences)[:, None], context, axis=1)
    doc[::4, 20:] += 1000  # a document ends in the middle of some sequences
    tokens[::4, 19] = END
    split = (np.arange(n_sequences) % 2).astype(np.uint8)
    return TokenTable(tokens.astype(np.uint16), doc.astype(np.int32), split, len(TEXTS), END, "x")


def closing_of(task="bracket_closing", seed=0, max_examples=60):
    table = text_table()
    marks = closing_marks(task, TEXTS)
    rng = np.random.default_rng(seed)
    return mine_closing(table, task, marks, TEXTS, length=LENGTH, max_examples=max_examples, rng=rng).examples


def ngrams_of(seed=0, max_examples=80):
    rng = np.random.default_rng(seed)
    return mine_ngram_copy(text_table(), length=LENGTH, max_examples=max_examples, rng=rng).examples


def all_tasks():
    pairs, digits = Words(r" ?[A-Za-z]+| ?\d{1,2}|[^ ]"), Words()
    names, _ = name_candidates({f" {name}": 0 for name in NAMES}, space=" ", largest=400)
    persons, _ = name_candidates({f" {person.split()[-1]}": 0 for person in PERSONS}, space=" ", largest=400)
    return {
        "names": kept(names, Words()),
        "persons": kept(persons, Words()),
        "years": kept(number_candidates("years"), pairs),
        "decades": kept(number_candidates("decades"), digits),
        "words": kept(number_candidates("words"), Words()),
        "templates": kept(template_candidates(), Words()),
        "copy_token": make_token_copy(np.arange(5, 50), n_examples=60, rng=np.random.default_rng(0)),
        "copy_ngram": ngrams_of(),
        "bracket_closing": closing_of(),
        "quote_closing": closing_of("quote_closing"),
    }


TASKS = all_tasks()


def blind_accuracy(examples, seed=0):
    """Accuracy of arbitrary but fixed scores of a token, given everything in which the two prefixes agree."""
    rng, scores = np.random.default_rng(seed), {}
    right = 0
    for e in examples:
        seen = tuple(a if a == b else None for a, b in zip(e.clean_tokens, e.patch_tokens, strict=True))
        of = [scores.setdefault((seen, token), rng.normal()) for token in (e.clean_token, e.patch_token)]
        right += of[0] > of[1]
    return right / len(examples)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_blind_to_what_differs_is_right_exactly_half_of_the_time(task, seed):
    assert len(TASKS[task]) >= 40
    assert blind_accuracy(TASKS[task], seed) == 0.5


@pytest.mark.parametrize("task", TASKS)
def test_the_cap_keeps_both_sides_of_a_question_together(task):
    drafts = [
        TaskDraft(name, "file", [e for e in TASKS[task] if e.task == name]) for name in {e.task for e in TASKS[task]}
    ]
    examples, _ = select_tasks(drafts, max_examples=31, min_examples=4, seed=3)
    assert blind_accuracy(examples) == 0.5


@pytest.mark.parametrize("task", TASKS)
def test_both_sides_of_a_question_share_a_cluster_and_other_questions_may_not_contradict(task):
    sides = {(e.task, e.clean_tokens, e.patch_tokens, e.clean_token, e.patch_token): e.cluster for e in TASKS[task]}
    assert len(sides) == len(TASKS[task])
    for (name, clean, patch, answer, other), cluster in sides.items():
        assert cluster
        assert sides[name, patch, clean, other, answer] == cluster


def test_the_name_that_acts_again_is_never_the_answer_and_order_alone_is_no_help():
    candidates, note = name_candidates({f"Ġ{name}": 0 for name in NAMES[:12]}, space="Ġ", largest=10_000)
    assert note == "names of single tokens: " + ", ".join(NAMES[:12])
    assert len(candidates) == 4 * len(TEMPLATES) * 12 * 11 // 2
    first_named = Counter()
    for c in candidates:
        mentioned = [word for word in re.findall(r"\w+", c.clean_prefix) if word in NAMES]
        assert Counter(mentioned) == {c.patch_answer.strip(): 2, c.clean_answer.strip(): 1}
        assert c.case == ("ABBA" if mentioned[1] == mentioned[2] else "BABA")
        changed = [a != b for a, b in zip(c.clean_prefix.split(), c.patch_prefix.split(), strict=True)]
        assert sum(changed) == 1
        first_named[mentioned[0] == c.clean_answer.strip()] += 1
    assert first_named[True] == first_named[False]


def test_names_that_are_not_single_tokens_are_left_out_and_persons_stand_in_for_too_few():
    candidates, note = name_candidates({"ĠMary": 1, "Ġking": 2, "Ġman": 3, "Ġson": 4}, space="Ġ", largest=100)
    assert note == "names of single tokens: the king, the man, the son"
    assert all(c.clean_answer in (" king", " man", " son") and c.clean_prefix.endswith(" to the") for c in candidates)
    assert name_candidates({"king": 2}, space="Ġ", largest=100) == ([], "names of single tokens: none")


def test_no_more_names_than_asked_for_and_every_template_is_used():
    candidates, _ = name_candidates({f"Ġ{name}": 0 for name in NAMES}, space="Ġ", largest=400)
    assert 300 < len(candidates) <= 400
    assert {c.cluster.split("/")[2] for c in candidates} == set("0123")


@pytest.mark.parametrize("style", ["years", "decades", "words"])
def test_only_a_later_number_can_end_a_span_and_of_two_later_ones_the_nearer_is_right(style):
    for c in number_candidates(style):
        if style == "words":
            (start,) = (WORDS.index(word) for word in c.clean_prefix.split() if word in WORDS)
            answer, other = WORDS.index(c.clean_answer.strip()), WORDS.index(c.patch_answer.strip())
        else:
            year, century = re.findall(r"\d+", c.clean_prefix)
            start = int(year)
            scale = 10 ** (4 - len(century) - len(c.clean_answer))
            answer, other = (int(century + text) * scale for text in (c.clean_answer, c.patch_answer))
        if c.case == "greater":
            assert other < start < answer
        else:
            assert start < answer < other


def test_the_tokenizer_decides_how_numbers_are_asked_for():
    pairs, digits = Words(r" ?[A-Za-z]+| ?\d{1,2}|[^ ]"), Words()
    assert len(kept(number_candidates("years"), pairs)) == len(number_candidates("years"))
    assert kept(number_candidates("years"), digits) == []
    assert len({e.cluster for e in kept(number_candidates("decades"), digits)}) == 54


def test_a_copied_token_is_the_last_one_and_nothing_else_differs():
    for e in TASKS["copy_token"]:
        assert e.clean_tokens[-1] == e.clean_token
        assert e.clean_tokens[:-1] == e.patch_tokens[:-1]
        shown = e.clean_tokens[:-1]
        assert shown[0::2] == shown[1::2]
        assert len({*shown, e.clean_token, e.patch_token}) == len(shown) // 2 + 2
    assert make_token_copy(np.arange(6), n_examples=10, rng=np.random.default_rng(0)) == []


def test_an_ngram_came_before_once_and_goes_on_as_it_did_then():
    examples = ngrams_of()
    assert {e.case for e in examples} == set(NGRAMS)
    for e in examples:
        size = NGRAMS[e.case]
        ending = e.clean_tokens[-size:]
        before = [
            at for at in range(size, LENGTH) if e.clean_tokens[at - size : at] == ending and at - size < LENGTH - size
        ]
        assert len(before) == 1
        assert e.clean_tokens[before[0]] == e.clean_token
        assert e.clean_tokens.count(e.clean_token) == 1
        differing = [at for at in range(LENGTH) if e.clean_tokens[at] != e.patch_tokens[at]]
        assert differing == before


def windows(table):
    """Every held-out context of one document with its next token and its sequence."""
    found = {}
    for sequence, row in enumerate(np.flatnonzero(table.split == 1)):
        for position in range(LENGTH, table.context_length):
            window = slice(position - LENGTH, position + 1)
            if (
                len(set(table.doc[row, window].tolist())) == 1
                and END not in table.tokens[row, position - LENGTH : position]
            ):
                key = tuple(int(token) for token in table.tokens[row, window])
                found.setdefault(key, set()).add(sequence)
    return found


def test_one_side_of_each_mined_question_is_held_out_text_and_no_sequence_gives_two():
    found, examples = windows(text_table()), ngrams_of()
    for natural, altered in zip(examples[0::2], examples[1::2], strict=True):
        sequence = int(natural.cluster.split()[1])
        assert sequence in found[(*natural.clean_tokens, natural.clean_token)]
        assert altered.clean_tokens == natural.patch_tokens
    assert len({e.cluster for e in examples}) == len(examples) / 2


@pytest.mark.parametrize("task, opening, closing", [("bracket_closing", "[", "]"), ("quote_closing", ' "', '."')])
def test_a_mark_is_closed_where_it_is_open_and_both_contexts_are_text(task, opening, closing):
    found, examples = windows(text_table()), closing_of(task)
    assert len(examples) == 60
    used = Counter()
    for open_side, other in zip(examples[0::2], examples[1::2], strict=True):
        for e in (open_side, other):
            assert (*e.clean_tokens, e.clean_token) in found
        used.update({int(text.strip(",")) for text in open_side.cluster.split()[1:]})
        assert TEXTS[open_side.clean_token] == closing
        assert other.clean_token != open_side.clean_token
        assert open_side.clean_tokens[-1] == other.clean_tokens[-1]
        text, against = ("".join(TEXTS[t] for t in e.clean_tokens) for e in (open_side, other))
        assert text.rfind(opening) > text.rfind(closing)
        if open_side.case.endswith("closed"):
            assert against.rfind(closing) > against.rfind(opening)
        else:
            assert opening not in against
            assert closing not in against
    assert max(used.values()) == 1


def test_marks_are_told_apart_by_what_stands_before_them():
    (quote,) = closing_marks("quote_closing", TEXTS)
    assert quote == ClosingMark('"', '"', (QUOTE_END,))
    assert [mark.answers for mark in closing_marks("bracket_closing", TEXTS)] == [(CLOSE,)]
    assert closing_marks("bracket_closing", ["a", "(", ")"]) == [ClosingMark("(", ")", (2,))]
    assert closing_marks("quote_closing", ["a", "b"]) == []


def test_mining_twice_gives_the_same_examples():
    assert ngrams_of() == ngrams_of()
    assert closing_of() == closing_of()
    assert closing_of(seed=1) != closing_of()
