"""Classes of tokens by hand and by plain loops; loss curves of classes against planted ones."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapcoder.ngrams import KINDS, NgramModel, count_ngrams
from snapcoder.phases.class_losses import class_losses, halfway_step
from snapcoder.phases.token_classes import FREQUENCY_EDGES, frequency_bands, seen_before, token_classes
from snapcoder.storage.tables import TableSchema
from snapcoder.tables.behaviour import TOKEN_CLASS_CONTRASTS, TOKEN_CLASS_LOSS, TOKEN_CLASSES

TEXTS = ["<|endoftext|>", " the", "Th", "ee", " 1", "7", "\n", ",", " God", "'s", "<0xE2 0x80>", " ", "é", "<id 13>"]


def families(tokens, doc=None, train=None):
    tokens = np.array(tokens)
    doc = np.zeros_like(tokens) if doc is None else np.array(doc)
    train = tokens if train is None else np.array(train)
    counts = [count_ngrams(train, np.zeros_like(train), order=n, vocab_size=len(TEXTS)) for n in (1, 2, 3)]
    ngrams = NgramModel(len(TEXTS), *counts, {kind: np.array([0.5, 0.8, 1.2]) for kind in KINDS})
    at = np.nonzero(doc[:, :-1] == doc[:, 1:])
    found = token_classes(tokens, doc, at, ngrams=ngrams, texts=TEXTS, end_of_text=0)
    return {each.family: [each.names[i] if i >= 0 else None for i in each.label] for each in found}


def test_the_form_of_a_token_follows_from_its_text_and_the_token_before():
    found = families([[1, 3, 6, 2, 3, 7, 3, 4, 5, 8, 9, 10, 3, 11, 12, 0, 13]])
    assert found["form"] == [
        "word_continuation",  # the|ee
        "whitespace",
        "word_start",  # a new line, then Th
        "word_continuation",
        "punctuation",
        "word_start",  # a comma, then ee
        "digit",
        "digit",
        "word_start",
        "word_continuation",  # God|'s
        "other",
        "word_start",  # after part of a character nothing is known to go on
        "whitespace",
        "word_start",  # é after a space of its own
        "other",
        "other",
    ]
    starts = [(form, case) for form, case in zip(found["form"], found["case"], strict=True)]
    assert all((case is not None) == (form == "word_start") for form, case in starts)
    assert [case for _, case in starts if case] == [
        "capitalised_start", "lowercase_start", "capitalised_start", "lowercase_start", "lowercase_start",
    ]  # fmt: skip


def test_repetition_and_novelty_by_hand():
    tokens = [[1, 2, 3, 1, 2, 5, 2], [1, 2, 3, 3, 3, 3, 7]]
    found = families(tokens, train=[[1, 2, 3, 9, 3, 3, 3], [9, 9, 9, 9, 9, 9, 9]])
    first, again, copied = "first_occurrence", "repeated_token", "repeated_bigram"
    assert found["repetition"] == [
        first,
        first,
        again,
        copied,
        first,
        again,
        first,
        first,
        again,
        copied,
        copied,
        first,
    ]
    old, new_three, new_two = "seen_trigram", "new_trigram", "new_bigram"
    assert found["novelty"] == [
        None, old, new_two, new_three, new_two, new_two, None, old, new_three, old, old, new_two
    ]  # fmt: skip
    assert found["position"][:6] == ["position_1", "position_2_3", "position_2_3", *["position_4_6"] * 3]


def test_contexts_do_not_reach_over_a_border_but_repetition_sees_the_whole_sequence():
    found = families([[1, 2, 3, 1, 2]], doc=[[0, 0, 1, 1, 1]])
    assert found["novelty"] == [None, None, "seen_trigram"]
    assert found["repetition"] == ["first_occurrence", "repeated_token", "repeated_bigram"]
    assert found["all"] == ["all"] * 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=7, max_size=7), min_size=1, max_size=5))
def test_seen_before_agrees_with_a_plain_loop(rows):
    found = seen_before(np.array(rows))
    flat = [value for row in rows for value in row]
    assert found.ravel().tolist() == [value in flat[:i] for i, value in enumerate(flat)]


def test_frequency_bands_hold_their_shares_of_the_text():
    unigram = np.random.default_rng(0).dirichlet(np.full(5000, 2.0))
    band = frequency_bands(unigram)
    shares = np.bincount(band, weights=unigram, minlength=len(FREQUENCY_EDGES) + 1)
    np.testing.assert_allclose(shares, np.diff([0, *FREQUENCY_EDGES, 1]), atol=1e-3)
    assert unigram[band == 0].min() >= unigram[band == 1].max()
    renamed = np.random.default_rng(1).permutation(5000)
    np.testing.assert_array_equal(frequency_bands(unigram[renamed]), band[renamed])


STEPS = np.array([0, 1, 10, 100, 1000])


def test_halfway_is_interpolated_on_log_steps():
    curves = np.array([[4.0, 4, 3, 2, 2], [4, 4, 4, 4, 2], [2, 3, 4, 5, 6], [5, 1, 3, 3, 3], [4, 4, 3.5, 2.5, 2]])
    found = halfway_step(curves, STEPS)
    np.testing.assert_allclose(found[0], 10)
    np.testing.assert_allclose(found[1], 10**2.5)
    assert np.isnan(found[2])  # rises only
    np.testing.assert_allclose(found[3], 10 ** (np.log10(0.5) / 2))  # before its lowest point, between steps 0 and 1
    np.testing.assert_allclose(found[4], 10**1.5)


def planted(noise=0.05, documents=40, seed=0):
    """Two classes: frequent tokens fall at 10, rare ones at 100; the trigram model lies between their ends."""
    rng = np.random.default_rng(seed)
    size = rng.integers(5, 30, (2, documents))
    own = rng.normal(0, noise, (2, documents))
    curves = {"first_occurrence": [6, 5.9, 4, 2.1, 2], "repeated_bigram": [6, 6, 5.9, 4, 2.1]}
    rows = []
    for step_index, step in enumerate(STEPS):
        for c, (name, curve) in enumerate(curves.items()):
            for doc in range(documents):
                n = size[c, doc]
                means = {"loss": curve[step_index] + own[c, doc], "h1": 5.0, "h2": 4.5, "h3": 3.0}
                sums = {key: n * value for key, value in means.items()}
                rows.append({"step": step, "family": "repetition", "class": name, "doc": doc, "n": n, **sums})
    both = pd.DataFrame(rows)
    everything = both.groupby(["step", "doc"], as_index=False).sum(numeric_only=True).assign(family="all")
    everything["class"] = "all"
    return pd.concat([both, everything], ignore_index=True), size


def test_planted_curves_are_found_with_their_moments():
    sums, size = planted()
    losses, moments, contrasts = class_losses(sums, bootstrap=100, seed=0)
    moments = moments.set_index("class")
    assert moments.aoa_step["first_occurrence"] == pytest.approx(10, rel=0.1)
    assert moments.aoa_step["repeated_bigram"] == pytest.approx(100, rel=0.1)
    for name in ("first_occurrence", "repeated_bigram"):
        assert moments.aoa_lo[name] <= moments.aoa_step[name] <= moments.aoa_hi[name]
    assert moments.share["first_occurrence"] == pytest.approx(size[0].sum() / size.sum())
    assert list(moments.loc["first_occurrence", ["below_h1_step", "below_h2_step", "below_h3_step"]]) == [10, 10, 100]
    assert moments.below_h3_step["repeated_bigram"] == 1000
    copying = contrasts[contrasts["contrast"] == "copying"].set_index("step")
    np.testing.assert_allclose(copying["value"], [0, -0.1, -1.9, -1.9, -0.1], atol=0.05)
    assert copying.ci_hi[10] < 0
    both = losses[losses["family"] == "repetition"]
    everything = losses[losses["family"] == "all"].set_index("step")["loss"]
    pooled = (both["loss"] * both["n"]).groupby(both["step"]).sum() / both["n"].groupby(both["step"]).sum()
    np.testing.assert_allclose(everything, pooled)


def test_gaps_are_paired_within_documents():
    sums, _ = planted(noise=0)
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 2, 40)[sums["doc"]] * sums["n"]  # documents differ, for both models alike
    for name in ("loss", "h1", "h2", "h3"):
        sums[name] += hard + 10 * sums["n"]
    losses, _, _ = class_losses(sums, bootstrap=100, seed=0)
    wide, narrow = losses["ci_hi"] - losses["ci_lo"], losses["gap_h3_ci_hi"] - losses["gap_h3_ci_lo"]
    everything = losses["family"] == "all"  # here the mix of classes varies with the documents
    assert (wide > 0.3).all()
    np.testing.assert_allclose(narrow[~everything], 0, atol=1e-9)


def test_the_order_of_rows_does_not_matter_and_nothing_learnt_has_no_age():
    sums, _ = planted()
    expected = class_losses(sums, bootstrap=30, seed=0)
    found = class_losses(sums.sample(frac=1, random_state=0), bootstrap=30, seed=0)
    for one, other in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(one, other)
    rng = np.random.default_rng(0)
    sums["loss"] = sums["n"] * (6 + rng.normal(0, 1, len(sums)))
    _, moments, _ = class_losses(sums, bootstrap=100, seed=0)
    assert moments["below_h1_step"].isna().all()


def conforms(frame: pd.DataFrame, schema: TableSchema) -> bool:
    return set(frame.columns) == {column.name for column in schema.columns}


def test_one_snapshot_and_one_document_give_rows_without_intervals():
    sums, _ = planted()
    alone = sums[(sums["step"] == 1000) & (sums["doc"] == 0)]
    losses, moments, contrasts = class_losses(alone, bootstrap=30, seed=0)
    assert losses["ci_lo"].isna().all()
    assert moments["aoa_step"].isna().all()
    assert len(contrasts) == 1
    assert conforms(losses, TOKEN_CLASS_LOSS)
    assert conforms(moments, TOKEN_CLASSES)
    assert conforms(contrasts, TOKEN_CLASS_CONTRASTS)
    _, _, none = class_losses(alone[alone["family"] == "all"], bootstrap=30, seed=0)
    assert none.empty
    assert conforms(none, TOKEN_CLASS_CONTRASTS)


def test_a_class_in_few_documents_keeps_its_estimate_when_draws_miss_it():
    sums, _ = planted()
    rare = sums[(sums["family"] == "all") & (sums["doc"] == 3)].assign(family="form")
    rare["class"] = "digit"
    losses, _, _ = class_losses(pd.concat([sums, rare]), bootstrap=60, seed=0)
    row = losses[losses["class"] == "digit"]
    assert row["loss"].notna().all()
    np.testing.assert_allclose(row["ci_lo"], row["loss"])  # draws that hold it all hold the same document
