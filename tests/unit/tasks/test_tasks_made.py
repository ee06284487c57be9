"""Induction and templates: examples that are made, not mined."""

from collections import Counter

import numpy as np

from snapcoder.tasks.files import tokenize_candidates
from snapcoder.tasks.induction import BLOCK, make_induction
from snapcoder.tasks.templates import template_candidates


def make(seed=0, n=200, usable=60, context=32):
    return make_induction(
        np.arange(5, 5 + usable), n_examples=n, context_length=context, rng=np.random.default_rng(seed)
    )


def copied(tokens):
    """What a perfect induction head predicts: the token after the last token's earlier occurrence."""
    earlier = [index for index, token in enumerate(tokens[:-1]) if token == tokens[-1]]
    assert len(earlier) == 1
    return tokens[earlier[0] + 1]


def test_copying_what_followed_before_is_right_on_both_prefixes():
    for example in make():
        assert copied(example.clean_tokens) == example.clean_token
        assert copied(example.patch_tokens) == example.patch_token


def test_the_prefixes_differ_in_the_first_answer_only():
    for example in make():
        clean, patch = np.array(example.clean_tokens), np.array(example.patch_tokens)
        (place,) = np.flatnonzero(clean != patch)
        assert place < BLOCK
        assert (clean[place], patch[place]) == (example.clean_token, example.patch_token)
        assert example.clean_token not in clean[place + 1 :]


def test_a_guess_that_ignores_the_prefix_is_right_half_of_the_time():
    scores = np.random.default_rng(3).normal(size=80)
    right = [scores[example.clean_token] > scores[example.patch_token] for example in make(n=4000)]
    assert abs(np.mean(right) - 0.5) < 4 * 0.5 / np.sqrt(4000)


def test_too_short_a_context_or_vocabulary_gives_no_examples():
    assert make(context=14) == []
    assert make(usable=BLOCK) == []
    assert make() == make()


def test_templates_come_in_both_directions_and_ask_for_agreement():
    candidates = template_candidates()
    texts = {(c.task, c.clean_prefix, c.patch_prefix, c.clean_answer, c.patch_answer) for c in candidates}
    assert len(texts) == len(candidates)
    for c in candidates:
        assert (c.task, c.patch_prefix, c.clean_prefix, c.patch_answer, c.clean_answer) in texts
    assert {c.task for c in candidates} == {"sva_simple", "sva_nounpp", "sva_within_rc"}


def test_a_word_tokenizer_keeps_all_templates_and_a_letter_tokenizer_none():
    ids = {}

    def by_word(text):
        return [ids.setdefault(word, len(ids)) for word in text.replace(" ", " ▁").split(" ")]

    def by_letter(text):
        return [ord(letter) for letter in text]

    candidates = template_candidates()
    kept, rejected = tokenize_candidates(candidates, by_word, context_length=64)
    uneven = [c for c in candidates if len(c.clean_prefix.split()) != len(c.patch_prefix.split())]
    assert len(kept) == len(candidates) - len(uneven)
    assert sum(rejected.values(), Counter()).total() == len(uneven)
    assert tokenize_candidates(candidates, by_letter, context_length=64)[0] == []
