import numpy as np
import pytest

from snapcoder.ngram_fitting import fit_ngrams
from snapcoder.storage.tokens import TokenTable
from snapcoder.tasks.cloze import BEYOND, ENDING, WITHIN, Contexts, draw_contexts, mine_cloze

END, VOCAB, LENGTH = 0, 9, 6


def far_text(seed=0, n_sequences=160, context=24):
    """Half of the tokens repeat the token five places back, which no trigram sees; the rest follow 1 2 3 1 2 3."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, VOCAB, size=(n_sequences, context))
    for position in range(5, context):
        how = rng.random(n_sequences)
        copied, cycled = how < 0.5, (how >= 0.5) & (tokens[:, position - 1] <= 3)
        tokens[copied, position] = tokens[copied, position - 5]
        tokens[cycled, position] = tokens[cycled, position - 1] % 3 + 1
    doc = np.repeat(np.arange(n_sequences)[:, None], context, axis=1).astype(np.int32)
    doc[::4, 12:] += 1000
    tokens[::4, 11] = END
    split = (np.arange(n_sequences) % 2).astype(np.uint8)
    return TokenTable(tokens.astype(np.uint16), doc, split, VOCAB, END, "x")


@pytest.fixture(scope="module")
def table():
    return far_text()


@pytest.fixture(scope="module")
def ngrams(table):
    train = table.sequences(0)
    return fit_ngrams(table.tokens[train], table.doc[train], vocab_size=VOCAB, fit_share=0.3)


def copies(prefixes):
    """A model that knows the rule: the token five places back, and else a guess from the last two."""
    logits = np.zeros((len(prefixes), VOCAB))
    at = np.arange(len(prefixes))
    logits[at, prefixes[:, -1] % 3 + 1] += 0.5
    logits[at, prefixes[:, -5]] += 2.0
    return logits


def drawn(table, n=3000, seed=0):
    return draw_contexts(table, length=LENGTH, n_contexts=n, rng=np.random.default_rng(seed))


def mine(table, ngrams, predict=copies, max_examples=60, seed=0):
    return mine_cloze(
        drawn(table, seed=seed), ngrams, predict, max_examples=max_examples, rng=np.random.default_rng(seed)
    )


def trigram(ngrams, prefix):
    """P(· | prefix) token by token, through the scoring of text rather than whole distributions."""
    rows = np.stack([np.append(prefix[-ENDING:], token) for token in range(VOCAB)])
    return np.exp(ngrams.log_prob(rows, 3)[:, -1])


def test_contexts_are_all_held_out_places_of_one_document_without_an_end_of_text(table):
    found = drawn(table, n=10**6)
    expected = set()
    for row in np.flatnonzero(table.split == 1):
        for position in range(LENGTH, table.context_length):
            window = slice(position - LENGTH, position + 1)
            one_document = len(set(table.doc[row, window].tolist())) == 1
            if one_document and END not in table.tokens[row, window]:
                expected.add((*table.tokens[row, window].tolist(), int(table.doc[row, position])))
    rows = zip(found.tokens.tolist(), found.answer.tolist(), found.doc.tolist(), strict=True)
    assert {(*tokens, answer, doc) for tokens, answer, doc in rows} == expected
    assert len(drawn(table, n=50).answer) == 50


def test_beyond_the_trigram_is_what_only_the_model_knows_and_the_patch_prefix_undoes_it(table, ngrams):
    mined = mine(table, ngrams)
    assert len(mined.beyond) > 30
    for example in mined.beyond:
        clean, patch = np.array(example.clean_tokens), np.array(example.patch_tokens)
        right, other = example.clean_token, example.patch_token
        p = trigram(ngrams, clean)
        assert p[other] == pytest.approx(p.max())
        assert p[other] > p[right] * (1 + 1e-9)
        np.testing.assert_allclose(trigram(ngrams, patch), p)  # the trigram cannot tell the two prefixes apart
        assert copies(clean[None]).argmax() == right
        logits = copies(patch[None])[0]
        assert logits[other] > logits[right]
        assert (example.task, example.kind) == (BEYOND, "cloze")


def test_within_the_trigram_both_are_right_and_answers_are_as_frequent_as_beyond(table, ngrams):
    mined = mine(table, ngrams)
    assert len(mined.within) == len(mined.beyond) > 30
    for example in mined.within:
        p = trigram(ngrams, np.array(example.clean_tokens))
        assert p.argmax() == example.clean_token
        p[example.clean_token] = 0
        assert p[example.patch_token] == pytest.approx(p.max())
        logits = copies(np.array([example.patch_tokens]))[0]
        assert logits[example.patch_token] > logits[example.clean_token]
        assert example.task == WITHIN
    log_unigram = np.log(ngrams.unigram)
    mean = {
        name: np.mean([log_unigram[example.clean_token] for example in getattr(mined, name)])
        for name in ("beyond", "within")
    }
    assert mean["within"] == pytest.approx(mean["beyond"], abs=0.15)


def test_patch_prefixes_begin_like_a_context_of_another_document_and_examples_of_a_document_are_one_cluster(
    table, ngrams
):
    contexts = drawn(table)
    beginnings = {}
    for tokens, doc in zip(contexts.tokens[:, :-ENDING].tolist(), contexts.doc.tolist(), strict=True):
        beginnings.setdefault(tuple(tokens), set()).add(doc)
    for example in mine(table, ngrams).beyond:
        own = int(example.cluster.removeprefix("document "))
        assert beginnings[example.patch_tokens[:-ENDING]] != {own}


def test_a_model_that_knows_no_more_than_a_trigram_has_nothing_beyond_it(table, ngrams):
    mined = mine(table, ngrams, predict=lambda prefixes: ngrams.trigram_probabilities(prefixes[:, -2], prefixes[:, -1]))
    assert (mined.beyond, mined.n_beyond) == ([], 0)
    assert mined.within == []  # as many controls as there are examples
    assert mined.n_within > 50


def test_a_model_that_ignores_the_beginning_has_no_patch_prefix(table, ngrams):
    """Right by chance beyond the trigram, and still right whatever the beginning: no example, and so no control."""
    fixed = np.random.default_rng(3).normal(size=(VOCAB, VOCAB, VOCAB))
    mined = mine(table, ngrams, predict=lambda prefixes: fixed[prefixes[:, -2], prefixes[:, -1]])
    assert mined.n_beyond > 10
    assert (mined.beyond, mined.within) == ([], [])


def test_the_number_of_examples_is_bounded_and_mining_twice_gives_the_same(table, ngrams):
    few = mine(table, ngrams, max_examples=7)
    assert (len(few.beyond), len(few.within)) == (7, 7)
    assert mine(table, ngrams) == mine(table, ngrams)
    assert mine(table, ngrams) != mine(table, ngrams, seed=1)


def test_no_context_gives_no_example(ngrams):
    none = np.zeros(0, dtype=np.int64)
    empty = Contexts(np.zeros((0, LENGTH), dtype=np.int64), none, none)
    mined = mine_cloze(empty, ngrams, copies, max_examples=5, rng=np.random.default_rng(0))
    assert (mined.beyond, mined.within, mined.n_contexts) == ([], [], 0)


def test_contexts_of_a_single_document_still_find_a_beginning(table, ngrams):
    contexts = drawn(table)
    one = Contexts(contexts.tokens, contexts.answer, np.zeros_like(contexts.doc))
    mined = mine_cloze(one, ngrams, copies, max_examples=5, rng=np.random.default_rng(0))
    assert {example.cluster for example in mined.beyond} == {"document 0"}
