from collections import Counter

import numpy as np
import pytest

from snapcoder.storage.tokens import TokenTable
from snapcoder.tasks.agreement import AgreementTask, WordPair, agreement_tasks, mine_agreement

HE, THEY, END, LENGTH = 3, 4, 0, 5


def random_table(seed=0, n_sequences=120, context=24):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 7, size=(n_sequences, context)).astype(np.uint16)
    doc = np.repeat(np.arange(n_sequences)[:, None], context, axis=1).astype(np.int32)
    doc[::3, 12:] += 1000  # a document ends in the middle of some sequences
    tokens[::3, 11] = END
    split = (np.arange(n_sequences) % 2).astype(np.uint8)
    return TokenTable(tokens, doc, split, vocab_size=7, end_of_text=END, tokenizer_sha256="x")


HE_THEY = (WordPair("he", "they", HE, THEY),)


def mine(table, max_examples=1000, pairs=HE_THEY, seed=0, ending=2):
    task = AgreementTask("number", tuple(pairs), shared_ending=ending)
    return mine_agreement(table, task, length=LENGTH, max_examples=max_examples, rng=np.random.default_rng(seed))


def contexts_followed_by(table, token):
    """The slow, obvious way: every held-out context of one document that `token` follows."""
    found = []
    for row in np.flatnonzero(table.split == 1):
        for position in range(LENGTH, table.context_length):
            window = slice(position - LENGTH, position + 1)
            if table.tokens[row, position] == token and len(set(table.doc[row, window].tolist())) == 1:
                context = tuple(table.tokens[row, window][:-1].tolist())
                if END not in context:
                    found.append(context)
    return Counter(found)


def test_both_prefixes_are_held_out_contexts_that_their_own_answer_follows():
    table = random_table()
    followed = {token: contexts_followed_by(table, token) for token in (HE, THEY)}
    examples = mine(table).examples
    assert len(examples) > 20
    for example in examples:
        assert {example.clean_token, example.patch_token} == {HE, THEY}
        assert followed[example.clean_token][example.clean_tokens] > 0
        assert followed[example.patch_token][example.patch_tokens] > 0


def test_no_context_is_used_more_often_than_it_occurs():
    table = random_table()
    used = {HE: Counter(), THEY: Counter()}
    for example in mine(table).examples:
        used[example.clean_token][example.clean_tokens] += 1
        used[example.patch_token][example.patch_tokens] += 1
    for token, counts in used.items():
        assert counts <= contexts_followed_by(table, token)


@pytest.mark.parametrize("ending", [0, 1, 2])
def test_a_model_that_sees_the_shared_ending_only_is_exactly_at_chance(ending):
    table = random_table()
    scores = np.random.default_rng(5).normal(size=(7,) * (ending + 1))  # any scores of (ending, next token)
    examples = mine(table, ending=ending).examples
    clean_counts = Counter(example.clean_token for example in examples)
    assert abs(clean_counts[HE] - clean_counts[THEY]) <= 1
    right = []
    for e in examples:
        seen = [tokens[len(tokens) - ending :] for tokens in (e.clean_tokens, e.patch_tokens)]
        assert seen[0] == seen[1]
        # The same pair, asked from either side: right on exactly one of the two.
        for prefix, answer, other in zip(seen, (HE, THEY), (THEY, HE), strict=True):
            right.append(scores[(*prefix, answer)] > scores[(*prefix, other)])
    assert np.mean(right) == 0.5


def test_mining_is_reproducible_and_counts_what_found_no_partner():
    table = random_table()
    first, second = mine(table), mine(table)
    assert first == second
    occurrences = sum(contexts_followed_by(table, token).total() for token in (HE, THEY))
    assert first.n_rejected == occurrences - 2 * len(first.examples)


def test_with_few_places_word_pairs_take_turns():
    table = random_table()
    mined = mine(table, max_examples=8, pairs=(WordPair("he", "they", HE, THEY), WordPair("his", "their", 5, 6)))
    assert Counter(example.case for example in mined.examples) == {"he/they": 4, "his/their": 4}


def test_only_pairs_of_single_tokens_are_found_and_the_mixed_tasks_have_them_all():
    vocabulary = {"Ġhe": 1, "Ġthey": 2, "Ġhis": 3, "their": 4, "Ġwas": 5, "Ġwere": 6}
    tasks = {task.name: task for task in agreement_tasks(vocabulary, space="Ġ")}
    he_they, was_were = WordPair("he", "they", 1, 2), WordPair("was", "were", 5, 6)
    assert tasks["pronoun_number"].pairs == (he_they,)
    assert tasks["verb_number"].pairs == (was_were,)
    assert tasks["noun_number"].described == "word pairs of single tokens: none"
    assert set(tasks["agreement_far"].pairs) == {he_they, was_were}
    endings = {name: task.shared_ending for name, task in tasks.items()}
    assert (endings["agreement_near"], endings["pronoun_number"], endings["agreement_far"]) == (0, 1, 2)
