import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_features import ONSETS, STEPS, blocks_of, decoders_of, planted, trajectories, weights_of
from scipy.sparse import csr_array

import snapcoder.evolution.regression as regression
from snapcoder.evolution.memory import feature_passes, needed_bytes
from snapcoder.evolution.regression import CodeCovariance, CodeMoments, regression_r2, side_by_side
from snapcoder.evolution.snapshot_decoders import alive_matrix, merge_decoders
from snapcoder.evolution.snapshot_features import snapshot_features
from snapcoder.evolution.trajectories import trajectories as join_parts
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


def evidence(z, raw, *, center, scale, cuts=()):
    """Covariance and R² of codes and activations that come in blocks cut at these rows."""
    z, (n_rows, n_features) = csr_array(z), z.shape
    moments, covariance = CodeMoments(n_features), CodeCovariance(slice(0, n_features), center=center, scale=scale)
    edges = [0, *cuts, n_rows]
    for first, last in pairwise(edges):
        moments.add(z[first:last])
        covariance.add(z[first:last], raw[first:last])
    found = covariance.finish(moments.mean)
    return found, regression_r2(found, moments.variance, covariance.total_variance, n_rows=n_rows)


def test_streamed_covariance_equals_the_one_of_a_dense_regression(monkeypatch):
    monkeypatch.setattr(regression, "PRODUCT_FEATURES", 3)
    rng = np.random.default_rng(3)
    z = (rng.random((300, 4)) * (rng.random((300, 4)) < 0.4)).astype(np.float32)
    raw = rng.standard_normal((300, 5)).astype(np.float32) + 4
    center, scale = raw.mean(axis=0), 1.7
    covariance, found = evidence(z, raw, center=center, scale=scale, cuts=(7, 120))
    x = (raw - center) * scale
    expected = (z - z.mean(0)).T @ (x - x.mean(0)) / 300
    np.testing.assert_allclose(covariance, expected, atol=1e-5)
    fits = [np.linalg.lstsq(np.c_[np.ones(300), z[:, i]], x, rcond=None)[0] for i in range(4)]
    residual = [((x - np.c_[np.ones(300), z[:, i]] @ fits[i]) ** 2).sum() for i in range(4)]
    r2 = 1 - np.array(residual) / ((x - x.mean(0)) ** 2).sum()
    np.testing.assert_allclose(found, r2 - 1 / 299, atol=1e-5)


def test_unrelated_features_have_a_regression_r2_of_zero_on_average():
    rng = np.random.default_rng(0)
    z = (rng.random((200, 400)) * (rng.random((200, 400)) < 0.2)).astype(np.float32)
    _, found = evidence(z, rng.standard_normal((200, 6)).astype(np.float32), center=np.zeros(6), scale=1.0)
    assert abs(found.mean()) < 4 * found.std() / 20
    assert found.std() < 0.01


def dense_features(weights, z, raw, own=None):
    """Everything the pass measures, from dense arrays in double precision: slow, but plain to see."""
    shown = z if own is None else own
    norm = np.sqrt((weights.decoder.astype(float) ** 2).sum(axis=1))
    fires = (shown > 0) & (shown * weights.norms() > weights.threshold)
    gated = np.where(fires, shown, 0).astype(float)
    x = (raw.astype(float) - weights.center) * weights.scale
    covariance = (z - z.mean(axis=0)).T.astype(float) @ (x - x.mean(axis=0)) / len(z)
    total = ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths = norm * np.linalg.norm(covariance, axis=1)
        return {
            "norm": norm,
            "rate": fires.mean(axis=0),
            "rms_f": np.sqrt((gated**2).mean(axis=0)),
            "mean_active": gated.sum(axis=0) / np.where(fires.any(axis=0), fires.sum(axis=0), np.nan),
            "max_f": np.where(fires.any(axis=0), gated.max(axis=0), np.nan),
            "regress_r2": (covariance**2).sum(axis=1) / (z.var(axis=0) * total) - 1 / (len(z) - 1),
            "cos_regression": (weights.decoder * covariance).sum(axis=1) / lengths,
        }


def random_case(seed, n_rows=60, n_features=7, d=5):
    rng = np.random.default_rng(seed)
    z = rng.exponential(size=(n_rows, n_features)) * (rng.random((n_rows, n_features)) < 0.3)
    z[:, 3] = 0  # a dead feature
    dictionary, _, _ = planted(n_rows=10)
    weights = weights_of(decoders_of(dictionary), 2)
    decoder = rng.standard_normal((n_features, d)).astype(np.float32)
    threshold = rng.uniform(0, 2, n_features).astype(np.float32)
    center = rng.standard_normal(d).astype(np.float32)
    weights = weights.__class__(
        **{**weights.__dict__, "decoder": decoder, "threshold": threshold, "center": center, "scale": 1.5}
    )
    return weights, z.astype(np.float32), rng.standard_normal((n_rows, d)).astype(np.float32) + 1


def cut(array, sizes):
    """Blocks of these sizes in turn, until all rows are out."""
    start, blocks = 0, []
    while start < array.shape[0]:
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(array[start : start + size])
        start += size
    return blocks


SIZES = st.lists(st.integers(1, 70), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), SIZES, SIZES, st.integers(1, 7), st.booleans())
def test_blocks_and_passes_of_any_size_give_what_dense_arrays_give(seed, code_sizes, cache_sizes, width, added):
    weights, z, raw = random_case(seed)
    own = random_case(seed + 1)[1] if added else None
    table = snapshot_features(
        weights,
        codes=lambda: iter(cut(csr_array(z), code_sizes)),
        activations=lambda: iter(cut(raw, cache_sizes)),
        own_codes=cut(csr_array(own), code_sizes) if added else None,
        passes=regression.slices(slice(0, 7), width),
    )
    for name, expected in dense_features(weights, z, raw, own).items():
        if name in ("rate", "max_f"):
            np.testing.assert_array_equal(table[name], expected, err_msg=name)
        else:
            np.testing.assert_allclose(table[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_number_of_passes_does_not_change_a_bit():
    weights, z, raw = random_case(0)
    tables = [
        snapshot_features(
            weights,
            codes=lambda: iter([csr_array(z)]),
            activations=lambda: iter([raw]),
            passes=regression.slices(slice(0, 7), width),
        )
        for width in (7, 3, 1)
    ]
    for table in tables[1:]:
        assert table.equals(tables[0])


def test_less_memory_means_more_passes_until_it_is_refused_with_the_amount_needed():
    shape = {"entries_per_row": 10.0, "block_rows": 100}
    assert feature_passes(100_000, 512, **shape, memory_gb=2.0) == [slice(0, 100_000)]
    enough = needed_bytes(100_000, 512, 40_000, **shape) / 2**30
    tight = feature_passes(100_000, 512, **shape, memory_gb=enough)
    assert [(part.start, part.stop) for part in tight] == [(0, 33_334), (33_334, 66_668), (66_668, 100_000)]
    with pytest.raises(
        ValueError, match=r"memory_gb: 0.01 is too little for 100000 features .*; set it to 0.\d+ or more"
    ) as e:
        feature_passes(100_000, 512, **shape, memory_gb=0.01)
    asked = float(re.search(r"set it to (\S+)", str(e.value))[1])
    assert len(feature_passes(100_000, 512, **shape, memory_gb=asked)) >= 3


def test_needed_memory_has_no_term_in_rows_or_snapshots_and_is_affine_in_features():
    shape = {"entries_per_row": 64.0, "block_rows": 4096}
    sizes = np.array([needed_bytes(F, 128, F, **shape) for F in (16_384, 32_768, 65_536)])
    assert np.diff(sizes)[1] == 2 * np.diff(sizes)[0]
    assert np.diff(sizes)[0] / 16_384 == pytest.approx(12 * 128 + 200)


@pytest.mark.parametrize("n_codes, n_read, said", [(10, 7, "7 activations for 10 rows"), (7, 10, "than the 7 rows")])
def test_codes_and_activations_of_different_lengths_are_refused(n_codes, n_read, said):
    codes = cut(csr_array(np.ones((n_codes, 2), np.float32)), [3])
    with pytest.raises(ValueError, match=said):
        list(side_by_side(codes, cut(np.ones((n_read, 4), np.float32), [2])))


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


def test_parts_are_joined_by_step_in_chunks_of_features(monkeypatch):
    monkeypatch.setattr("snapcoder.evolution.trajectories.CHUNK_FEATURES", 4)
    whole = table_of(*planted())
    parts = [part.reset_index(drop=True) for _, part in whole.drop(columns=["norm_rel", "snapshot"]).groupby("step")]
    chunks = list(join_parts(parts[::-1], rate_floor=1e-4))
    assert [list(chunk["feature"].unique()) for chunk in chunks] == [[0, 1, 2, 3], [4, 5]]
    again = pd.concat(chunks, ignore_index=True)
    assert again[whole.columns].equals(whole)


def test_parts_that_do_not_fit_together_are_refused():
    whole = table_of(*planted())
    parts = [part for _, part in whole.groupby("step")]
    with pytest.raises(ValueError, match="hold a step twice"):
        list(join_parts([parts[0], *parts], rate_floor=1e-4))
    with pytest.raises(ValueError, match="snapshot 4 has 5 features, snapshot 0 has 6"):
        list(join_parts([parts[0], parts[1][:5]], rate_floor=1e-4))


def test_the_rate_floor_is_met_by_a_rate_that_equals_it():
    part = table_of(*planted()).query("step == 0").assign(rate=np.array([0, 13, 14, 15, 20, 1]) / 140_000)
    for floor, alive in ((1e-4, [False, False, True, True, True, False]), (0.0, [False, *[True] * 5])):
        (joined,) = join_parts([part], rate_floor=floor)
        assert joined["alive"].tolist() == alive


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
