"""Task files of minimal pairs: three published layouts, and what becomes of their pairs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.storage.task_examples import Example, read_examples, task_lines, write_examples
from snapcoder.tasks.built_in import Language
from snapcoder.tasks.files import Candidate
from snapcoder.tasks.formats import parse_task_file, task_names
from snapcoder.tasks.from_files import file_drafts
from snapcoder.tasks.minimal_pairs import MinimalPair, sentence_examples, two_prefix_examples, word_examples
from snapcoder.tasks.rejections import REASONS
from snapcoder.tasks.scoring import score_examples, sequence_log_probs
from snapcoder.tasks.selection import TaskDraft, select_tasks

BLIMP = {
    "sentence_good": "The cats sleep.", "sentence_bad": "The cats sleeps.", "one_prefix_prefix": "The cats",
    "one_prefix_word_good": "sleep", "one_prefix_word_bad": "sleeps", "field": "morphology",
    "linguistics_term": "subject_verb_agreement", "UID": "regular_plural_subject_verb_agreement_1",
    "simple_LM_method": True, "one_prefix_method": True, "two_prefix_method": False, "lexically_identical": False,
    "pairID": "0",
}  # fmt: skip
TWO_PREFIX = {
    "sentence_good": "Only Bill would ever complain.", "sentence_bad": "Even Bill would ever complain.",
    "two_prefix_prefix_good": "Only Bill would", "two_prefix_prefix_bad": "Even Bill would", "two_prefix_word": "ever",
    "field": "semantics", "linguistics_term": "npi_licensing", "UID": "only_npi_licensor_present",
    "simple_LM_method": True, "one_prefix_method": False, "two_prefix_method": True, "lexically_identical": False,
    "pairID": "0",
}  # fmt: skip
CLAMS = (
    "True\tthe author laughs\nFalse\tthe author laugh\nTrue\tthe author is tall\nFalse\tthe author are tall\n"
    "True\tthe authors laugh\nFalse\tthe authors laughs\nTrue\tthe authors are tall\nFalse\tthe authors is tall"
)
MULTIBLIMP = (  # as pandas writes it: an index without a name, quotes doubled where there are any
    "\tsen\tverb\tchild_features\tswap_head\tprefix\twrong_sen\tphenomenon\tlang\n"
    "0\tThere is no answer.\tis\t{'Number': 'Sing'}\tam\tThere\tThere am no answer.\tSV-P\teng\n"
    '1\t"He said, ""How is he?"""\tis\t{}\tam\t"He said, ""How"\t'
    '"He said, ""How am he?"""\tSV-P\teng\n'
)


def parse(text, task="file"):
    return parse_task_file(text, file="pairs.txt", task=task)


class Words:
    """One token per word and mark, with an id for each new one; id 0 is the end of text."""

    def __init__(self):
        self.ids = {"<end>": 0}

    def __call__(self, text):
        return [self.ids.setdefault(piece, len(self.ids)) for piece in re.findall(r" ?[\w']+|[^\w ]", text)]

    def decode(self, tokens):
        names = {index: piece for piece, index in self.ids.items()}
        return "".join(names[token] for token in tokens)


def drafts_of(parsed, context_length=20):
    words = Words()
    language = Language(words, words.decode, {}, [])
    found = file_drafts(parsed, language, start_token=0, context_length=context_length, seed=0)
    return {draft.task: draft for draft in found}


def test_blimp_lines_become_pairs_of_their_paradigm():
    (pair,) = parse(json.dumps(BLIMP) + "\n")
    assert pair == MinimalPair(
        "regular_plural_subject_verb_agreement_1", "subject_verb_agreement", "The cats sleep.", "The cats sleeps."
    )
    (pair,) = parse("\n" + json.dumps(TWO_PREFIX))
    assert (pair.beginnings, pair.word) == (("Only Bill would", "Even Bill would"), "ever")


def test_clams_lines_become_pairs_in_order():
    pairs = parse(CLAMS, task="simple_agrmt")
    assert [(pair.task, pair.good, pair.bad) for pair in pairs[:2]] == [
        ("simple_agrmt", "the author laughs", "the author laugh"),
        ("simple_agrmt", "the author is tall", "the author are tall"),
    ]
    assert len(pairs) == 4
    two = parse("True\ta b\nFalse\ta c\nFalse\ta d\n")
    assert [(pair.good, pair.bad) for pair in two] == [("a b", "a c"), ("a b", "a d")]


def test_a_multiblimp_table_is_read_by_its_columns_with_quotes_and_all():
    pairs = parse(MULTIBLIMP)
    assert [(pair.task, pair.good, pair.bad) for pair in pairs] == [
        ("eng_SV-P", "There is no answer.", "There am no answer."),
        ("eng_SV-P", 'He said, "How is he?"', 'He said, "How am he?"'),
    ]
    commas = "sen,wrong_sen\nit is,it are\n"
    assert parse(commas, task="data") == [MinimalPair("data", "", "it is", "it are")]
    lines = json.dumps({"sen": "it is", "wrong_sen": "it are", "lang": "eng", "phenomenon": "SV-#"})
    assert parse(lines) == [MinimalPair("eng_SV-#", "SV-#", "it is", "it are")]


def test_the_format_of_sparse_feature_circuits_is_told_apart():
    values = {"clean_prefix": "the man", "patch_prefix": "the men", "clean_answer": " is", "patch_answer": " are"}
    (candidate,) = parse(json.dumps(values), task="sva")
    assert isinstance(candidate, Candidate)
    assert candidate.task == "sva"


@pytest.mark.parametrize(
    "text, message",
    [
        ("\n \n", "empty task file"),
        ('{"text": "a", "label": 1}', "line 1 has the keys label, text; known are"),
        ("\n{", "line 2 is not valid JSON"),
        (json.dumps(BLIMP) + '\n{"sentence_good": "a"}', "line 2 needs sentence_bad with a non-empty string"),
        (json.dumps(BLIMP) + "\nnonsense", "line 2 is not valid JSON"),
        ("True\ta b\nTrue\ta c\nFalse\ta d", "line 1 is True and no False line follows it"),
        ("False\ta b", "line 1 is False and no True line comes before it"),
        ("True\ta b\nmaybe\ta c", "line 2 is not True or False, a tab and a sentence"),
        ("True\ta b\nFalse\ta c\nTrue\ta", "line 3 is True and no False line follows it"),
        ("id\ttext\n0\ta", "line 1 has the columns id, text; known are"),
        ("sen\twrong_sen\nit is\t", "line 2 needs wrong_sen with a non-empty string"),
    ],
)
def test_what_fits_no_format_is_named_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(text)
    assert str(caught.value).startswith("pairs.txt: ")
    assert "\n" not in str(caught.value)


def test_files_of_one_name_are_told_apart_by_their_folder():
    paths = [Path("en_evalset/simple.txt"), Path("de_evalset/simple.txt"), Path("x/other.txt")]
    assert task_names(paths) == ["en_evalset_simple", "de_evalset_simple", "other"]


def test_pairs_give_whole_sentences_and_questions_where_they_are_each_others_patch():
    drafts = drafts_of(parse(CLAMS, task="simple"))
    assert set(drafts) == {"simple", "simple_word"}
    sentences = drafts["simple"].examples
    assert len(sentences) == 4
    assert not any(example.attributable for example in sentences)
    assert {example.clean_tokens[0] for example in sentences} == {0}
    found = {(e.clean_prefix, e.patch_prefix, e.clean_answer, e.patch_answer) for e in drafts["simple_word"].examples}
    assert found == {
        ("the author", "the authors", " laughs", " laugh"), ("the authors", "the author", " laugh", " laughs"),
        ("the author", "the authors", " is", " are"), ("the authors", "the author", " are", " is"),
    }  # fmt: skip
    assert len({example.cluster for example in drafts["simple_word"].examples}) == 2


def test_a_pair_without_a_partner_is_scored_and_not_attributed():
    drafts = drafts_of(parse(json.dumps(BLIMP)))
    name = BLIMP["UID"]
    assert (len(drafts[name].examples), drafts[name].rejected) == (1, {})
    assert drafts[f"{name}_word"].examples == []
    assert drafts[f"{name}_word"].rejected == {"no_partner": 1}
    _, rows = select_tasks(list(drafts.values()), max_examples=9, min_examples=1, seed=0)
    rows = rows.set_index("task")
    assert not rows.loc[name, "attributable"]
    assert rows.loc[f"{name}_word", "reason"].endswith("behind a beginning of the same length")


def test_two_prefixes_are_scored_at_the_word_that_follows_both():
    drafts = drafts_of(parse(json.dumps(TWO_PREFIX)))
    name = TWO_PREFIX["UID"]
    assert set(drafts) == {name, f"{name}_two_prefix"}, "the sentences differ in their first token: no beginning"
    (example,) = drafts[f"{name}_two_prefix"].examples
    assert (example.clean_start, example.patch_start) == (4, 4)
    assert example.clean_tokens[4:] == example.patch_tokens[4:]
    assert len(example.clean_tokens) == 5


def test_pairs_that_go_on_differently_after_the_same_choice_are_one_cluster():
    pairs = [
        MinimalPair("t", "", "the author is tall", "the author are tall"),
        MinimalPair("t", "", "the author is old", "the author are old"),
        MinimalPair("t", "", "the author was old", "the author were old"),
        MinimalPair("t", "", "the authors are old", "the authors is old"),
    ]
    assert len({pair.cluster for pair in pairs}) == 3
    assert pairs[0].cluster == pairs[1].cluster


@pytest.mark.parametrize(
    "good, bad, reason",
    [
        ("a b", "a b", "same_answer"),
        ("a b", "c b", "no_shared_beginning"),
        ("a b c", "a c", "answer_not_one_token"),
        ("a b c", "a d e", "answer_not_one_token"),
        ("a b c d e f g", "a b c d e f h", "context_too_long"),
        ("a b", "a c", "no_partner"),
    ],
)
def test_each_reason_why_a_pair_is_no_question_is_counted(good, bad, reason):
    examples, refused = word_examples(
        [MinimalPair("t", "", good, bad)], Words(), context_length=5, rng=np.random.default_rng(0)
    )
    assert examples == []
    assert {name for name, count in refused.items() if count} == {reason}


def test_sentences_too_long_equal_or_known_are_refused_by_reason():
    pairs = [MinimalPair("t", "", "a b c", "a c"), MinimalPair("t", "", "a b", "a  b"),
             MinimalPair("t", "", "a b", "a c"), MinimalPair("u", "", "a b", "a c")]  # fmt: skip
    examples, refused = sentence_examples(pairs, Words(), start_token=0, context_length=3)
    assert len(examples) == 1
    assert refused == {"context_too_long": 1, "same_answer": 1, "duplicate": 1}
    ended = [MinimalPair("t", "", "x", "y", beginnings=("ab", "b"), word="c")]
    merged = two_prefix_examples(ended, lambda text: [len(text)], start_token=0, context_length=9)
    assert merged == ([], {"merged_at_join": 1})


words = st.sampled_from(["a", "b", "c", "d"])


@settings(max_examples=150)
@given(st.lists(st.tuples(*[st.lists(words, min_size=1, max_size=4)] * 2), max_size=25))
def test_every_pair_is_a_question_or_refused_once_and_partners_are_each_others_patch(texts):
    pairs = [MinimalPair("t", "", " ".join(good), " ".join(bad)) for good, bad in texts]
    encode = Words()
    examples, refused = word_examples(pairs, encode, context_length=3, rng=np.random.default_rng(0))
    assert len(examples) + refused.total() == len(pairs)
    assert set(refused) <= set(REASONS)
    asked = {tuple(encode(pair.good)): tuple(encode(pair.bad)) for pair in pairs}
    for e in examples:
        for prefix, answer in ((e.clean_tokens, e.clean_token), (e.patch_tokens, e.patch_token)):
            assert any(good[: len(prefix) + 1] == (*prefix, answer) for good in asked)
        assert e.clean_token != e.patch_token


def test_the_log_probability_of_a_sequence_is_that_of_its_tokens_one_by_one(model):
    rng = np.random.default_rng(0)
    sequences = [(tuple(rng.integers(0, 40, size=n).tolist()), start) for n, start in ((4, 1), (7, 3), (4, 3), (9, 1))]
    found = sequence_log_probs(model, sequences, batch_size=2)
    for (tokens, start), value in zip(sequences, found, strict=True):
        with torch.no_grad():
            log_probs = model(torch.tensor([tokens])).logits[0].double().log_softmax(dim=-1)
        expected = sum(float(log_probs[at - 1, tokens[at]]) for at in range(start, len(tokens)))
        assert value == pytest.approx(expected, abs=1e-4)


def sentence(clean, patch, task="s"):
    return Example(
        task, "file", "", "", "", "", "", clean, patch, -1, -1, scoring="sequence", clean_start=1, patch_start=1
    )


def test_the_more_probable_sentence_is_the_right_one_beside_other_examples(model, examples):
    pairs = [sentence((0, 5, 6), (0, 7, 8, 9)), sentence((0, 7, 8, 9), (0, 5, 6))]
    mixed = [pairs[0], *examples, pairs[1]]
    rows = score_examples(model, mixed, step=3, batch_size=4)
    first, last = rows["logit_diff"].iloc[0], rows["logit_diff"].iloc[-1]
    expected = sequence_log_probs(model, [((0, 5, 6), 1), ((0, 7, 8, 9), 1)], batch_size=1)
    assert first == pytest.approx(expected[0] - expected[1])
    assert first == pytest.approx(-last)
    assert rows["loss_answer"].iloc[0] == pytest.approx(-expected[0])
    alone = score_examples(model, examples, step=3, batch_size=4)
    np.testing.assert_allclose(rows["logit_diff"].iloc[1:-1], alone["logit_diff"], atol=1e-5)


def test_sentences_survive_the_file_and_are_not_offered_for_attribution(examples, tmp_path):
    mixed = [*examples, sentence((0, 5, 6), (0, 7, 8, 9))]
    write_examples(tmp_path / "examples.jsonl", mixed)
    assert read_examples(tmp_path / "examples.jsonl") == mixed
    assert set(task_lines(mixed)) == {"planted"}


def test_an_example_that_cannot_be_scored_is_refused(examples):
    with pytest.raises(ValueError, match="scored from token 1 of 1"):
        sentence((0,), (0, 1))
    with pytest.raises(ValueError, match="scoring is 'guess'"):
        Example("t", "file", "", "", "", "", "", (1,), (2,), 1, 2, scoring="guess")
    mixed = TaskDraft("planted", "file", [*examples, sentence((0, 1), (0, 2))])
    with pytest.raises(ValueError, match="mixes examples that are scored in different ways"):
        select_tasks([mixed], max_examples=9, min_examples=1, seed=0)
