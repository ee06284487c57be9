import numpy as np
import pytest
from scipy.stats import ortho_group

from snapcoder.evolution.activation_spectrum import linear_cka, spaced_rows, spectrum, take_rows
from snapcoder.evolution.direction_pairs import compare, cross_fitted_cosines, median_interval, orthogonal_map
from snapcoder.evolution.resampling import bootstrap_weights
from snapcoder.evolution.rotation import compare_snapshots, direction_parts, rotation
from snapcoder.evolution.snapshot_decoders import merge_decoders
from snapcoder.storage.dictionaries import Dictionary


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def directions(seed, n=200, d=8):
    return unit(np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32)


def dictionary_of(decoder, steps):
    s, f, d = decoder.shape
    return Dictionary(
        encoder=np.zeros((s, d, f), "f4"),
        decoder=decoder.astype(np.float32),
        encoder_bias=np.zeros(f, "f4"),
        decoder_bias=np.zeros((s, d), "f4"),
        threshold=np.zeros(f, "f4"),
        scale=np.ones(s, "f4"),
        center=np.zeros((s, d), "f4"),
        steps=steps,
        gate="per_snapshot",
        arm="batchtopk",
        layer=0,
    )


def test_the_orthogonal_map_undoes_a_rotation():
    a, turn = directions(0), ortho_group.rvs(8, random_state=1)
    np.testing.assert_allclose(orthogonal_map(a, a @ turn), turn, atol=1e-5)


def test_a_turn_of_the_whole_basis_vanishes_after_procrustes_and_one_of_features_does_not():
    a = directions(0)
    turned = (a @ ortho_group.rvs(8, random_state=1)).astype(np.float32)
    alone = turned.copy()
    alone[:5] = directions(9)[:5]
    everyone = np.ones(200, dtype=bool)
    pair = compare(a, alone, alive_a=everyone, alive_b=everyone, norm_b=np.arange(200.0))
    assert np.median(pair.cos) < 0.5
    assert pair.procrustes_cos[5:].min() > 0.95
    assert np.abs(pair.procrustes_cos[:5]).mean() < 0.6


def test_unrelated_directions_stay_unrelated_after_the_cross_fitted_map():
    a, b = directions(0), directions(1)
    found = cross_fitted_cosines(a, b)
    assert abs(found.mean()) < 0.1
    in_sample = np.einsum("fd,fd->f", a @ orthogonal_map(a, b), b)
    assert in_sample.mean() > 0.12  # what the cross-fit guards against


def test_the_map_is_not_fitted_on_too_few_features():
    assert np.isnan(cross_fitted_cosines(directions(0)[:15], directions(1)[:15])).all()


def test_the_null_of_random_pairs_is_near_its_closed_form():
    a, everyone = directions(0, n=2000, d=64), np.ones(2000, dtype=bool)
    pair = compare(a, directions(1, n=2000, d=64), alive_a=everyone, alive_b=everyone, norm_b=np.arange(2000.0))
    assert pair.null_p95 == pytest.approx(1.96 / 8, rel=0.05)  # |N(0, 1/d)|
    assert pair.procrustes_null_p95 == pytest.approx(1.96 / 8, rel=0.05)  # a cross-fitted map finds nothing to align


def test_the_summary_says_how_much_of_a_turn_all_features_share():
    a = directions(0)
    turn = ortho_group.rvs(8, random_state=1)
    own = unit(a + 0.3 * directions(3)).astype(np.float32)  # a little turn of each feature by itself
    for b, low, high in ((own, -0.2, 0.2), (a @ turn, 0.9, 1.0), (own @ turn, 0.5, 0.95)):
        decoders = merge_decoders(dictionary_of(np.stack([a, b]), (1, 10)))
        row = rotation(decoders, alive=np.ones((2, 200), dtype=bool), cka=np.eye(2))[1].iloc[1]
        assert low <= row["common_share"] <= high
        assert row["procrustes_ci_lo"] <= row["procrustes_cos_median"] <= row["procrustes_ci_hi"]


def test_directions_are_followed_from_the_first_snapshot_at_which_the_feature_is_alive():
    decoder = np.random.default_rng(0).standard_normal((4, 3, 6))
    decoders = merge_decoders(dictionary_of(decoder, (0, 1, 10, 100)))
    alive = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=bool)
    table = rotation(decoders, alive=alive, cka=np.eye(4))[0]
    since = table[table["kind"] == "from_onset"].set_index(["feature", "step_b"]).sort_index()
    assert list(since.index) == [(0, 1), (0, 10), (0, 100), (1, 100)]  # feature 2 is never alive
    assert list(since["step_a"]) == [0, 0, 0, 10]
    assert list(since["both_alive"]) == [True, False, True, True]
    u = [unit(decoder[s, 1]) for s in (2, 3)]
    assert since.loc[(1, 100), "cos"] == pytest.approx(u[0] @ u[1], abs=1e-6)


def test_parts_come_in_the_order_of_the_key_and_mean_cosines_have_draws():
    rng = np.random.default_rng(0)
    decoders = merge_decoders(dictionary_of(rng.standard_normal((4, 30, 6)), (0, 1, 10, 100)))
    alive = rng.random((4, 30)) < 0.8
    weights = bootstrap_weights(np.arange(30.0), draws=10, seed=0)
    found = compare_snapshots(decoders, alive=alive, cka=np.eye(4), weights=weights)
    key = ["kind", "step_a", "step_b", "feature"]
    rows = [row for part in direction_parts(found) for row in part[key].itertuples(index=False, name=None)]
    assert rows == sorted(rows)
    means = found.turns()["plain"].matrices
    summary = rotation(decoders, alive=alive, cka=np.eye(4))[1].set_index(["step_a", "step_b"])
    assert means[0, 1, 3] == pytest.approx(summary.loc[(1, 100), "cos_mean"], abs=1e-6)
    np.testing.assert_array_equal(means, means.transpose(0, 2, 1))
    assert means[1:, 1, 3].std() > 0


def test_the_median_interval_equals_a_bootstrap_with_many_draws():
    rng = np.random.default_rng(0)
    for n in (25, 40):
        values = rng.standard_normal(n)
        draws = np.median(values[rng.integers(0, n, (40_000, n))], axis=1)
        expected = np.percentile(draws, [2.5, 97.5])
        np.testing.assert_allclose(median_interval(values), expected, atol=0.15)
    assert np.isnan(median_interval(np.array([1.0]))).all()


def test_planted_angles_come_out_in_degrees_and_per_decade():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    angle = np.radians([0, 30, 90])
    path = np.stack([np.cos(t) * basis[0] + np.sin(t) * basis[1] for t in angle])
    decoder = np.stack([path, 2 * path, np.zeros((3, 6))], axis=1)  # [snapshot, feature, model]
    decoders = merge_decoders(dictionary_of(decoder, (0, 5, 500)))
    alive = np.array([[True, False, False], [True, True, False], [True, True, False]])
    table, summary = rotation(decoders, alive=alive, cka=np.eye(3))
    first = table[table["feature"] == 0]
    adjacent = first[first["kind"] == "adjacent"]
    np.testing.assert_allclose(adjacent["angle_deg"], [30, 60], atol=1e-3)
    np.testing.assert_allclose(adjacent["angle_per_decade"], [30, 30], atol=1e-3)
    np.testing.assert_allclose(first[first["kind"] == "to_final"]["angle_deg"], [90, 60], atol=1e-3)
    assert table[table["feature"] == 2]["cos"].isna().all()
    second = table[(table["feature"] == 1) & (table["kind"] == "adjacent")]
    assert list(second["both_alive"]) == [False, True]
    assert len(summary) == 9
    pair = summary[(summary["step_a"] == 0) & (summary["step_b"] == 500)].iloc[0]
    assert pair["n"] == 1
    assert pair["cos_median"] == pytest.approx(0, abs=1e-6)


def test_renaming_features_leaves_the_summary_unchanged():
    rng = np.random.default_rng(0)
    decoder = rng.standard_normal((3, 60, 6)) * rng.lognormal(size=(3, 60, 1))
    alive = rng.random((3, 60)) < 0.8
    order = rng.permutation(60)
    plain = rotation(merge_decoders(dictionary_of(decoder, (0, 1, 2))), alive=alive, cka=np.eye(3))[1]
    renamed = rotation(
        merge_decoders(dictionary_of(decoder[:, order], (0, 1, 2))), alive=alive[:, order], cka=np.eye(3)
    )[1]
    np.testing.assert_allclose(renamed.to_numpy(float), plain.to_numpy(float), rtol=1e-5, atol=1e-6)


def test_linear_cka_ignores_rotation_and_scale_and_sees_unrelated_activations():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((3000, 5)) * [5, 3, 2, 1, 1]).astype(np.float32)
    turned = (4 * x @ ortho_group.rvs(5, random_state=0) + 7).astype(np.float32)
    other = rng.standard_normal((3000, 5)).astype(np.float32)
    found = linear_cka([x, turned, other, np.ones((3000, 5), "f4")])
    assert found[0, 1] == pytest.approx(1, abs=1e-4)
    assert found[0, 2] < 0.01
    assert np.isnan(found[0, 3])


def test_the_participation_interval_covers_and_matches_exact_resampling():
    rng = np.random.default_rng(0)
    doc = np.repeat(np.arange(60), 20)
    x = (rng.standard_normal((1200, 6)) * [4, 2, 1, 1, 1, 1] + rng.standard_normal((60, 6))[doc]).astype(np.float32)
    found = spectrum(x, doc, bootstrap=2000, seed=0)
    covariance = np.cov(x.T, bias=True)
    expected = np.trace(covariance) ** 2 / (covariance**2).sum()
    assert found.participation == pytest.approx(expected, rel=1e-4)
    assert found.top1_share == pytest.approx(np.linalg.eigvalsh(covariance)[-1] / np.trace(covariance), rel=1e-4)
    draws = []
    for _ in range(400):
        rows = (rng.integers(0, 60, 60)[:, None] * 20 + np.arange(20)).ravel()
        c = np.cov(x[rows].T, bias=True)
        draws.append(np.trace(c) ** 2 / (c**2).sum())
    exact = np.percentile(draws, [2.5, 97.5])
    assert found.ci_hi - found.ci_lo == pytest.approx(exact[1] - exact[0], rel=0.2)
    assert found.ci_lo < expected < found.ci_hi


def test_one_document_gives_no_interval():
    found = spectrum(np.random.default_rng(0).standard_normal((50, 3)).astype("f4"), np.zeros(50), bootstrap=20, seed=0)
    assert np.isnan(found.ci_lo)
    assert 1 < found.participation <= 3


@pytest.mark.parametrize("at_most", [1, 7, 100])
def test_spaced_rows_are_taken_from_blocks_of_any_size(at_most):
    x = np.arange(50, dtype=np.float32)[:, None]
    rows = spaced_rows(50, at_most=at_most)
    taken = take_rows((x[i : i + 9] for i in range(0, 50, 9)), rows)
    np.testing.assert_array_equal(taken[:, 0], rows)
    assert len(rows) == min(at_most, 50)
