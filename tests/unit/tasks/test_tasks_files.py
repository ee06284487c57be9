import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.tasks.files import Candidate, parse_task_lines, tokenize_candidates

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


def refused(one, context_length=20):
    examples, rejected = tokenize_candidates([one], LETTERS, context_length=context_length)
    assert len(examples) + rejected["t"] == 1
    return rejected["t"] == 1


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
    assert rejected == {"t": 0}
    (example,) = examples
    assert example.clean_tokens == tuple(LETTERS("dab"))
    assert (example.clean_token, example.patch_token) == (LETTERS.ids[" b"], LETTERS.ids[" a"])


def test_each_filter_refuses_its_own_fault():
    assert not refused(candidate("dab", "ddd", " b", " a"))
    assert refused(candidate("dab", "dddd", " b", " ab")), "an answer of two tokens"
    assert refused(candidate("dab", "dddab", " b", " a")), "prefixes of different lengths"
    assert refused(candidate("da", "dd", "b", "d")), "a + b merge at the join"
    assert refused(candidate("dab", "ddd", " b", " b")), "both answers are the same token"
    assert refused(candidate("dab", "ddd", " b", " a"), context_length=1), "longer than the context"


@settings(max_examples=200)
@given(*[st.text("abcd ", min_size=1, max_size=6)] * 2, *[st.text("abcd ", min_size=1, max_size=3)] * 2)
def test_whatever_passes_the_filters_satisfies_every_promise(clean, patch, answer, other):
    examples, rejected = tokenize_candidates([candidate(clean, patch, answer, other)], LETTERS, context_length=5)
    assert len(examples) + rejected["t"] == 1
    for example in examples:
        assert len(example.clean_tokens) == len(example.patch_tokens) <= 5
        assert example.clean_token != example.patch_token
        assert [*example.clean_tokens, example.clean_token] == LETTERS(clean + answer)
        assert [*example.clean_tokens, example.patch_token] == LETTERS(clean + other)
        assert [*example.patch_tokens, example.patch_token] == LETTERS(patch + other)
