"""The n-gram models against hand counts, brute force and known Markov chains (and the defects of PEERS D7)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.job import Job
from snapcoder.ngram_fitting import (
    chain_cross_entropy,
    fit_ngrams,
    held_back,
    in_sample_entropy,
    ngram_entropies,
)
from snapcoder.ngrams import KINDS, NgramModel, continuation_counts, count_ngrams
from snapcoder.steps.ngrams import ngrams
from snapcoder.storage.ngrams import read_ngrams, write_ngrams
from snapcoder.storage.tables import read_table
from snapcoder.storage.tokens import TokenTable, write_tokens

DISCOUNTS = {kind: np.array([0.5, 0.8, 1.2]) for kind in KINDS}


def model_of(tokens, doc, vocab_size, discounts=DISCOUNTS):
    counts = [count_ngrams(tokens, doc, order=n, vocab_size=vocab_size) for n in (1, 2, 3)]
    return NgramModel(vocab_size, *counts, discounts=discounts)


def markov(transition, *, rows, length, seed):
    """Sample rows of a Markov chain that starts uniformly."""
    rng = np.random.default_rng(seed)
    edges = np.cumsum(transition, axis=1)
    tokens = np.zeros((rows, length), dtype=np.int64)
    tokens[:, 0] = rng.integers(0, len(transition), rows)
    for position in range(1, length):
        tokens[:, position] = (rng.random((rows, 1)) > edges[tokens[:, position - 1]]).sum(axis=1)
    return np.minimum(tokens, len(transition) - 1)


def brute_counts(tokens, doc, order):
    found = {}
    for row, documents in zip(tokens.tolist(), doc.tolist(), strict=True):
        for place in range(len(row) - order + 1):
            if len(set(documents[place : place + order])) == 1:
                gram = tuple(row[place : place + order])
                found[gram] = found.get(gram, 0) + 1
    return found


def brute_probability(grams, order, gram, discounts):
    """Interpolated modified Kneser–Ney by plain recursion over dictionaries."""

    def level(counts, kind, gram, lower):
        c_gram = counts.get(gram, 0)
        same = [c for other, c in counts.items() if other[:-1] == gram[:-1]]
        if not same:
            return lower
        d = discounts[kind]
        mass = sum(d[min(c, 3) - 1] for c in same)
        own = c_gram - d[min(c_gram, 3) - 1] if c_gram else 0.0
        return (own + mass * lower) / sum(same)

    def without_first(counts):
        shorter = {}
        for other in counts:
            shorter[other[1:]] = shorter.get(other[1:], 0) + 1
        return shorter

    if order == 1:
        return level(grams[1], "unigram", gram, 1 / grams["vocab"])
    lowest = level(without_first(grams[2]), "continuation_unigram", gram[-1:], 1 / grams["vocab"])
    if order == 2:
        return level(grams[2], "bigram", gram, lowest)
    middle = level(without_first(grams[3]), "continuation_bigram", gram[1:], lowest)
    return level(grams[3], "trigram", gram, middle)


corpora = st.integers(2, 6).flatmap(
    lambda vocab: st.tuples(
        st.just(vocab),
        st.lists(st.lists(st.integers(0, vocab - 1), min_size=5, max_size=5), min_size=2, max_size=12),
        st.lists(st.integers(1, 9), min_size=1, max_size=8),
    )
)


def arrays(corpus):
    vocab, rows, lengths = corpus
    tokens = np.array(rows)
    borders = np.cumsum(lengths)
    doc = np.searchsorted(borders, np.arange(tokens.size), side="right").reshape(tokens.shape)
    return vocab, tokens, doc.astype(np.int32)


def test_counts_of_a_small_corpus_are_those_counted_by_hand():
    tokens = np.array([[0, 1, 0, 1], [2, 2, 0, 1]])
    doc = np.array([[0, 0, 0, 0], [0, 1, 1, 1]])  # a border after the first token of the second row
    bigrams = count_ngrams(tokens, doc, order=2, vocab_size=3)
    trigrams = count_ngrams(tokens, doc, order=3, vocab_size=3)
    assert dict(zip(bigrams.key.tolist(), bigrams.count.tolist(), strict=True)) == {1: 3, 3: 1, 6: 1}
    assert dict(zip(trigrams.key.tolist(), trigrams.count.tolist(), strict=True)) == {3: 1, 10: 1, 19: 1}


def test_probabilities_of_a_small_corpus_are_those_computed_by_hand():
    tokens, doc = np.array([[0, 1, 0, 1, 0, 0]]), np.zeros((1, 6), dtype=np.int32)
    model = model_of(tokens, doc, 3)
    # unigram: 0 four times, 1 twice; D(4)=1.2, D(2)=0.8; mass 2/6 spread over three tokens
    np.testing.assert_allclose(
        model.unigram, [(4 - 1.2) / 6 + 2 / 18, (2 - 0.8) / 6 + 2 / 18, 2 / 18], rtol=0, atol=1e-15
    )
    # after 1 came 0 twice: (2 − 0.8)/2, and 0.4 goes to the continuation unigram
    # continuation: 0 after two tokens, 1 after one; D(2)=0.8, D(1)=0.5; mass 1.3/3 over three tokens
    lower = np.array([1.2 / 3, 0.5 / 3, 0]) + 1.3 / 9
    np.testing.assert_allclose(model.bigram_probabilities(np.array([1]))[0], [0.6, 0, 0] + 0.4 * lower, atol=1e-15)
    np.testing.assert_allclose(model.bigram_probabilities(np.array([2]))[0], lower, atol=1e-15)


@settings(max_examples=40, deadline=None)
@given(corpora)
def test_counts_agree_with_a_plain_loop_on_any_corpus(corpus):
    vocab, tokens, doc = arrays(corpus)
    for order in (1, 2, 3):
        counts = count_ngrams(tokens, doc, order=order, vocab_size=vocab)
        expected = {
            sum(token * vocab ** (order - 1 - j) for j, token in enumerate(gram)): count
            for gram, count in brute_counts(tokens, doc, order).items()
        }
        assert dict(zip(counts.key.tolist(), counts.count.tolist(), strict=True)) == expected


@settings(max_examples=30, deadline=None)
@given(corpora, st.tuples(*[st.floats(0.01, j + 0.99) for j in range(3)]))
def test_every_distribution_is_positive_and_sums_to_one_over_the_vocabulary(corpus, discounts):
    vocab, tokens, doc = arrays(corpus)
    model = model_of(tokens, doc, vocab, {kind: np.array(discounts) for kind in KINDS})
    prev = np.arange(vocab)
    first, second = (grid.ravel() for grid in np.meshgrid(prev, prev))
    for table in (model.unigram[None], model.bigram_probabilities(prev), model.trigram_probabilities(first, second)):
        assert (table > 0).all()
        np.testing.assert_allclose(table.sum(axis=1), 1, rtol=0, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(corpora)
def test_probabilities_agree_with_a_recursion_over_dictionaries(corpus):
    vocab, tokens, doc = arrays(corpus)
    model = model_of(tokens, doc, vocab)
    grams = {order: brute_counts(tokens, doc, order) for order in (1, 2, 3)} | {"vocab": vocab}
    rng = np.random.default_rng(0)
    for a, b, c in rng.integers(0, vocab, (12, 3)).tolist():
        trigram = model.trigram_probabilities(np.array([a]), np.array([b]))[0, c]
        bigram = model.bigram_probabilities(np.array([b]))[0, c]
        assert trigram == pytest.approx(brute_probability(grams, 3, (a, b, c), DISCOUNTS), abs=1e-12)
        assert bigram == pytest.approx(brute_probability(grams, 2, (b, c), DISCOUNTS), abs=1e-12)
        assert model.unigram[c] == pytest.approx(brute_probability(grams, 1, (c,), DISCOUNTS), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(corpora)
def test_log_prob_reads_the_same_distributions_and_stays_within_documents(corpus):
    vocab, tokens, doc = arrays(corpus)
    model = model_of(tokens, doc, vocab)
    for order in (1, 2, 3):
        got = model.log_prob(tokens, order, doc=doc)
        for row, position in np.ndindex(tokens.shape):
            own = [p for p in range(position) if doc[row, p] == doc[row, position]]
            context = tokens[row, own[len(own) - min(order - 1, len(own)) :]]
            table = {
                0: lambda c: model.unigram,
                1: lambda c: model.bigram_probabilities(c)[0],
                2: lambda c: model.trigram_probabilities(c[:1], c[1:])[0],
            }[len(context)](context)
            assert got[row, position] == pytest.approx(np.log(table[tokens[row, position]]), abs=1e-12)


def test_large_vocabularies_give_the_same_bigrams_without_a_dense_table(monkeypatch):
    tokens = np.random.default_rng(0).integers(0, 9, (20, 8))
    doc = np.zeros_like(tokens)
    dense = model_of(tokens, doc, 10).bigram_probabilities(np.arange(10))
    monkeypatch.setattr("snapcoder.ngrams.DENSE_VOCABULARY", 1)
    sparse = model_of(tokens, doc, 10)
    np.testing.assert_array_equal(sparse.bigram_probabilities(np.arange(10)), dense)
    assert "_dense_bigram" not in vars(sparse)


def test_counting_in_blocks_gives_the_same_counts(monkeypatch):
    tokens = np.random.default_rng(1).integers(0, 5, (40, 6))
    doc = np.repeat(np.arange(10), 4)[:, None] * np.ones((1, 6), dtype=np.int64)
    whole = count_ngrams(tokens, doc, order=3, vocab_size=5)
    monkeypatch.setattr("snapcoder.ngrams.BLOCK_TOKENS", 18)
    blocks = count_ngrams(tokens, doc, order=3, vocab_size=5)
    np.testing.assert_array_equal(blocks.key, whole.key)
    np.testing.assert_array_equal(blocks.count, whole.count)


def test_rows_shorter_than_the_order_hold_no_ngrams():
    tokens = np.array([[0, 1], [1, 0]])
    counts = count_ngrams(tokens, np.zeros_like(tokens), order=3, vocab_size=2)
    assert len(counts.key) == 0
    np.testing.assert_allclose(
        model_of(tokens, np.zeros_like(tokens), 2).trigram_probabilities([0], [1]).sum(), 1, atol=1e-14
    )


def test_continuation_counts_say_after_how_many_different_tokens():
    tokens = np.array([[0, 1, 0, 1, 2, 1]])
    bigrams = count_ngrams(tokens, np.zeros_like(tokens), order=2, vocab_size=3)
    assert continuation_counts(bigrams, 3, order=2).count.tolist() == [1, 2, 1]


def test_the_model_of_a_markov_chain_has_the_chains_entropy_rate():
    rng = np.random.default_rng(3)
    transition = rng.dirichlet(np.full(6, 0.5), size=6)
    values, vectors = np.linalg.eig(transition.T)
    stationary = np.real(vectors[:, np.argmax(values.real)])
    stationary /= stationary.sum()
    rate = -(stationary[:, None] * transition * np.log(np.maximum(transition, 1e-300))).sum()
    tokens = markov(transition, rows=3000, length=40, seed=4)
    doc = np.repeat(np.arange(len(tokens)), 40).reshape(tokens.shape)
    model = fit_ngrams(tokens[:2000], doc[:2000], vocab_size=6, fit_share=0.2)
    table = ngram_entropies(model, tokens[2000:], doc[2000:], others={}, draws=50, generator=np.random.default_rng(0))
    entropy = table.set_index("order")["cross_entropy"]
    assert entropy[2] == pytest.approx(rate, abs=0.01)
    assert entropy[3] == pytest.approx(rate, abs=0.012)  # a longer context adds nothing
    assert entropy[1] > entropy[2] + 0.1
    np.testing.assert_allclose(model.bigram_probabilities(np.arange(6)), transition, atol=0.03)
    assert (table["ci_lo"] <= table["cross_entropy"]).all()
    assert (table["cross_entropy"] <= table["ci_hi"]).all()


def test_a_sequence_with_a_fixed_cycle_is_predicted_at_the_right_place():
    # 0 1 2 3 0 1 2 3 …: an off-by-one in context or target would make each wrong token likely instead
    tokens = np.tile(np.arange(4), (30, 8))
    doc = np.repeat(np.arange(30), 32).reshape(tokens.shape)
    model = fit_ngrams(tokens, doc, vocab_size=4, fit_share=0.1)
    prev = np.arange(4)
    assert (model.bigram_probabilities(prev).argmax(axis=1) == (prev + 1) % 4).all()
    assert (model.trigram_probabilities(prev, (prev + 1) % 4).argmax(axis=1) == (prev + 2) % 4).all()
    assert np.exp(model.log_prob(tokens, 2)[:, 1:]).min() > 0.95
    assert np.exp(model.log_prob(tokens, 3)[:, 2:]).min() > 0.95


def test_the_trigram_tells_the_older_token_from_the_newer_one():
    tokens = np.array([[0, 1, 2], [1, 0, 3]] * 10)
    model = model_of(tokens, np.repeat(np.arange(20), 3).reshape(tokens.shape), 4)
    assert model.trigram_probabilities([0], [1])[0].argmax() == 2
    assert model.trigram_probabilities([1], [0])[0].argmax() == 3


def test_contexts_without_counts_fall_back_and_stay_finite():
    tokens = np.array([[0, 1, 2, 0, 1, 2]] * 4)
    model = fit_ngrams(tokens, np.repeat(np.arange(4), 6).reshape(tokens.shape), vocab_size=8, fit_share=0.25)
    never = np.array([5, 7])
    np.testing.assert_array_equal(model.trigram_probabilities(never, never), model.bigram_probabilities(never))
    assert np.isfinite(model.log_prob(np.array([[7, 7, 7]]), 3)).all()


def test_the_gradient_of_the_likelihood_is_that_of_finite_differences():
    rng = np.random.default_rng(5)
    count = rng.integers(0, 5, (2, 40)).astype(float)
    banded = rng.integers(1, 4, (2, 40, 3)).astype(float)
    total = np.where(rng.random((2, 40)) < 0.2, 0, count + banded @ np.array([1, 2, 4]) + 1)
    count, banded = np.where(total > 0, count, 0), np.where(total[..., None] > 0, banded, 0)
    levels = [(count[i], total[i], banded[i]) for i in range(2)]
    point = rng.uniform(0.2, 0.9, (2, 3))
    value, gradient = chain_cross_entropy(levels, list(point), floor=0.1)
    for place in np.ndindex(2, 3):
        moved = point.copy()
        moved[place] += 1e-6
        slope = (chain_cross_entropy(levels, list(moved), floor=0.1)[0] - value) / 1e-6
        assert gradient[place[0]][place[1]] == pytest.approx(slope, abs=1e-5)


def test_fitted_discounts_beat_others_on_new_text_of_the_same_chain():
    transition = np.random.default_rng(6).dirichlet(np.full(40, 0.1), size=40)
    tokens = markov(transition, rows=400, length=20, seed=7)
    doc = np.repeat(np.arange(400), 20).reshape(tokens.shape)
    fitted = fit_ngrams(tokens[:300], doc[:300], vocab_size=40, fit_share=0.2)
    for value in ([0.05, 0.05, 0.05], [0.95, 1.9, 2.9]):
        other = model_of(tokens[:300], doc[:300], 40, {kind: np.array(value) for kind in KINDS})
        for order in (2, 3):
            better, worse = (m.log_prob(tokens[300:], order, doc=doc[300:]).mean() for m in (fitted, other))
            assert better > worse


def test_held_back_sequences_are_whole_documents_of_about_the_asked_share():
    doc = np.repeat(np.arange(50), 4)
    held = held_back(doc, share=0.1)
    assert held.sum() == 20
    assert all(len(set(held[doc == document])) == 1 for document in range(50))
    assert held_back(np.zeros(30, dtype=int), share=0.1).sum() == 3  # one document: every tenth sequence
    assert held_back(np.zeros(2, dtype=int), share=0.01).tolist() == [False, True]


def test_in_sample_entropy_is_the_closed_form():
    tokens, doc = np.array([[0, 0, 1, 1, 0]]), np.zeros((1, 5), dtype=int)
    counts = count_ngrams(tokens, doc, order=2, vocab_size=2)  # 00, 01, 11, 10: each once
    assert in_sample_entropy(counts, 2) == pytest.approx(np.log(2))
    unigram = count_ngrams(tokens, doc, order=1, vocab_size=2)
    assert in_sample_entropy(unigram, 2) == pytest.approx(-(0.6 * np.log(0.6) + 0.4 * np.log(0.4)))


def test_held_out_text_is_never_used_for_fitting(tmp_path):
    first, second = (run_step(tmp_path / name, heldout_seed=seed) for name, seed in (("a", 1), ("b", 2)))
    assert [c.tolist() for c in first.discounts.values()] == [c.tolist() for c in second.discounts.values()]
    np.testing.assert_array_equal(first.unigram, second.unigram)


def run_step(folder, *, heldout_seed):
    tokens = np.concatenate(
        [np.random.default_rng(0).integers(0, 7, (40, 10)), np.random.default_rng(heldout_seed).integers(0, 7, (8, 10))]
    )
    doc = np.repeat(np.arange(24), 20).reshape(tokens.shape).astype(np.int32)
    split = np.array([0] * 40 + [1] * 8, dtype=np.uint8)
    folder.mkdir()
    write_tokens(folder / "tokens.h5", TokenTable(tokens.astype(np.uint16), doc, split, 8, 7, "0" * 64), {})
    outputs = {"model": (folder / "ngrams.h5",), "table": (folder / "entropy.parquet",)}
    job = Job("ngrams", {"tokens": (folder / "tokens.h5",)}, outputs, {"ngrams": {"bootstrap": 20}}, 1, {"step": "x"})
    ngrams(job)
    return read_ngrams(folder / "ngrams.h5")


def test_the_step_writes_a_valid_table_and_the_same_bytes_each_time(tmp_path):
    run_step(tmp_path / "a", heldout_seed=1)
    run_step(tmp_path / "b", heldout_seed=1)
    table = read_table(tmp_path / "a/entropy.parquet")
    assert table["order"].tolist() == [1] * 3 + [2] * 3 + [3] * 3
    assert table["smoothing"].tolist() == ["add_k", "jelinek_mercer", "kneser_ney"] * 3
    assert table["n_tokens"].nunique() == 1
    assert table["cross_entropy"].to_numpy() == pytest.approx(np.log(7), abs=0.3)
    for name in ("ngrams.h5", "entropy.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_file_whose_counts_were_changed_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    tokens = np.random.default_rng(0).integers(0, 5, (10, 6))
    model = model_of(tokens, np.zeros_like(tokens), 5)
    write_ngrams(tmp_path / "ngrams.h5", model, {})
    again = read_ngrams(tmp_path / "ngrams.h5")
    np.testing.assert_array_equal(again.trigram_probabilities([0], [1]), model.trigram_probabilities([0], [1]))
    with h5py.File(tmp_path / "ngrams.h5", "r+") as file:
        file["bigram/count"][0] += 1
    with pytest.raises(ValueError, match="not those that were written"):
        read_ngrams(tmp_path / "ngrams.h5")


def test_one_sequence_is_too_few_and_an_unknown_order_is_named():
    tokens = np.array([[0, 1, 0]])
    with pytest.raises(ValueError, match="need at least 2"):
        fit_ngrams(tokens, np.zeros_like(tokens), vocab_size=2, fit_share=0.1)
    with pytest.raises(ValueError, match="order 4"):
        model_of(tokens, np.zeros_like(tokens), 2).log_prob(tokens, 4)
