"""Text sampled from n-gram models has their statistics, and a model that is the n-gram has no excess on it."""

import numpy as np
import pytest

from snapcoder.job import Job
from snapcoder.ngram_fitting import fit_ngrams
from snapcoder.phases.ngram_text import sample_ngram_text, text_losses, text_metrics
from snapcoder.steps.ngram_text import ngram_text
from snapcoder.storage.ngram_text import read_ngram_text, write_ngram_text
from snapcoder.storage.ngrams import write_ngrams
from snapcoder.storage.tokens import TokenTable, write_tokens

VOCAB, END = 8, 0


@pytest.fixture(scope="module")
def ngrams():
    rng = np.random.default_rng(0)
    transition = rng.dirichlet(np.full(VOCAB, 0.6), size=(VOCAB, VOCAB))  # the next token depends on two
    tokens = np.zeros((600, 20), dtype=np.int64)
    tokens[:, :2] = rng.integers(0, VOCAB, (600, 2))
    for t in range(2, 20):
        edges = transition[tokens[:, t - 2], tokens[:, t - 1]].cumsum(axis=1)
        tokens[:, t] = np.minimum((rng.random((600, 1)) > edges).sum(axis=1), VOCAB - 1)
    doc = np.repeat(np.arange(600), 20).reshape(600, 20)
    return fit_ngrams(tokens, doc, vocab_size=VOCAB, fit_share=0.2)


def predictions(ngrams, text, order):
    """Log-probabilities of a model that is the n-gram model of an order, on all sequences."""
    tokens, doc = (part.reshape(-1, part.shape[-1]) for part in (text.tokens, text.doc))
    logs = np.log(np.broadcast_to(ngrams.unigram, (*tokens.shape, VOCAB))).copy()
    for row, position in np.ndindex(tokens.shape):
        last = tokens[row, position : position + 1]
        inside = position > 0 and doc[row, position - 1] == doc[row, position]
        if order == 3 and inside:
            logs[row, position] = np.log(ngrams.trigram_probabilities(tokens[row, position - 1 : position], last)[0])
        elif order >= 2:
            logs[row, position] = np.log(ngrams.bigram_probabilities(last)[0])
    return logs


def metrics(ngrams, text, order, cuts=(5, 16)):
    logs = predictions(ngrams, text, order)
    batches = np.split(logs, list(cuts))
    return text_metrics(text_losses(batches, text), bootstrap=50, seed=0)


@pytest.mark.parametrize("order, name", [(1, "unigram"), (2, "bigram"), (3, "trigram")])
def test_a_model_that_is_the_ngram_has_no_excess_on_its_own_text(ngrams, order, name):
    text = sample_ngram_text(ngrams, sequences=12, length=15, end_of_text=END, seed=0)
    found, draws = metrics(ngrams, text, order)
    found = found.set_index("metric")
    assert found.value[f"excess_on_{name}_text"] == pytest.approx(0, abs=1e-12)
    others = {"unigram", "bigram", "trigram"} - {name}
    assert all(found.value[f"excess_on_{other}_text"] > 0 for other in others)
    assert found.ci_lo[f"loss_on_{name}_text"] < found.value[f"loss_on_{name}_text"]
    spread = draws.pivot(index="draw", columns="metric", values="value")[f"excess_on_{name}_text"]
    np.testing.assert_allclose(spread, 0, atol=1e-12)


def test_sampled_text_has_the_probabilities_that_it_was_sampled_from(ngrams):
    text = sample_ngram_text(ngrams, sequences=6000, length=4, end_of_text=-1, seed=1)
    share = np.bincount(text.tokens[0].ravel(), minlength=VOCAB) / text.tokens[0].size
    np.testing.assert_allclose(share, ngrams.unigram, atol=0.015)
    for a in range(3):
        after = text.tokens[1, :, 1:][text.tokens[1, :, :-1] == a]
        expected = ngrams.bigram_probabilities(np.array([a]))[0]
        np.testing.assert_allclose(np.bincount(after, minlength=VOCAB) / len(after), expected, atol=0.05)
    pair = (text.tokens[2, :, 1] == 1) & (text.tokens[2, :, 2] == 2)
    expected = ngrams.trigram_probabilities([1], [2])[0]
    observed = np.bincount(text.tokens[2, pair, 3], minlength=VOCAB) / pair.sum()
    np.testing.assert_allclose(observed, expected, atol=5 * np.sqrt(0.25 / pair.sum()))


def test_an_end_of_text_starts_a_new_document_which_is_not_predicted_from_the_old_one(ngrams):
    text = sample_ngram_text(ngrams, sequences=40, length=15, end_of_text=END, seed=0)
    ended = text.tokens[:, :, :-1] == END
    np.testing.assert_array_equal(text.doc[:, :, 1:] != text.doc[:, :, :-1], ended)
    assert len(np.unique(text.doc[0])) == 40 + ended[0].sum()
    after = text.log_prob[2, :, 1:][ended[2]]
    np.testing.assert_allclose(after, np.log(ngrams.unigram)[text.tokens[2, :, 1:][ended[2]]])
    found, _ = metrics(ngrams, text, 3)
    assert found.set_index("metric").n["loss_on_trigram_text"] == (~ended[2]).sum()


def test_the_same_seed_gives_the_same_text_and_more_sequences_keep_the_first_ones(ngrams, monkeypatch):
    text = sample_ngram_text(ngrams, sequences=9, length=6, end_of_text=END, seed=3)
    monkeypatch.setattr("snapcoder.phases.ngram_text.CHUNK_VALUES", 2 * VOCAB)
    more = sample_ngram_text(ngrams, sequences=14, length=6, end_of_text=END, seed=3)
    np.testing.assert_array_equal(more.tokens[:, :9], text.tokens)
    np.testing.assert_array_equal(more.log_prob[:, :9], text.log_prob)
    assert (sample_ngram_text(ngrams, sequences=9, length=6, end_of_text=END, seed=4).tokens != text.tokens).any()


def test_a_single_sequence_has_values_without_intervals_and_nan_is_refused(ngrams):
    text = sample_ngram_text(ngrams, sequences=1, length=6, end_of_text=-1, seed=0)
    found, draws = metrics(ngrams, text, 1, cuts=())
    assert found["value"].notna().all()
    assert found["ci_lo"].isna().all()
    assert len(draws) == 0
    with pytest.raises(ValueError, match="not a number"):
        text_losses([np.full((3, 6, VOCAB), np.nan)], text)


def test_the_step_writes_text_that_reads_back_and_a_changed_file_is_refused(ngrams, tmp_path):
    tokens = np.zeros((4, 11), dtype=np.uint16)
    write_tokens(
        tmp_path / "t.h5", TokenTable(tokens, tokens.astype(np.int32), np.zeros(4, np.uint8), VOCAB, END, "x"), {}
    )
    write_ngrams(tmp_path / "n.h5", ngrams, {})
    inputs = {"tokens": (tmp_path / "t.h5",), "ngrams": (tmp_path / "n.h5",)}
    settings = {"behaviour": {"text_sequences": 5, "seed": 2}}
    ngram_text(Job("ngram_text", inputs, {"text": (tmp_path / "x.h5",)}, settings, 1, {}))
    found = read_ngram_text(tmp_path / "x.h5")
    expected = sample_ngram_text(ngrams, sequences=5, length=11, end_of_text=END, seed=2)
    for name, values in expected.arrays().items():
        np.testing.assert_array_equal(getattr(found, name), values)
    import h5py

    write_ngram_text(tmp_path / "y.h5", found, {})
    with h5py.File(tmp_path / "y.h5", "r+") as file:
        file["tokens"][0, 0, 0] += 1
    with pytest.raises(ValueError, match="hash differs"):
        read_ngram_text(tmp_path / "y.h5")
