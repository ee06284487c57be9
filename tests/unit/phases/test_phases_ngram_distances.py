"""Distances to n-gram models, the regression on them, and slopes of averages: closed forms, scipy, plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import linregress

from snapcoder.ngrams import KINDS, NgramModel, count_ngrams
from snapcoder.phases.average_predictions import zipf_slopes
from snapcoder.phases.ngram_distances import NgramPredictions, distances, entropy
from snapcoder.phases.ngram_regression import ngram_regression
from snapcoder.phases.predictions import collect_scores, score_predictions
from snapcoder.phases.resampling import document_weights


def random_model(vocab=7, rows=60, length=16, seed=0):
    tokens = np.random.default_rng(seed).choice(vocab, size=(rows, length), p=np.arange(vocab, 0, -1) / 28)
    doc = np.repeat(np.arange(rows), length).reshape(rows, length)
    counts = [count_ngrams(tokens, doc, order=n, vocab_size=vocab) for n in (1, 2, 3)]
    return NgramModel(vocab, *counts, {kind: np.array([0.5, 0.8, 1.2]) for kind in KINDS}), tokens, doc


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_divergences_agree_with_scipy_and_stay_in_their_bounds(vocab, seed):
    p, q = np.random.default_rng(seed).dirichlet(np.full(vocab, 0.5), size=(2, 4)).astype(np.float32)
    q = np.maximum(q, np.float32(np.exp(-80)))
    kl, js, variation = distances(q, np.log(q), p, entropy_q=entropy(q), entropy_p=entropy(p))
    np.testing.assert_allclose(js, jensenshannon(p, q, axis=1) ** 2, atol=3e-6)
    wide = p.astype(np.float64)
    direct = (wide * (np.log(np.maximum(wide, 1e-300)) - np.log(q.astype(np.float64)))).sum(axis=1)
    np.testing.assert_allclose(kl, direct, atol=2e-5)
    np.testing.assert_allclose(variation, np.abs(wide - q).sum(axis=1) / 2, atol=1e-6)
    assert (js <= np.log(2)).all()
    assert (2 * variation**2 <= kl + 1e-5).all()  # Pinsker


def test_disjoint_distributions_are_log_two_and_one_apart():
    p, q = np.array([[1, 0, 0, 0]], dtype=np.float32), np.array([[0, 0.5, 0.5, 0]], dtype=np.float32)
    log_q = np.maximum(np.log(np.maximum(q, 1e-38)), -80)
    _, js, variation = distances(q, log_q, p, entropy_q=entropy(q), entropy_p=entropy(p))
    assert js[0] == pytest.approx(np.log(2), abs=1e-6)
    assert variation[0] == 1


def test_a_model_that_is_the_trigram_is_at_zero_from_it_whatever_the_vocabulary_allows(monkeypatch):
    model, tokens, doc = random_model()
    logs = np.log(np.stack([model.bigram_probabilities(row) for row in tokens]))
    logs[:, 1:] = np.log(np.stack([model.trigram_probabilities(row[:-1], row[1:]) for row in tokens]))
    found = {}
    for limit in (4096, 1):
        monkeypatch.setattr("snapcoder.phases.ngram_distances.DENSE_VOCABULARY", limit)
        monkeypatch.setattr("snapcoder.ngrams.DENSE_VOCABULARY", limit)
        model, _, _ = random_model()
        batch = [(logs.astype(np.float32), tokens, doc)]
        found[limit] = score_predictions(batch, ngrams=model, bootstrap=20, seed=0)[0].set_index("metric")["value"]
        for name in ("kl_tri_context", "js_tri_context", "tv_ruleset", "gap_h3"):
            assert found[limit][name] == pytest.approx(0, abs=2e-6), name
        assert found[limit]["ruleset_trigram"] > 0.5
        assert found[limit]["kl_bi_context"] > 0.01
    np.testing.assert_allclose(found[1], found[4096], atol=1e-6)


def test_the_trigram_never_reaches_over_a_document_border():
    model, tokens, doc = random_model(rows=4)
    reference = NgramPredictions(model)
    previous, token = np.array([-1, 3]), np.array([2, 2])
    found, _ = reference.trigram(previous, token)
    np.testing.assert_allclose(found[0], model.bigram_probabilities(np.array([2]))[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], model.trigram_probabilities([3], [2])[0], rtol=1e-6)
    doc[:, 5:] += 10
    logs = np.full((*tokens.shape, 7), -np.log(7), dtype=np.float32)
    scores = collect_scores([(logs, tokens, doc)], ngrams=model)
    first = scores.row("position") == 5  # the second token of the second document: its context is one token
    expected = entropy(model.bigram_probabilities(tokens[:, 5]))
    np.testing.assert_allclose(np.log(7) - scores.row("kl_tri_context")[first], expected, atol=1e-5)


def regression_by_repetition(response, predictors, place, counts):
    rows = np.concatenate([np.repeat(np.flatnonzero(place == i), int(count)) for i, count in enumerate(counts)])
    design = np.concatenate([np.ones((len(rows), 1)), predictors[rows]], axis=1)
    residual = response[rows] - design @ np.linalg.lstsq(design, response[rows], rcond=None)[0]
    return 1 - (residual**2).sum() / ((response[rows] - response[rows].mean()) ** 2).sum()


def test_the_regression_under_any_weights_is_least_squares_on_repeated_documents():
    rng = np.random.default_rng(0)
    place = rng.integers(0, 12, 300)
    predictors = rng.normal(size=(300, 3)) - 5
    response = predictors @ [0.2, -1.0, 0.5] + rng.normal(size=300)
    weights = document_weights(12, draws=5, seed=1)
    found = ngram_regression(response, predictors, place, weights)
    expected = [regression_by_repetition(response, predictors, place, counts) for counts in weights]
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_the_regression_finds_planted_weights_and_survives_copies_and_constants():
    rng = np.random.default_rng(0)
    predictors, place = rng.normal(size=(50, 3)), np.repeat(np.arange(5), 10)
    weights = document_weights(5, draws=10, seed=0)
    np.testing.assert_allclose(ngram_regression(predictors @ [1, 2, 3] + 7, predictors, place, weights), 1)
    copied = predictors[:, [0, 0, 1]]
    np.testing.assert_allclose(ngram_regression(copied @ [1, 2, 3], copied, place, weights), 1)
    assert np.isnan(ngram_regression(np.full(50, -6.2), predictors, place, weights)).all()
    noise = ngram_regression(rng.normal(size=50), np.zeros((50, 3)), place, weights)
    np.testing.assert_allclose(noise, 0, atol=1e-12)


def test_the_slope_of_a_zipf_law_is_its_exponent_however_tokens_are_numbered():
    law = 1.0 / np.arange(1, 401) ** 0.8
    law /= law.sum()
    shuffled = np.random.default_rng(0).permutation(law)
    np.testing.assert_allclose(zipf_slopes(np.stack([shuffled, shuffled])), -0.8, atol=1e-12)
    bent = law.copy()
    bent[200:] *= 1e-3  # the lower half of the ranks does not count
    assert zipf_slopes(bent[None])[0] == pytest.approx(-0.8)
    np.testing.assert_allclose(zipf_slopes(np.full((1, 400), 1 / 400)), 0, atol=1e-12)
    assert np.isnan(zipf_slopes(np.array([[0.6, 0.4]]))).all()


def test_the_slope_weighs_stretches_of_the_log_axis_by_their_length():
    p = np.random.default_rng(0).dirichlet(np.ones(60))
    top = np.sort(p)[::-1][:30]
    rank = np.repeat(np.arange(1, 31), np.round(2520 / np.arange(1, 31)).astype(int))  # ≈ weights of 1/rank
    assert zipf_slopes(p[None])[0] == pytest.approx(linregress(np.log(rank), np.log(top[rank - 1])).slope, abs=1e-3)
