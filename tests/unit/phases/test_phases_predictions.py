import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.phases import average_predictions
from snapcoder.phases.grouped_sums import GroupedSums
from snapcoder.phases.predictions import UNITS, score_predictions
from snapcoder.tables.phases import BEHAVIOUR, BEHAVIOUR_DRAWS

VOCAB, LENGTH = 6, 12


class ToyNgrams:
    """A bigram table and its stationary unigram distribution; the trigram is the bigram."""

    def __init__(self, seed=0, vocab=VOCAB):
        rng = np.random.default_rng(seed)
        self.table = rng.dirichlet(np.full(vocab, 0.5), size=vocab) * 0.99 + 0.01 / vocab
        values, vectors = np.linalg.eig(self.table.T)
        stationary = np.abs(np.real(vectors[:, np.argmax(np.real(values))]))
        self.unigram = stationary / stationary.sum()

    def bigram_probabilities(self, prev):
        return self.table[prev]

    def trigram_probabilities(self, prev2, prev):
        return self.table[prev]

    def log_prob(self, tokens, order, *, doc=None):
        result = np.log(self.unigram)[tokens]
        if order > 1:
            inside = doc[:, 1:] == doc[:, :-1]
            result[:, 1:][inside] = np.log(self.table)[tokens[:, :-1][inside], tokens[:, 1:][inside]]
        return result

    def sample(self, n_sequences, seed=1):
        rng = np.random.default_rng(seed)
        cumulative = self.table.cumsum(axis=1)
        tokens = np.zeros((n_sequences, LENGTH), dtype=np.int64)
        tokens[:, 0] = rng.choice(len(self.unigram), p=self.unigram, size=n_sequences)
        for t in range(1, LENGTH):
            draw = rng.random(n_sequences)[:, None]
            tokens[:, t] = np.minimum((draw > cumulative[tokens[:, t - 1]]).sum(axis=1), len(self.unigram) - 1)
        return tokens


def corpus(ngrams, n_sequences=120, n_docs=30):
    tokens = ngrams.sample(n_sequences)
    doc = np.repeat(np.arange(n_sequences) * n_docs // n_sequences, LENGTH).reshape(tokens.shape)
    return tokens, doc


def score(log_probs, tokens, doc, ngrams, *, size=17, bootstrap=100, seed=0):
    batches = (
        (log_probs[i : i + size].astype(np.float32), tokens[i : i + size], doc[i : i + size])
        for i in range(0, len(tokens), size)
    )
    metrics, draws = score_predictions(batches, ngrams=ngrams, bootstrap=bootstrap, seed=seed)
    return metrics.set_index("metric"), draws


def noisy_model(ngrams, tokens, seed=3):
    logits = np.log(ngrams.table)[tokens] + np.random.default_rng(seed).normal(size=(*tokens.shape, VOCAB))
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_a_model_that_is_the_bigram_has_no_distance_to_it_and_uses_nothing_beyond():
    ngrams = ToyNgrams()
    tokens, doc = corpus(ngrams)
    metrics, _ = score(np.log(ngrams.table)[tokens], tokens, doc, ngrams)
    at_zero = ("kl_bi_context", "kl_bi_marginal", "mi_beyond_bigram", "gap_h2", "gap_h3", "js_bi_context", "tv_ruleset")
    for name in at_zero:
        assert metrics.value[name] == pytest.approx(0, abs=2e-6), name
    for name in ("agreement", "ruleset_agreement", "r2_ngram_regression"):
        assert metrics.value[name] == pytest.approx(1, abs=1e-6), name
    assert metrics.value["ruleset_trigram"] == 0  # the trigram says the same: the shorter context is enough
    assert metrics.value["kl_uni_context"] > 0.05
    context = tokens[:, :-1].ravel()
    mean = ngrams.table[context].mean(axis=0)
    expected = -(mean * np.log(mean)).sum() + (ngrams.table[context] * np.log(ngrams.table[context])).sum(1).mean()
    assert metrics.value["mi_ctx"] == pytest.approx(expected, abs=1e-5)


def test_a_model_that_is_the_unigram_is_at_zero_from_it():
    ngrams = ToyNgrams()
    tokens, doc = corpus(ngrams)
    metrics, _ = score(np.broadcast_to(np.log(ngrams.unigram), (*tokens.shape, VOCAB)), tokens, doc, ngrams)
    for name in ("kl_uni_context", "kl_uni_marginal", "mi_ctx", "mi_beyond_bigram", "gap_h1"):
        assert metrics.value[name] == pytest.approx(0, abs=1e-6), name


def test_a_uniform_model_is_at_log_v_minus_h1_from_the_unigram():
    ngrams = ToyNgrams()
    tokens, doc = corpus(ngrams)
    metrics, _ = score(np.full((*tokens.shape, VOCAB), -np.log(VOCAB)), tokens, doc, ngrams)
    h1 = -(ngrams.unigram * np.log(ngrams.unigram)).sum()
    assert metrics.value["kl_uni_marginal"] == pytest.approx(np.log(VOCAB) - h1, abs=1e-6)
    assert metrics.value["kl_uni_context"] == pytest.approx(np.log(VOCAB) - h1, abs=1e-6)
    assert metrics.value["loss"] == pytest.approx(np.log(VOCAB), abs=1e-6)
    assert metrics.value["entropy"] == pytest.approx(np.log(VOCAB), abs=1e-6)


def test_row_t_is_scored_against_token_t_plus_one():
    ngrams = ToyNgrams()
    tokens = (np.arange(LENGTH)[None] + np.arange(4)[:, None]) % VOCAB  # deterministic: the next token is the successor
    doc = np.repeat(np.arange(4), LENGTH).reshape(4, LENGTH)
    log_probs = np.full((4, LENGTH, VOCAB), -np.inf)
    np.put_along_axis(log_probs, ((tokens + 1) % VOCAB)[..., None], 0.0, axis=2)
    metrics, _ = score(log_probs, tokens, doc, ngrams)
    assert metrics.value["loss"] == 0
    assert metrics.value["entropy"] == pytest.approx(0, abs=1e-6)
    assert metrics.n["loss"] == 4 * (LENGTH - 1)
    assert metrics.value["top1"] == 1
    # every log-probability is the same: there is nothing for a regression to explain
    assert list(metrics.index[~np.isfinite(metrics["value"])]) == ["r2_ngram_regression"]


def test_predictions_over_a_document_border_and_of_padding_do_not_count():
    ngrams = ToyNgrams()
    tokens, doc = corpus(ngrams, n_sequences=8, n_docs=8)
    doc[:, LENGTH // 2 :] += 100
    doc[0] = -1
    log_probs = noisy_model(ngrams, tokens)
    reference, _ = score(log_probs, tokens, doc, ngrams)
    assert reference.n["loss"] == 7 * (LENGTH - 2)
    changed = log_probs.copy()
    changed[0] = -np.log(VOCAB)
    changed[:, LENGTH // 2 - 1] = -np.log(VOCAB)  # predicts the first token of the second document
    changed[:, -1] = -np.log(VOCAB)  # predicts a token that is not there
    again, _ = score(changed, tokens, doc, ngrams)
    np.testing.assert_array_equal(again["value"], reference["value"])


def test_every_metric_equals_a_direct_computation():
    ngrams = ToyNgrams()
    tokens, doc = corpus(ngrams)
    log_q = noisy_model(ngrams, tokens)[:, :-1].reshape(-1, VOCAB)
    u, target = tokens[:, :-1].ravel(), tokens[:, 1:].ravel()
    inside = (doc[:, 1:] == doc[:, :-1]).ravel()
    log_q, u, target = log_q[inside], u[inside], target[inside]
    q, p1, p2 = np.exp(log_q), ngrams.unigram, ngrams.table[u]
    by_u = {w: q[u == w].mean(axis=0) for w in range(VOCAB)}
    share = np.bincount(u, minlength=VOCAB) / len(u)
    entropy = -(q * log_q).sum(axis=1).mean()

    def h(p):
        return -(p * np.log(p)).sum()

    def js(p):
        mixed = (p + q) / 2
        return ((p * np.log(p / mixed)).sum(axis=1) + (q * np.log(q / mixed)).sum(axis=1)).mean() / 2

    variation = np.stack([np.abs(q - p).sum(axis=1) / 2 for p in (p1, p2)])
    own = log_q[np.arange(len(u)), target]
    design = np.stack([np.ones(len(u)), np.log(p1[target]), np.log(p2[np.arange(len(u)), target])], axis=1)
    residual = own - design @ np.linalg.lstsq(design, own, rcond=None)[0]
    top = np.sort(q.mean(axis=0))[::-1][: VOCAB // 2]
    zipf = np.polyfit(np.log([1, 2, 3]), np.log(top), 1, w=np.sqrt([1, 1 / 2, 1 / 3]))[0]

    expected = {
        "loss": -log_q[np.arange(len(u)), target].mean(),
        "entropy": entropy,
        "gap_h1": -np.log(p1[target]).mean() + log_q[np.arange(len(u)), target].mean(),
        "agreement": (q.argmax(axis=1) == p2.argmax(axis=1)).mean(),
        "kl_uni_context": (p1 * (np.log(p1) - log_q)).sum(axis=1).mean(),
        "kl_bi_context": (p2 * (np.log(p2) - log_q)).sum(axis=1).mean(),
        "kl_tri_context": (p2 * (np.log(p2) - log_q)).sum(axis=1).mean(),
        "js_uni_context": js(p1[None]),
        "js_bi_context": js(p2),
        "top1": (q.argmax(axis=1) == target).mean(),
        "tv_ruleset": variation.min(axis=0).mean(),
        "ruleset_agreement": (
            q.argmax(axis=1) == np.where(variation[0] <= variation[1], p1.argmax(), p2.argmax(axis=1))
        ).mean(),
        "r2_ngram_regression": 1 - (residual**2).sum() / ((own - own.mean()) ** 2).sum(),
        "zipf_slope": zipf,
        "kl_uni_marginal": (p1 * np.log(p1 / q.mean(axis=0))).sum(),
        "kl_bi_marginal": sum(
            share[w] * (ngrams.table[w] * np.log(ngrams.table[w] / by_u[w])).sum() for w in range(VOCAB) if share[w]
        ),
        "mi_ctx": h(q.mean(axis=0)) - entropy,
        "mi_beyond_bigram": sum(share[w] * h(by_u[w]) for w in range(VOCAB) if share[w]) - entropy,
    }
    metrics, _ = score(noisy_model(ngrams, tokens), tokens, doc, ngrams)
    for name, value in expected.items():
        assert metrics.value[name] == pytest.approx(value, abs=2e-5), name


def test_draws_resample_the_same_documents_for_every_model_and_batching_does_not_matter():
    ngrams = ToyNgrams()
    tokens, doc = corpus(ngrams)
    log_probs = noisy_model(ngrams, tokens)
    _, draws = score(log_probs, tokens, doc, ngrams)
    _, again = score(log_probs, tokens, doc, ngrams, size=50)
    np.testing.assert_allclose(again["value"], draws["value"], rtol=1e-5, atol=1e-7)
    _, shifted = score(np.log(ngrams.table)[tokens], tokens, doc, ngrams)
    # h1 − loss + loss = h1 on the drawn documents, whatever the model is
    h1 = [
        d.pivot(index="draw", columns="metric", values="value")[["gap_h1", "loss"]].sum(axis=1)
        for d in (draws, shifted)
    ]
    np.testing.assert_allclose(h1[0], h1[1], atol=1e-6)
    assert h1[0].std() > 0


def test_intervals_agree_with_resampling_documents_exactly():
    ngrams = ToyNgrams()
    tokens, doc = corpus(ngrams, n_sequences=400, n_docs=100)
    log_probs = noisy_model(ngrams, tokens)
    log_probs[doc % 2 == 0] = np.log(ngrams.table)[tokens[doc % 2 == 0]]  # documents differ
    metrics, _ = score(log_probs, tokens, doc, ngrams, bootstrap=400)
    rng = np.random.default_rng(0)
    exact = {name: [] for name in UNITS}
    rows = [np.flatnonzero(doc[:, 0] == i) for i in range(100)]
    for _ in range(60):
        chosen = np.concatenate([rows[i] for i in rng.integers(0, 100, 100)])
        renamed = np.arange(len(chosen))[:, None] + np.zeros((1, LENGTH), dtype=int)
        found, _ = score(log_probs[chosen], tokens[chosen], renamed, ngrams, bootstrap=1, size=500)
        for name in UNITS:
            exact[name].append(found.value[name])
    for name in set(UNITS) - {"zipf_slope_unigram"}:  # a fact about the n-gram model, without an interval
        spread = (metrics.ci_hi[name] - metrics.ci_lo[name]) / 3.92
        assert spread == pytest.approx(np.std(exact[name]), rel=0.35), name
        assert metrics.ci_lo[name] <= metrics.value[name] <= metrics.ci_hi[name], name


def test_one_document_gives_values_without_intervals():
    ngrams = ToyNgrams()
    tokens, doc = corpus(ngrams, n_sequences=4, n_docs=1)
    metrics, draws = score(noisy_model(ngrams, tokens), tokens, doc, ngrams)
    assert metrics["value"].notna().all()
    assert metrics["ci_lo"].isna().all()
    assert len(draws) == 0


def test_large_vocabularies_hold_bounded_sums_and_give_no_conditional_interval(monkeypatch):
    ngrams = ToyNgrams()
    tokens, doc = corpus(ngrams)
    log_probs = noisy_model(ngrams, tokens)
    full, _ = score(log_probs, tokens, doc, ngrams)
    monkeypatch.setattr(average_predictions, "DENSE_VOCABULARY", 2)
    wide, draws = score(log_probs, tokens, doc, ngrams)
    np.testing.assert_allclose(wide["value"], full["value"], atol=1e-5)
    assert wide.loc[["kl_bi_marginal", "mi_beyond_bigram"], "ci_lo"].isna().all()
    assert "mi_beyond_bigram" not in set(draws["metric"])
    monkeypatch.setattr(average_predictions, "MAX_VALUES", 2 * VOCAB)  # room for two conditioning tokens
    small, _ = score(log_probs, tokens, doc, ngrams)
    most_frequent = np.argsort(-ngrams.unigram)[:2]
    assert small.n["mi_beyond_bigram"] == np.isin(tokens[:, :-1], most_frequent).sum()
    assert small.n["mi_ctx"] == full.n["mi_ctx"]


def test_bad_predictions_are_refused():
    ngrams = ToyNgrams()
    tokens, doc = corpus(ngrams, n_sequences=4)
    log_probs = noisy_model(ngrams, tokens)
    with pytest.raises(ValueError, match="not a number"):
        score(np.where(np.arange(VOCAB) == 2, np.nan, log_probs), tokens, doc, ngrams)
    with pytest.raises(ValueError, match="over 5 tokens, but the n-gram models know 6"):
        score(log_probs[..., :5], tokens, doc, ngrams)
    with pytest.raises(ValueError, match="no prediction to score"):
        score(log_probs, tokens, np.arange(tokens.size).reshape(tokens.shape), ngrams)


def test_the_frames_fit_their_tables():
    ngrams = ToyNgrams()
    tokens, doc = corpus(ngrams)
    metrics, draws = score(noisy_model(ngrams, tokens), tokens, doc, ngrams, bootstrap=20)
    assert {"step", *metrics.reset_index().columns} == {column.name for column in BEHAVIOUR.columns}
    assert {"step", *draws.columns} == {column.name for column in BEHAVIOUR_DRAWS.columns}
    assert len(draws) == 20 * (len(UNITS) - 1)  # the slope of the n-gram model itself does not vary


@settings(max_examples=40, deadline=None)
@given(keys=st.lists(st.integers(0, 40), min_size=1, max_size=60), cuts=st.integers(1, 9), limit=st.integers(1, 12))
def test_bounded_sums_keep_the_same_whole_groups_whatever_the_batches(keys, cuts, limit):
    keys = np.array(keys)
    rows = np.arange(len(keys), dtype=np.float64)[:, None] + 1
    found = []
    for size in (len(keys), cuts):
        sums = GroupedSums(1, dtype=np.float64, limit=limit, group_bits=2)
        for i in range(0, len(keys), size):
            sums.add(keys[i : i + size], rows[i : i + size])
        found.append(sums.result())
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    kept, counts, values = found[0]
    assert len(kept) <= limit
    groups = set(range(int(keys.max() >> 2) + 1)) if len(set(keys)) <= limit else set((kept >> 2).tolist())
    for key, count, value in zip(kept, counts, values, strict=True):
        assert count == (keys == key).sum()
        assert value[0] == rows[keys == key].sum()
    whole = [key for key in sorted(set(keys.tolist())) if key >> 2 in groups]
    assert whole == kept.tolist()
