import numpy as np
import pytest
from planted_features import ONSETS, STEPS, blocks_of, decoders_of, planted
from scipy.sparse import csr_array

from snapcoder.evolution.regression import CodeMoments, code_covariance, regression_r2
from snapcoder.evolution.snapshot_decoders import alive_matrix, merge_decoders
from snapcoder.evolution.trajectories import trajectories
from snapcoder.storage.dictionaries import Extension


def table_of(dictionary, z, raw):
    return trajectories(decoders_of(dictionary), z, blocks=blocks_of(raw), added_codes={}, rate_floor=1e-4)


def curve(table, name):
    return table[name].to_numpy().reshape(-1, len(STEPS))  # [feature, snapshot]


def test_planted_features_are_alive_and_explain_variance_from_their_onset_on():
    table = table_of(*planted())
    present = np.array([[s >= onset for s in range(len(STEPS))] for onset in ONSETS])
    np.testing.assert_array_equal(curve(table, "alive"), present)
    explained = curve(table, "regress_r2")
    assert explained[present].min() > 0.1
    assert explained[~present].max() < 0.01
    assert curve(table, "cos_regression")[present].min() > 0.99


def test_the_norm_relative_to_its_maximum_reaches_one_and_raw_norms_divide_by_the_scale():
    dictionary, z, raw = planted()
    table = table_of(dictionary, z, raw)
    np.testing.assert_allclose(curve(table, "norm_rel").max(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(curve(table, "norm_raw"), curve(table, "norm") / dictionary.scale, rtol=1e-6)
    np.testing.assert_allclose(table["contribution"], table["norm"] * table["rms_f"], rtol=1e-6)


def test_scaling_the_raw_activations_changes_only_the_raw_norm():
    plain, scaled = (table_of(*planted(scale=c)) for c in (1.0, 8.0))
    np.testing.assert_allclose(scaled["norm_raw"], 8 * plain["norm_raw"], rtol=1e-5)
    for name in plain.columns.drop("norm_raw"):
        np.testing.assert_allclose(scaled[name], plain[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_renaming_features_only_renames_rows():
    order = np.array([3, 1, 5, 0, 2, 4])
    plain, renamed = table_of(*planted()), table_of(*planted(order=order))
    for name in plain.columns.drop("feature"):
        np.testing.assert_allclose(curve(renamed, name), curve(plain, name)[order], rtol=1e-5, atol=1e-6)


def test_streamed_covariance_equals_the_one_of_a_dense_regression():
    rng = np.random.default_rng(3)
    z = (rng.random((300, 4)) * (rng.random((300, 4)) < 0.4)).astype(np.float32)
    raw = rng.standard_normal((300, 5)).astype(np.float32) + 4
    center, scale = raw.mean(axis=0), 1.7
    moments = CodeMoments(csr_array(z))
    covariance, variance = code_covariance(moments, iter([raw[:7], raw[7:]]), center=center, scale=scale)
    x = (raw - center) * scale
    expected = (z - z.mean(0)).T @ (x - x.mean(0)) / 300
    np.testing.assert_allclose(covariance, expected, atol=1e-5)
    fits = [np.linalg.lstsq(np.c_[np.ones(300), z[:, i]], x, rcond=None)[0] for i in range(4)]
    residual = [((x - np.c_[np.ones(300), z[:, i]] @ fits[i]) ** 2).sum() for i in range(4)]
    r2 = 1 - np.array(residual) / ((x - x.mean(0)) ** 2).sum()
    np.testing.assert_allclose(regression_r2(covariance, moments, variance), r2 - 1 / 299, atol=1e-5)


def test_unrelated_features_have_a_regression_r2_of_zero_on_average():
    rng = np.random.default_rng(0)
    z = csr_array((rng.random((200, 400)) * (rng.random((200, 400)) < 0.2)).astype(np.float32))
    moments = CodeMoments(z)
    covariance, variance = code_covariance(
        moments, [rng.standard_normal((200, 6)).astype(np.float32)], center=np.zeros(6), scale=1.0
    )
    found = regression_r2(covariance, moments, variance)
    assert abs(found.mean()) < 4 * found.std() / 20
    assert found.std() < 0.01


def test_too_few_activations_are_refused():
    dictionary, z, raw = planted()
    with pytest.raises(ValueError, match="3999 activations for 4000 rows"):
        table_of(dictionary, z, raw[:, :3999])


def extension_of(dictionary, step, **changes):
    values = {
        "decoder": 3 * dictionary.decoder[2],
        "decoder_bias": dictionary.decoder_bias[2],
        "scale": 2.0,
        "center": dictionary.center[2],
        "encoder": dictionary.encoder[2],
        "encoder_bias": dictionary.encoder_bias,
        "threshold": 0.1 * dictionary.threshold,
        "step": step,
        "level": "adapted",
        "layer": 2,
    }
    return Extension(**{**values, **changes})


def test_added_snapshots_take_their_place_by_step_with_their_own_gate():
    dictionary, z, raw = planted()
    decoders = merge_decoders(dictionary, [extension_of(dictionary, 32)])
    assert decoders.steps == (0, 4, 16, 32, 64, 256, 1024)
    assert decoders.added == (False, False, False, True, False, False, False)
    np.testing.assert_allclose(decoders.norms()[3], 3 * dictionary.decoder_norms()[2], rtol=1e-6)
    np.testing.assert_array_equal(decoders.threshold[3], 0.1 * dictionary.threshold)

    own = csr_array(z * 0.5)
    table = trajectories(
        decoders,
        z,
        blocks=lambda step: blocks_of(raw)(16 if step == 32 else step),
        added_codes={32: lambda: own},
        rate_floor=1e-4,
    )
    added = table[table["step"] == 32]
    assert added["added"].all()
    np.testing.assert_allclose(added["max_f"].to_numpy()[0], 0.5 * z.max(axis=0).toarray().ravel()[0], rtol=1e-6)
    np.testing.assert_array_equal(alive_matrix(table, decoders.steps)[3], added["alive"])


@pytest.mark.parametrize(
    ("changes", "message"), [({"step": 16}, "hold a step twice"), ({"layer": 1}, "fit it again on this dictionary")]
)
def test_an_extension_that_does_not_fit_is_refused(changes, message):
    dictionary, _, _ = planted()
    with pytest.raises(ValueError, match=message):
        merge_decoders(dictionary, [extension_of(dictionary, **{"step": 32, **changes})])


def test_a_trajectory_table_of_other_snapshots_is_refused():
    table = table_of(*planted())
    with pytest.raises(ValueError, match="rerun trajectories"):
        alive_matrix(table, STEPS[:-1])


def test_a_dictionary_with_a_shared_gate_keeps_the_code_where_the_feature_is_silent():
    dictionary, z, raw = planted()
    shared = dictionary.__class__(**{**dictionary.__dict__, "gate": "shared"})
    table = table_of(shared, z, raw)
    late = table[(table["feature"] == 5) & (table["step"] == 0)].iloc[0]
    assert late["rate"] == 0
    assert late["rms_f"] > 0
    assert not late["alive"]
