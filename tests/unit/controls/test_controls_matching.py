import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from snapcoder.evolution import matching
from snapcoder.evolution.matching import code_correlations, match_rows, random_match_cosine, unit_rows
from snapcoder.evolution.seed_stability import SeededRun, seed_stability
from snapcoder.storage.dictionaries import Dictionary

S, D, F, ROWS = 4, 24, 30, 400


def dictionary(decoder, encoder=None):
    encoder = decoder.transpose(0, 2, 1) if encoder is None else encoder
    return Dictionary(
        encoder=encoder, decoder=decoder, encoder_bias=np.zeros(decoder.shape[1], np.float32),
        decoder_bias=np.zeros((S, D), np.float32), threshold=np.zeros(decoder.shape[1], np.float32),
        scale=np.ones(S, np.float32), center=np.zeros((S, D), np.float32), steps=(0, 4, 16, 64),
        gate="per_snapshot", arm="batchtopk", layer=2,
    )  # fmt: skip


def run(decoder, z, onset, kinds=None):
    n = decoder.shape[1]
    timing = pd.DataFrame(
        {"feature": range(n), "class": kinds or ["emergent"] * n, "onset_hi": pd.array(onset, dtype="Int64")}
    )
    return SeededRun(dictionary(decoder.astype(np.float32)), csr_array(z), timing)


@pytest.fixture
def planted():
    rng = np.random.default_rng(0)
    decoder = rng.standard_normal((S, F, D))
    z = rng.random((ROWS, F)) * (rng.random((ROWS, F)) < 0.2)
    onset = rng.choice([0, 4, 16, 64], F)
    return decoder, z, onset


def test_a_relabelled_dictionary_is_found_again_feature_by_feature(planted):
    decoder, z, onset = planted
    order = np.random.default_rng(1).permutation(F)
    pairs, features = seed_stability(
        run(decoder, z, onset), {1: run(decoder[:, order], z[:, order], onset[order])}, bootstrap=50, seed=0
    )
    row = pairs.iloc[0]
    assert row["shared_both"] == row["shared_09"] == row["onset_near_share"] == 1
    assert row["onset_spearman"] == pytest.approx(1)
    assert row["onset_concordance"] == pytest.approx(1)
    assert row["onset_distance"] == pytest.approx(0)
    assert np.allclose(features["seed_match_cos"], 1, atol=1e-5)
    assert np.allclose(features["seed_match_corr"], 1)
    assert (features["seed_shared_share"] == 1).all()


def test_unrelated_dictionaries_share_nothing_and_match_as_well_as_random_ones(planted):
    decoder, z, onset = planted
    rng = np.random.default_rng(7)
    other = run(rng.standard_normal((S, F, D)), z[rng.permutation(ROWS)], onset[rng.permutation(F)])
    pairs, features = seed_stability(run(decoder, z, onset), {1: other}, bootstrap=50, seed=0)
    assert pairs["shared_both"].iloc[0] == 0
    assert pairs["shared_05"].iloc[0] < 0.1
    assert pairs["match_cos_median"].iloc[0] < 1.2 * pairs["cos_null_p95"].iloc[0]
    assert (features["seed_shared_share"] == 0).all()
    assert features["onset_near_share"].isna().all()


def test_half_a_dictionary_shared_is_half_a_share(planted):
    decoder, z, onset = planted
    other = np.concatenate([decoder[:, : F // 2], np.random.default_rng(3).standard_normal((S, F - F // 2, D))], axis=1)
    pairs, features = seed_stability(run(decoder, z, onset), {5: run(other, z, onset)}, bootstrap=200, seed=0)
    row = pairs.iloc[0]
    assert row["other_seed"] == 5
    assert row["shared_both"] == pytest.approx(0.5)
    assert row["shared_both_ci_lo"] < 0.5 < row["shared_both_ci_hi"]
    assert features["seed_shared_share"].iloc[: F // 2].eq(1).all()


def test_decoders_that_agree_while_encoders_do_not_are_no_shared_feature(planted):
    decoder, z, onset = planted
    base = run(decoder, z, onset)
    turned = np.random.default_rng(2).standard_normal((S, D, F)).astype(np.float32)
    other = SeededRun(dictionary(decoder.astype(np.float32), turned), base.z, base.timing)
    pairs, _ = seed_stability(base, {1: other}, bootstrap=20, seed=0)
    assert pairs["shared_09"].iloc[0] == 1
    assert pairs["shared_both"].iloc[0] == 0


def test_dead_features_take_no_part(planted):
    decoder, z, onset = planted
    kinds = ["dead"] * 10 + ["emergent"] * (F - 10)
    pairs, features = seed_stability(run(decoder, z, onset, kinds), {1: run(decoder, z, onset)}, bootstrap=20, seed=0)
    assert pairs["n_live"].iloc[0] == F - 10
    assert features["seed_match_cos"].iloc[:10].isna().all()


def test_code_correlations_are_those_of_numpy(planted):
    _, z, _ = planted
    other = z[:, ::-1] + 0.1 * np.random.default_rng(4).random(z.shape)
    pairs = np.arange(F), np.arange(F)[::-1]
    expected = [np.corrcoef(z[:, i], other[:, j])[0, 1] for i, j in zip(*pairs, strict=True)]
    assert np.allclose(code_correlations(csr_array(z), csr_array(other), pairs), expected)


def test_mutual_neighbours_of_a_large_dictionary_are_the_pairs_of_the_assignment(planted, monkeypatch):
    decoder, _, _ = planted
    order = np.random.default_rng(5).permutation(F)
    a, b = unit_rows(decoder, np.arange(F)), unit_rows(decoder[:, order], np.arange(F))
    exact = match_rows(a, b)
    monkeypatch.setattr(matching, "EXACT_FEATURES", 4)
    monkeypatch.setattr(matching, "CHUNK_FEATURES", 7)
    assert np.array_equal(np.stack(match_rows(a, b)), np.stack(exact))


def test_the_random_match_of_many_features_is_the_largest_of_many_cosines():
    rng = np.random.default_rng(0)
    a, b = (unit_rows(rng.standard_normal((S, 200, D)), np.arange(200)) for _ in range(2))
    unrelated = np.percentile((a @ b.T).max(axis=1), 95)
    assert random_match_cosine(a, b, n_snapshots=S, seed=1) == pytest.approx(unrelated, abs=0.05)
