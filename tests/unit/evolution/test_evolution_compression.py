import numpy as np
import pytest
from test_evolution_rotation import dictionary_of, unit

from snapcoder.evolution.activation_spectrum import spectrum
from snapcoder.evolution.capacity import dimensionality_rate
from snapcoder.evolution.compression import compression_tests, depth
from snapcoder.evolution.dimensionality import Rates, dimensionality, dimensionality_rates
from snapcoder.evolution.resampling import bootstrap_weights
from snapcoder.evolution.snapshot_decoders import merge_decoders
from snapcoder.tables.directions import DIMENSIONALITY_TESTS
from snapcoder.tables.evolution import DIMENSIONALITY

D, F = 24, 120


def spread(width, flat):
    """Variances of `flat` directions of 1 and the rest of `width`."""
    return np.r_[np.ones(flat), np.full(D - flat, width)]


def rates_of(decoders, variances, *, draws=60, null_draws=40):
    """Rates of decoders [snapshot, feature, model] whose activations have these variances [snapshot, model]."""
    rng = np.random.default_rng(9)
    merged = merge_decoders(dictionary_of(np.asarray(decoders), tuple(10**s for s in range(len(decoders)))))
    doc = np.repeat(np.arange(20), 50)
    spectra = [
        spectrum((rng.standard_normal((1000, D)) * np.sqrt(v)).astype("f4"), doc, bootstrap=20, seed=0)
        for v in variances
    ]
    alive = np.ones((len(decoders), F), dtype=bool)
    weights = bootstrap_weights(merged.norms().sum(axis=0), draws=draws, seed=0)
    rates = dimensionality_rates(
        merged, alive=alive, spectra=spectra, weights=weights, null_draws=null_draws, null_features=F, seed=0
    )
    return merged, rates, spectra, alive


def test_the_depth_of_hand_computed_curves():
    curves = np.array([[3.0, 1.0, 2.5], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 4.0, 1.0], [2.0, 0.0, 5.0]])
    np.testing.assert_allclose(depth(curves), [1.5, 0, 0, 0, 2])


def survives(row):
    """The rule of the report."""
    return row["p_null"] <= 0.05 and row["compression_ci_lo"] > 0 and row["expansion_ci_lo"] > 0


NARROWING = [spread(1.0, 4), spread(0.02, 4), spread(1.0, 4)]


def scattered(rng, variances):
    return [unit(rng.standard_normal((F, D)) * np.sqrt(v)) for v in variances]


def test_a_curve_that_the_spectrum_draws_does_not_survive_that_null():
    survived = []
    for seed in range(10):
        followers = scattered(np.random.default_rng(seed), NARROWING)
        table = compression_tests(rates_of(followers, NARROWING)[1], (1, 10, 100)).set_index("measure")
        assert table.loc["rate", "depth"] > 0.3
        assert table.loc["rate", "compression_ci_lo"] > 0.2
        assert survives(table.loc["minus_norms"])  # norms do not explain it
        survived.append(survives(table.loc["minus_spectrum"]))
    assert np.mean(survived) <= 0.1


def test_a_curve_of_the_features_own_survives_every_null():
    followers = scattered(np.random.default_rng(0), NARROWING)
    table = compression_tests(rates_of(followers, [spread(1.0, 4)] * 3)[1], (1, 10, 100)).set_index("measure")
    for measure in ("minus_norms", "minus_spectrum", "over_norms", "over_spectrum"):
        assert survives(table.loc[measure])
        assert table.loc[measure, "step_min"] == 10


def test_random_directions_rarely_look_compressed():
    rng = np.random.default_rng(1)
    flat = [spread(1.0, 4)] * 5
    found = []
    for _ in range(12):
        decoders = [rng.standard_normal((F, D)) for _ in flat]
        table = compression_tests(rates_of(decoders, flat, draws=20)[1], range(5)).set_index("measure")
        found.append(table.loc[["minus_norms", "minus_spectrum"], "p_null"].max() <= 0.05)
    assert np.mean(found) <= 0.2


def test_the_interval_of_a_rate_is_that_of_dictionaries_drawn_again():
    """Linearised resampling against new random dictionaries of the same law."""
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(F) < F // 2, 0.2, 1.0)[:, None]
    drawn = [
        dimensionality_rate((rng.standard_normal((F, D)) * rng.permutation(scale)).astype("f4")) for _ in range(200)
    ]
    decoder = rng.standard_normal((F, D)) * scale
    _, rates, _, _ = rates_of([decoder, decoder], [spread(1.0, 4)] * 2, draws=300)
    found = rates.measured["rate"][1:, 0].std()
    assert 0.5 < found / np.std(drawn) < 2


def test_the_tables_fit_their_schemas_and_removing_directions_shows():
    rng = np.random.default_rng(0)
    shared = np.eye(D)[0]
    decoders = [rng.standard_normal((F, D)) + 6 * shared, rng.standard_normal((F, D))]
    wide = np.r_[30.0, np.ones(D - 1)]
    merged, rates, spectra, alive = rates_of(decoders, [wide, spread(1.0, 4)])
    table = dimensionality(merged, rates, alive=alive, spectra=spectra)
    of_caches = {"act_mean_norm", "act_max_abs"}  # the step adds them from the caches' headers
    assert set(table.columns) | of_caches == {column.name for column in DIMENSIONALITY.columns}
    first, second = table.iloc[0], table.iloc[1]
    assert first["total_dim_rate"] < 0.3
    assert first["dim_rate_without_top"] == pytest.approx(second["dim_rate_without_top"], abs=0.05)
    assert first["dim_rate_without_shared"] == pytest.approx(second["dim_rate_without_shared"], abs=0.05)
    assert first["dim_rate_null_spectrum"] < 0.5 < first["dim_rate_null_norms"]
    assert first["pr_decoder"] < 3
    assert first["pr_decoder_without_top"] > 15
    assert first["pr_act_without_top"] > 20 > first["pr_act"]
    assert first["rankme_act"] < second["rankme_act"] <= D
    assert (table["rate_minus_norms_ci_lo"] < table["rate_minus_norms"]).all()
    assert (table["rate_minus_norms"] < table["rate_minus_norms_ci_hi"]).all()
    tests = compression_tests(rates, merged.steps)
    assert {*tests.columns, "layer"} == {column.name for column in DIMENSIONALITY_TESTS.columns}
    assert (tests["depth"] == 0).all()  # two snapshots have no inner minimum


def test_activations_with_a_mean_have_fewer_dimensions_than_their_covariance():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((2000, 8)) + 10 * np.eye(8)[0]).astype("f4")
    found = spectrum(x, np.arange(2000) // 20, bootstrap=20, seed=0)
    assert found.participation == pytest.approx(8, rel=0.05)
    moments = (x.T.astype(float) @ x) / len(x)
    assert found.participation_with_mean == pytest.approx(np.trace(moments) ** 2 / (moments**2).sum(), rel=1e-4)
    np.testing.assert_allclose(np.abs(found.mean[0]), 10, atol=0.2)
    np.testing.assert_allclose(found.variances, np.linalg.eigvalsh(np.cov(x.T, bias=True)), rtol=1e-3)
    still = spectrum(np.ones((40, 3), "f4"), np.arange(40) // 4, bootstrap=20, seed=0)
    assert np.isnan(still.top1_share)
    assert (still.first_direction == 0).all()


def test_a_dictionary_without_a_feature_has_rates_of_zero():
    rates = Rates({"rate": np.zeros((3, 4))}, {"norms": np.zeros((2, 4)), "spectrum": np.zeros((2, 4))})
    table = compression_tests(rates, range(4))
    assert np.isfinite(table.drop(columns=["measure", "p_null"]).to_numpy(float)).all()
    assert (table["p_null"].dropna() == 1).all()
