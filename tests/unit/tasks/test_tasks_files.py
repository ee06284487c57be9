import dataclasses
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.tasks.files import Candidate, parse_task_lines, tokenize_candidates
from snapcoder.tasks.rejections import REASONS

VALID = {"clean_prefix": "the man", "patch_prefix": "the men", "clean_answer": " is", "patch_answer": " are"}


class GreedyTokenizer:
    """Longest-match pieces, which merge over any join: the trap that the filters are for."""

    def __init__(self, pieces):
        self.ids = {piece: index for index, piece in enumerate(sorted(pieces))}

    def __call__(self, text):
        tokens = []
        while text:
            piece = next(text[:n] for n in range(len(text), 0, -1) if text[:n] in self.ids)
            tokens.append(self.ids[piece])
            text = text[len(piece) :]
        return tokens


LETTERS = GreedyTokenizer([*"abcd ", "ab", "ca", " b", "cd ", "abc", " a", "dd"])


def candidate(clean, patch, answer, other):
    return Candidate("t", "file", "", clean, patch, answer, other)


def refused(one, context_length=20, seen=None):
    """The reason why a candidate is refused; None when it is kept."""
    examples, rejected = tokenize_candidates([one], LETTERS, context_length=context_length, seen=seen)
    assert len(examples) + rejected["t"].total() == 1
    return next(iter(rejected["t"]), None)


def test_a_valid_line_becomes_a_candidate_of_its_file_or_of_the_task_that_it_names():
    text = json.dumps(VALID) + "\n\n" + json.dumps({**VALID, "task": "mine", "case": "x"})
    first, second = parse_task_lines(text, file="sva.jsonl", task="sva")
    assert (first.task, first.case, first.kind) == ("sva", "", "file")
    assert (second.task, second.case, second.clean_answer) == ("mine", "x", " is")


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "line 1 is not valid JSON"),
        ("[1]", "line 1 is not a JSON object"),
        (json.dumps({**VALID, "clean_answer": 3}), "needs the key clean_answer"),
        (json.dumps({**VALID, "patch_prefix": ""}), "needs the key patch_prefix"),
        (json.dumps({key: VALID[key] for key in list(VALID)[:3]}), "needs the key patch_answer"),
        (json.dumps({**VALID, "task": 1}), "task and case must be strings"),
    ],
)
def test_a_bad_line_is_named_in_one_line(line, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_task_lines(line, file="sva.jsonl", task="sva")
    assert "sva.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_example_keeps_its_tokens():
    examples, rejected = tokenize_candidates([candidate("dab", "ddd", " b", " a")], LETTERS, context_length=4)
    assert rejected == {"t": Counter()}
    (example,) = examples
    assert example.clean_tokens == tuple(LETTERS("dab"))
    assert (example.clean_token, example.patch_token) == (LETTERS.ids[" b"], LETTERS.ids[" a"])


def test_each_filter_refuses_its_own_fault_by_name():
    assert refused(candidate("dab", "ddd", " b", " a")) is None
    assert refused(candidate("dab", "dddd", " b", " ab")) == "answer_not_one_token"
    assert refused(candidate("dab", "dddab", " b", " a")) == "lengths_differ"
    assert refused(candidate("da", "bd", "b", "d")) == "merged_at_join"
    assert refused(candidate("dab", "ddd", " b", " b")) == "same_answer"
    assert refused(candidate("dab", "ddd", " b", " a"), context_length=1) == "context_too_long"
    assert refused(candidate("dab", "ddd", " b", " a"), seen=set(LETTERS("dab b"))) == "token_unseen"
    assert refused(candidate("dab", "ddd", " b", " a"), seen=set(LETTERS("dab b a ddd"))) is None


def test_the_same_tokens_count_once_per_task():
    one = candidate("dab", "ddd", " b", " a")
    again = dataclasses.replace(one, case="another name", cluster="another cluster")
    examples, rejected = tokenize_candidates([one, again, again], LETTERS, context_length=9)
    assert len(examples) == 1
    assert rejected["t"] == {"duplicate": 2}
    examples, rejected = tokenize_candidates([one, dataclasses.replace(one, task="u")], LETTERS, context_length=9)
    assert [example.task for example in examples] == ["t", "u"]


@settings(max_examples=200)
@given(*[st.text("abcd ", min_size=1, max_size=6)] * 2, *[st.text("abcd ", min_size=1, max_size=3)] * 2)
def test_whatever_passes_the_filters_satisfies_every_promise(clean, patch, answer, other):
    examples, rejected = tokenize_candidates([candidate(clean, patch, answer, other)], LETTERS, context_length=5)
    assert len(examples) + rejected["t"].total() == 1
    assert set(rejected["t"]) <= set(REASONS)
    for example in examples:
        assert len(example.clean_tokens) == len(example.patch_tokens) <= 5
        assert example.clean_token != example.patch_token
        assert [*example.clean_tokens, example.clean_token] == LETTERS(clean + answer)
        assert [*example.clean_tokens, example.patch_token] == LETTERS(clean + other)
        assert [*example.patch_tokens, example.patch_token] == LETTERS(patch + other)
