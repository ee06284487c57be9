import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control, kstest

from snapcoder.evolution.document_segments import document_runs, pieces, segment_bounds
from snapcoder.evolution.multiplicity import benjamini_hochberg
from snapcoder.evolution.permutation import WithinDocuments, pooled_p, rate_bins

D = 12


def topical(seed, n_docs=60, length=40, n_features=80):
    """Codes and activations that share nothing but their documents: how often features fire, and the mean of x."""
    rng = np.random.default_rng(seed)
    doc = np.repeat(np.arange(n_docs), length)
    rate = np.clip(0.05 * rng.lognormal(0, 1, (n_docs, n_features)) * rng.lognormal(0, 0.7, n_features), 0, 0.6)
    code = rng.exponential(size=(len(doc), n_features)) * (rng.random((len(doc), n_features)) < rate[doc])
    shift = np.concatenate([rate @ rng.standard_normal((n_features, D)), np.zeros((0, D))])
    x = rng.standard_normal((len(doc), D)) * np.linspace(2, 0.5, D) + 3 * shift[doc]
    return csr_array(code.astype(np.float32)), x.astype(np.float32), doc


def statistics(z, x, doc, *, permutations=20, per_bin=10, seed=0, size=None):
    """Return p, and the pieces that it is made of."""
    count, square = np.bincount(z.indices, minlength=z.shape[1]), z.power(2).sum(axis=0)
    bins = rate_bins(count, np.asarray(square), min_count=5, per_bin=per_bin)
    within = WithinDocuments(
        z.shape[1], x.shape[1], bins=bins, permutations=permutations, generator=np.random.default_rng(seed)
    )
    for start in range(0, len(x), size or len(x)):
        part = slice(start, start + (size or len(x)))
        within.add(z[part], x[part], doc[part])
    inside = z.T @ x - within.between
    observed = (inside**2).sum(axis=1) / np.where(within.expected > 0, within.expected, np.nan)
    drawn = (within.drawn**2).sum(axis=2) / within.expected[bins.sampled]
    return pooled_p(observed, drawn, bins), within, bins


def test_p_is_uniform_when_code_and_activations_share_only_their_documents():
    p = np.concatenate([statistics(*topical(seed), seed=seed)[0] for seed in range(6)])
    p = p[~np.isnan(p)]
    assert len(p) > 400
    assert kstest(p, "uniform").pvalue > 0.01
    assert abs((p <= 0.05).mean() - 0.05) < 0.025


def test_shared_documents_alone_would_look_like_presence():
    z, x, doc = topical(0)
    p, _, _ = statistics(z, x, np.zeros_like(doc))  # permuted over all documents
    assert (p <= 0.05).mean() > 0.4


def test_the_false_discovery_rate_holds_among_planted_features():
    false, power = [], []
    for seed in range(6):
        z, x, doc = topical(seed)
        rng = np.random.default_rng(100 + seed)
        real = rng.random(z.shape[1]) < 0.3
        x = x + (z.toarray() * real) @ rng.standard_normal((z.shape[1], D)).astype(np.float32)
        found = benjamini_hochberg(statistics(z, x, doc, permutations=40)[0]) <= 0.05
        false.append((found & ~real).sum() / max(found.sum(), 1))
        power.append(found[real].mean())
    assert np.mean(false) <= 0.08
    assert np.mean(power) > 0.8


def test_the_expected_energy_is_the_mean_over_permutations():
    z, x, doc = topical(1, n_features=12)
    _, within, bins = statistics(z, x, doc, permutations=400, per_bin=100)
    assert len(bins.sampled) == len(bins.bin[bins.bin >= 0])
    ratio = (within.drawn**2).sum(axis=2).mean(axis=0) / within.expected[bins.sampled]
    np.testing.assert_allclose(ratio, 1, atol=0.15)
    np.testing.assert_allclose(ratio.mean(), 1, atol=0.04)
    np.testing.assert_allclose(within.drawn.mean(axis=0) / np.sqrt(within.expected[bins.sampled])[:, None], 0, atol=0.2)


def test_the_part_between_documents_is_what_no_permutation_changes():
    z, x, doc = topical(2)
    _, within, _ = statistics(z, x, doc, permutations=1)
    dense = z.toarray()
    expected = sum(
        (doc == k).sum() * np.outer(dense[doc == k].mean(axis=0), x[doc == k].mean(axis=0)) for k in range(doc[-1] + 1)
    )
    np.testing.assert_allclose(within.between, expected, rtol=1e-3, atol=1e-2)


def test_numbering_of_features_does_not_matter():
    z, x, doc = topical(3)
    order = np.random.default_rng(0).permutation(z.shape[1])
    plain = statistics(z, x, doc)[0]
    renamed = statistics(csr_array(z.toarray()[:, order]), x, doc)[0]
    np.testing.assert_allclose(renamed, plain[order])


def test_units_of_the_activations_do_not_matter():
    z, x, doc = topical(4)
    np.testing.assert_array_equal(statistics(z, x, doc)[0], statistics(z, 8 * x, doc)[0])


def test_p_counts_the_draws_of_the_features_own_decile():
    bins = rate_bins(np.array([1, 2, 3, 4, 5, 100, 101, 102, 103, 104, 0.0]), np.arange(11), min_count=1, per_bin=2)
    assert list(bins.bin) == [0] * 5 + [1] * 5 + [-1]
    assert list(bins.sampled) == [0, 4, 5, 9]
    drawn = np.array([[1.0, 2.0, 10.0, 20.0], [3.0, 4.0, 30.0, 40.0]])
    observed = np.array([2.5, 0, 9, 4, 4, 9, 25, 50, 40, 40, 99.0])
    expected = np.array([3, 5, 1, 2, 2, 5, 3, 1, 2, 2, np.nan]) / 5
    np.testing.assert_allclose(pooled_p(observed, drawn, bins), expected)


def test_without_features_to_test_every_p_is_undefined():
    bins = rate_bins(np.zeros(4), np.zeros(4), min_count=5, per_bin=3)
    assert np.isnan(pooled_p(np.ones(4), np.zeros((3, 0)), bins)).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), max_size=30))
def test_q_values_are_those_of_scipy(values):
    p = np.array(values, dtype=float)
    known = ~np.isnan(p)
    q = benjamini_hochberg(p)
    assert np.isnan(q[~known]).all()
    if known.any():
        np.testing.assert_allclose(q[known], false_discovery_control(p[known]))


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    at_most=st.integers(1, 6),
    size=st.integers(1, 15),
)
def test_segments_hold_whole_documents_and_pieces_cover_every_row_once(lengths, at_most, size):
    doc = np.repeat(np.arange(len(lengths)) * 3, lengths)
    bounds = segment_bounds(doc, at_most=at_most)
    assert bounds[0] == 0
    assert bounds[-1] == len(doc)
    assert len(bounds) - 1 <= min(at_most, len(lengths))
    assert all(doc[b] != doc[b - 1] for b in bounds[1:-1])
    seen = []
    for start in range(0, len(doc), size):
        stop = min(start + size, len(doc))
        for segment, part in pieces(start, stop, bounds):
            rows = np.arange(start, stop)[part]
            assert (bounds[segment] <= rows).all()
            assert (rows < bounds[segment + 1]).all()
            seen.extend(rows)
    assert seen == list(range(len(doc)))


@pytest.mark.parametrize("doc, runs", [([5, 5, 2, 2, 2, 5], [0, 0, 1, 1, 1, 2]), ([], []), ([1], [0])])
def test_a_document_that_comes_back_is_a_new_run(doc, runs):
    assert list(document_runs(np.array(doc))) == runs
