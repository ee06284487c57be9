import numpy as np
import pandas as pd
import pytest

from snapcoder.evolution.curves import FeatureCurves, arrange
from snapcoder.evolution.sensitivity import (
    snapshot_sensitivity,
    thinned,
    threshold_sensitivity,
    turning_point,
)
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.study.timing import TimingSettings
from snapcoder.tables import timing as tables

STEPS = np.array([0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048])
QUICK = TimingSettings(null_draws=100, bootstrap=20)
PLAIN = EvolutionSettings()


def curves_of(norm, steps=STEPS, rate=0.01):
    norm = np.asarray(norm, dtype=float)
    rates = np.full(norm.shape, rate)
    return FeatureCurves(np.asarray(steps), np.arange(norm.shape[1]), norm, rates, rates >= 1e-4)


def stairs(onsets, *, before=0.01):
    """Norms [snapshot, feature] that jump to 1 at the given snapshot."""
    return np.where(np.arange(len(STEPS))[:, None] >= np.asarray(onsets), 1.0, before)


def rotation(steps=STEPS, turn=64):
    """All pairs of snapshots: unrelated across the turn, the same within."""
    pairs = [(a, b, 1.0 if (a < turn) == (b < turn) else 0.0) for a in steps for b in steps]
    return pd.DataFrame(pairs, columns=["step_a", "step_b", "cos_median"])


def thresholds(curves, **keywords):
    return threshold_sensitivity(curves, evolution=PLAIN, settings=QUICK, layer=2, **keywords)


def snapshots(curves, pairs=None, settings=QUICK):
    pairs = rotation(curves.steps) if pairs is None else pairs
    return snapshot_sensitivity(curves, pairs, evolution=PLAIN, settings=settings, layer=2)


def test_sudden_and_lasting_onsets_do_not_depend_on_thresholds():
    table = thresholds(curves_of(stairs([0, 0, 3, 4, 5, 5, 5, 6, 7, 8])))
    assert set(table.columns) == {column.name for column in tables.THRESHOLD_SENSITIVITY.columns}
    assert len(table) == 9
    assert table["default"].sum() == 1
    for name in ("class_agreement", "spearman", "spearman_dated"):
        np.testing.assert_allclose(table[name], 1)
    np.testing.assert_allclose(table["emd_decades"], 0)
    assert table["n_emergent"].eq(8).all()
    assert table["emergent_share"].eq(0.8).all()
    assert (table["peak_lo"].eq(32) & table["peak_hi"].eq(64)).all()


def test_a_lower_threshold_moves_gradual_onsets_forward_by_as_much_as_it_must():
    place = np.log2(np.maximum(STEPS, 2)) - 1  # 0, 1, 2 …: norm doubles with every snapshot up to snapshot s
    gradual = 2.0 ** np.minimum(np.arange(len(STEPS))[:, None] - np.array([4, 6, 8]), 0.0)
    assert place[-1] == len(STEPS) - 1
    table = thresholds(curves_of(gradual)).set_index(["alpha", "consecutive"])
    assert table.loc[(0.25, 2), "median_shift"] == pytest.approx(np.log10(2))
    assert table.loc[(0.25, 2), "emd_decades"] == pytest.approx(np.log10(2), rel=0.05)
    assert table.loc[(0.5, 3), "emd_decades"] == 0


def test_flickers_are_onsets_only_without_the_demand_to_last():
    norm = stairs([8, 8, 8])
    norm[2] = 1.0
    table = thresholds(curves_of(norm)).set_index(["alpha", "consecutive"])
    assert table.loc[(0.5, 1), "peak_hi"] == 8
    assert table.loc[(0.5, 2), "peak_hi"] == 512


def test_the_studys_own_choice_is_shown_when_the_grid_leaves_it_out():
    settings = TimingSettings(alpha_grid=(0.2,), consecutive_grid=(1,), null_draws=100)
    table = threshold_sensitivity(curves_of(stairs([3, 4, 5])), evolution=PLAIN, settings=settings, layer=2)
    assert list(zip(table["alpha"], table["consecutive"], table["default"], strict=True)) == [
        (0.2, 1, False),
        (0.5, 2, True),
    ]


def test_thinned_grids_keep_both_ends():
    assert thinned(7, every=2, phase=0).tolist() == [0, 2, 4, 6]
    assert thinned(7, every=2, phase=1).tolist() == [0, 1, 3, 5, 6]
    assert thinned(8, every=3, phase=2).tolist() == [0, 2, 5, 7]
    assert thinned(2, every=3, phase=2).tolist() == [0, 1]


def test_fewer_snapshots_only_widen_the_intervals_of_lasting_onsets():
    table = snapshots(curves_of(stairs([0, 0, 2, 3, 4, 5, 5, 6, 7, 8, 9])))
    assert set(table.columns) == {column.name for column in tables.SNAPSHOT_SENSITIVITY.columns}
    assert list(zip(table["every"], table["phase"], strict=True)) == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    assert table["consistent"].eq(1).all()
    assert table["class_agreement"].eq(1).all()
    np.testing.assert_allclose(table["emd_decades"], table["emd_resolution"])
    assert table.loc[0, "emd_decades"] == 0
    assert (table.loc[1:, "emd_resolution"] > 0).all()


def test_an_onset_that_hangs_on_one_snapshot_is_inconsistent_without_it():
    norm = stairs([8] * 6)
    norm[:, 0] = [0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1]  # half the grid sees one of the first two, which is no onset
    table = snapshots(curves_of(norm)).set_index(["every", "phase"])
    assert table.loc[(2, 0), "consistent"] == pytest.approx(5 / 6)
    assert table.loc[(2, 0), "emd_decades"] > table.loc[(2, 0), "emd_resolution"]


def test_the_turning_point_is_found_again_between_the_snapshots_that_remain():
    assert turning_point(rotation(), STEPS) == (32, 64)
    table = snapshots(curves_of(stairs([3, 4, 5]))).set_index(["every", "phase"])
    for kept in table.itertuples():
        assert kept.turn_lo < 64 <= kept.turn_hi
    assert table.loc[(2, 0), ["turn_lo", "turn_hi"]].tolist() == [32, 128]
    unknown = rotation().assign(cos_median=np.nan)
    assert np.isnan(turning_point(unknown, STEPS)).all()


def test_the_order_of_features_does_not_matter():
    rng = np.random.default_rng(0)
    norm = rng.random((len(STEPS), 60)) + 3 * stairs(rng.integers(0, 10, 60))
    order = rng.permutation(60)
    for make in (thresholds, snapshots):
        pd.testing.assert_frame_equal(make(curves_of(norm)), make(curves_of(norm[:, order])))


def test_units_of_the_norm_do_not_matter():
    rng = np.random.default_rng(1)
    norm = rng.random((len(STEPS), 40)) + 3 * stairs(rng.integers(0, 10, 40))
    pd.testing.assert_frame_equal(thresholds(curves_of(norm)), thresholds(curves_of(4.0 * norm)))


@pytest.mark.parametrize("n_snapshots", [1, 2, 3, 4])
@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_tiny_and_dead_studies_run_through(n_snapshots, rate):
    curves = curves_of(stairs([0, 1, 2])[:n_snapshots], STEPS[:n_snapshots], rate=rate)
    for table in (thresholds(curves), snapshots(curves)):
        assert (table[[f"n_{name}" for name in ("dead", "emergent", "initialization")]].sum(axis=1) <= 3).all()
        assert table["emergent_share"].isna().all() == (rate == 0)


def test_tables_in_any_order_are_arranged_by_feature_and_step():
    rows = pd.DataFrame({"feature": [1, 0, 1, 0], "step": [8, 8, 0, 0], "norm": [1.0, 2.0, 3.0, 4.0]})
    steps, features, (norm,) = arrange(rows, ["norm"])
    assert (steps.tolist(), features.tolist()) == ([0, 8], [0, 1])
    np.testing.assert_array_equal(norm, [[4, 3], [2, 1]])
    np.testing.assert_array_equal(arrange(rows.sort_values(["feature", "step"]), ["norm"])[2][0], norm)
    for broken in (rows.iloc[:3], pd.concat([rows.iloc[:3], rows.iloc[:1]])):
        with pytest.raises(ValueError, match="rows are not 2 features × 2 steps"):
            arrange(broken, ["norm"])
