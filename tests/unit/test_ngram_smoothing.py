"""Jelinek–Mercer, add-k and Kneser–Ney against hand counts, optimality, and the implementation of NLTK."""

from itertools import product

import numpy as np
import pytest

from snapcoder.ngram_fitting import fit_smoothings, ngram_entropies
from snapcoder.ngram_smoothing import AddK, JelinekMercer
from snapcoder.ngrams import KINDS, NgramModel, count_ngrams

TOKENS = np.array([[0, 1, 0, 1, 2, 0], [1, 0, 1, 1, 0, 2]])
DOC = np.array([[0] * 6, [1] * 6])
VOCAB = 4


def model_of(tokens, doc, vocab_size, discounts):
    counts = [count_ngrams(tokens, doc, order=n, vocab_size=vocab_size) for n in (1, 2, 3)]
    return NgramModel(vocab_size, *counts, discounts=discounts)


@pytest.fixture
def model():
    return model_of(TOKENS, DOC, VOCAB, {kind: np.array([0.5, 0.8, 1.2]) for kind in KINDS})


def test_probabilities_are_those_computed_by_hand(model):
    # 0 five times, 1 five times, 2 twice, of 12; after 1: 0 three times, 1 once, 2 once, of 5; after 0 1: 0, 1, 2 of 3
    one, two, three = 5 / 12, 3 / 5, 1 / 3
    mixed = JelinekMercer(model, (0.9, 0.8, 0.5))
    p1 = 0.9 * one + 0.1 / 4
    p2 = 0.8 * two + 0.2 * p1
    p3 = 0.5 * three + 0.5 * p2
    text = np.array([[0, 1, 0]])
    for order, p in ((1, p1), (2, p2), (3, p3)):
        assert np.exp(mixed.log_prob(text, order)[0, 2]) == pytest.approx(p)
    added = AddK(model, (1.0, 0.5, 0.1))
    for order, p in ((1, 6 / 16), (2, 3.5 / 7), (3, 1.1 / 3.4)):
        assert np.exp(added.log_prob(text, order)[0, 2]) == pytest.approx(p)
    unseen = np.array([[3, 3, 0]])
    assert np.exp(mixed.log_prob(unseen, 3)[0, 2]) == pytest.approx(p1)  # back to what is known
    assert np.exp(added.log_prob(unseen, 3)[0, 2]) == pytest.approx(1 / 4)
    border = np.array([[0, 1, 1]])  # a document begins at the last token
    np.testing.assert_allclose(mixed.log_prob(text, 3, doc=border)[0, 2], np.log(p2))
    np.testing.assert_allclose(added.log_prob(text, 3, doc=np.array([[0, 1, 2]])), added.log_prob(text, 1))


def test_every_distribution_sums_to_one(model):
    for smoothing in (JelinekMercer(model, (0.9, 0.8, 0.5)), AddK(model, (1.0, 0.5, 0.1)), model):
        for order, a, b in product((1, 2, 3), range(VOCAB), range(VOCAB)):
            text = np.array([[a, b, w] for w in range(VOCAB)])
            assert np.exp(smoothing.log_prob(text, order)[:, 2]).sum() == pytest.approx(1)


def test_the_fitted_parameters_are_the_best_on_new_text_of_the_same_source():
    rng = np.random.default_rng(0)
    chain = rng.dirichlet(np.full(40, 0.5), size=40).cumsum(axis=1)
    tokens = rng.integers(0, 40, (700, 12))
    for t in range(1, 12):
        tokens[:, t] = np.minimum((rng.random((700, 1)) > chain[tokens[:, t - 1]]).sum(axis=1), 39)
    doc = np.repeat(np.arange(700), 12).reshape(700, 12)
    model, mixed, added = fit_smoothings(tokens[:200], doc[:200], vocab_size=40, fit_share=0.25)
    for order in (2, 3):
        best = mixed.log_prob(tokens[200:], order, doc=doc[200:]).mean()
        for other in (0.02, 0.98):
            weights = (*mixed.weights[: order - 1], other, 0.5)[:3]
            assert best > JelinekMercer(model, weights).log_prob(tokens[200:], order, doc=doc[200:]).mean()
        best = added.log_prob(tokens[200:], order, doc=doc[200:]).mean()
        for factor in (0.05, 20):
            scaled = tuple(factor * value for value in added.added)
            assert best > AddK(model, scaled).log_prob(tokens[200:], order, doc=doc[200:]).mean()
    assert mixed.weights[1] > mixed.weights[2]  # the chain has no third order
    others = {"jelinek_mercer": mixed, "add_k": added}
    table = ngram_entropies(model, tokens[200:], doc[200:], others=others, draws=50, generator=np.random.default_rng(0))
    table = table.set_index(["order", "smoothing"])
    assert table["interpolation"].between(0, 1).all()
    spread = [np.ptp(table.loc[order, "cross_entropy"]) for order in (1, 2, 3)]
    assert spread[0] < 0.01  # plentiful counts: smoothing does not matter
    assert spread[2] > spread[1] > spread[0]
    assert (table["ci_lo"] < table["cross_entropy"]).all()
    assert table["n_tokens"].nunique() == 1


@pytest.mark.parametrize("discount", [0.1, 0.75])
def test_kneser_ney_agrees_with_nltk(discount):
    lm = pytest.importorskip("nltk.lm", reason="nltk is not installed")
    rng = np.random.default_rng(0)
    tokens = rng.choice(6, size=(40, 15), p=[0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
    doc = np.repeat(np.arange(40), 15).reshape(40, 15)
    peer = lm.KneserNeyInterpolated(3, discount=discount)
    rows = [[str(token) for token in row] for row in tokens.tolist()]
    grams = [[tuple(row[i : i + n]) for n in (1, 2, 3) for i in range(len(row) - n + 1)] for row in rows]
    peer.fit(grams, vocabulary_text=[token for row in rows for token in row])
    # NLTK has one discount and leaves the lowest order as it is counted
    discounts = {kind: np.full(3, discount) for kind in KINDS} | {"continuation_unigram": np.zeros(3)}
    model = model_of(tokens, doc, 6, discounts)
    for a, b, w in product(range(6), repeat=3):
        ours = np.exp(model.log_prob(np.array([[a, b, w]]), 3)[0, 2])
        assert ours == pytest.approx(peer.score(str(w), [str(a), str(b)]), abs=1e-12)
