import numpy as np
import pandas as pd
import pytest
from planted_turns import STEPS, turn_all, turns_of, wander

from snapcoder.evolution.blocks import best_split, block_means, drifted, two_blocks
from snapcoder.evolution.intervals import rotation_intervals
from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.resampling import bootstrap_weights, weighted_means, weighted_medians
from snapcoder.evolution.turning import Turns, amount_turned, estimation_noise, interval_cosines, true_cosines
from snapcoder.evolution.turning_points import (
    burst,
    change_of_speed,
    exchanged,
    fastest,
    p_value,
    share_ahead,
    turning_points,
)

WIDTHS = np.diff(log_steps(STEPS))
CLOCK = {"log_step": log_steps(STEPS)}
CHANCE = 1 / 8  # 1/√64


def located(path, *, seed=0, draws=100, permutations=400, test=turning_points):
    turns = turns_of(path, draws=draws if test is two_blocks else 0)
    weights = bootstrap_weights(np.arange(path.shape[1]), draws=draws, seed=seed)
    table = test(
        {"plain": turns}, STEPS, CLOCK, weights, chance=CHANCE, permutations=permutations, seed=seed
    )  # fmt: skip
    return table.set_index(["law", "statistic"])


# resampling


def test_weights_of_one_dictionary_are_a_bootstrap_and_start_with_the_data():
    weights = bootstrap_weights(np.arange(50.0), draws=300, seed=0)
    assert (weights[0] == 1).all()
    assert (weights[1:].sum(axis=1) == 50).all()
    assert weights[1:].var() == pytest.approx(1 - 1 / 50, rel=0.05)


def test_weights_follow_the_key_and_not_the_names_of_features():
    key = np.random.default_rng(0).random(40)
    order = np.random.default_rng(1).permutation(40)
    plain, renamed = (bootstrap_weights(k, draws=5, seed=3) for k in (key, key[order]))
    np.testing.assert_array_equal(renamed, plain[:, order])


def test_several_dictionaries_are_drawn_first_so_that_their_spread_counts():
    group = np.repeat(np.arange(4), 500)
    level = np.array([0.0, 1.0, 2.0, 3.0])[group] + 0.01 * np.random.default_rng(0).standard_normal(2000)
    spread = {
        name: weighted_means(level, bootstrap_weights(np.arange(2000.0), draws=400, seed=0, group=g))[1:].std()
        for name, g in (("hierarchical", group), ("flat", None))
    }
    assert spread["hierarchical"] == pytest.approx(np.sqrt(1.25 / 4), rel=0.15)  # sd of 4 dictionary means / √4
    assert spread["flat"] < 0.05


def test_weighted_medians_are_medians_of_the_repeated_values():
    rng = np.random.default_rng(0)
    values = np.r_[rng.standard_normal(30), np.nan]
    weights = bootstrap_weights(np.arange(31.0), draws=20, seed=1)
    expected = [np.median(np.repeat(values[:30], row[:30].astype(int))) for row in weights]
    np.testing.assert_allclose(weighted_medians(values, weights), expected)
    means = [np.repeat(values[:30], row[:30].astype(int)).mean() for row in weights]
    np.testing.assert_allclose(weighted_means(values, weights), means, rtol=1e-5)
    assert np.isnan(weighted_medians(np.full(31, np.nan), weights)).all()


# noise


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.5])
def test_planted_noise_and_speed_are_recovered_from_a_wander(noise):
    path = wander(np.random.default_rng(0), rates=1.5, widths=WIDTHS, n=2000, d=256, noise=noise)
    turns = turns_of(path)
    weights = np.ones((1, 2000), dtype=np.float32)
    found = estimation_noise(turns, weights, summary="median", chance=1 / 16)[0]
    np.testing.assert_allclose(found, np.log1p(noise**2) / 2, atol=0.012)  # cos to the truth is 1/√(1 + noise²)
    cosines = true_cosines(turns, weights, summary="median", chance=1 / 16)
    speed = np.radians(np.radians(amount_turned(cosines, law="wandering", chance=1 / 16))) / WIDTHS
    np.testing.assert_allclose(speed, 1.5, rtol=0.12)
    raw = amount_turned(interval_cosines(turns, weights, summary="median"), law="wandering", chance=1 / 16)
    if noise == 0.5:  # what it corrects: short intervals look several times as fast
        assert (np.radians(np.radians(raw)) / WIDTHS).max() > 3


def test_a_direction_that_keeps_turning_the_same_way_has_no_noise_taken_off():
    angles = np.radians(10) * np.arange(6)
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((20, 16, 2)))[0]
    path = np.stack([np.cos(t) * basis[:, :, 0] + np.sin(t) * basis[:, :, 1] for t in angles])
    weights = np.ones((1, 20), dtype=np.float32)
    assert (estimation_noise(turns_of(path), weights, summary="mean", chance=0.2) == 0).all()
    cosines = true_cosines(turns_of(path), weights, summary="mean", chance=0.2)
    np.testing.assert_allclose(amount_turned(cosines, law="steady", chance=0.2), 10, atol=1e-4)


def test_snapshots_without_an_estimate_take_the_noise_of_the_nearest_one():
    path = wander(np.random.default_rng(0), rates=1.0, widths=np.full(5, 0.2), n=100, noise=0.5)
    turns = turns_of(path)
    weights = np.ones((1, 100), dtype=np.float32)
    found = estimation_noise(turns, weights, summary="median", chance=0.1)[0]
    assert found[0] == found[1] > 0
    assert found[-1] == found[-2] > 0
    few = Turns(np.where(np.arange(100) < 5, turns.adjacent, np.nan), turns.skipping, turns.matrices)
    assert (estimation_noise(few, weights, summary="median", chance=0.1) == 0).all()


# statistics


def test_statistics_of_a_hand_computed_curve():
    speeds, widths = np.array([[1.0, 5.0, 1.0, 1.0]]), np.array([1.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(share_ahead(speeds, widths), [[0, 1 / 8 - 1 / 4, 6 / 8 - 1 / 2, 7 / 8 - 3 / 4, 0]])
    assert (fastest(speeds, widths).value, fastest(speeds, widths).first) == (5, 1)
    assert change_of_speed(speeds, widths).value == pytest.approx(1 / 4)
    assert change_of_speed(speeds, widths).first == 2
    found = burst(speeds, widths)
    assert found.value == pytest.approx(3 / 8)
    assert (found.first, found.last) == (1, 2)


def test_constant_speed_is_nowhere_ahead_of_the_clock():
    np.testing.assert_allclose(share_ahead(np.full((1, 5), 3.0), np.array([1, 2, 0.5, 4, 1])), 0, atol=1e-12)
    assert (share_ahead(np.zeros((1, 3)), np.ones(3)) == 0).all()  # nothing turns


def test_exchanging_keeps_the_speeds_and_p_values_count_ties():
    speeds = np.array([1.0, 2.0, 3.0])
    drawn = exchanged(speeds, permutations=50, seed=0)
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.tile(speeds, (50, 1)))
    assert p_value(np.array([1.0, 2.0, 3.0]), 2.0) == pytest.approx(3 / 4)


# turning points


def test_a_planted_sudden_turn_is_found_and_its_interval_covers_it():
    covered = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        path = turn_all(rng, wander(rng, rates=0.5, widths=WIDTHS, n=200, noise=0.3), at=9, degrees=60)
        table = located(path, seed=seed)
        peak = table.loc[[("steady", "peak_median"), ("wandering", "peak_median")]]
        covered.append(((peak["ci_lo"] <= STEPS[8]) & (peak["ci_hi"] >= STEPS[9])).all())
        assert (peak["p_constant"] <= 0.05).all()
    assert np.mean(covered) >= 0.9


def test_a_fast_stretch_is_told_from_speeds_in_random_order():
    rng = np.random.default_rng(0)
    rates = np.where((np.arange(16) >= 4) & (np.arange(16) < 9), 4.0, 0.4)
    table = located(wander(rng, rates=rates, widths=WIDTHS))
    for law in ("steady", "wandering"):
        row = table.loc[(law, "burst")]
        assert row["p_order"] < 0.01
        assert row["p_constant"] < 0.05
        assert (row["step_a"], row["step_b"]) == (STEPS[4], STEPS[9])


def test_smooth_drift_is_rarely_called_a_turning_point():
    """Both laws must reject, as the report asks; with estimation noise, unequal intervals and 200 simulations."""
    p_values = []
    for seed in range(200):
        path = wander(np.random.default_rng(seed), rates=1.5, widths=WIDTHS, n=120, d=48, noise=0.4)
        table = located(path, seed=seed, draws=80, permutations=100)
        p_values.append(table.groupby("statistic")[["p_constant", "p_order"]].max().stack())
    rejected = (pd.DataFrame(p_values) <= 0.05).mean()
    assert (rejected <= 0.08).all(), rejected


def test_turning_that_vanishes_with_the_common_map_is_a_turn_of_the_basis_alone():
    rng = np.random.default_rng(0)
    path = wander(rng, rates=0.3, widths=WIDTHS, noise=0.2)
    turned = turn_all(rng, path.copy(), at=9, degrees=70)
    weights = bootstrap_weights(np.arange(300.0), draws=50, seed=0)
    # seen after the common map, nothing but the wander is left
    table = rotation_intervals({"plain": turns_of(turned), "procrustes": turns_of(path)}, STEPS, weights, chance=CHANCE)
    table = table.set_index(["turn", "step_b"])
    assert table.loc[("plain", STEPS[9]), "common_share"] > 0.7
    assert table.loc[("plain", STEPS[9]), "common_share_ci_lo"] > 0.6
    assert abs(table.loc[("plain", STEPS[12]), "common_share"]) < 0.1
    assert table.loc["procrustes", "common_share"].isna().all()
    assert (table["turn_deg_ci_lo"] <= table["turn_deg"] + 1e-9).all()
    assert (table["turn_deg"] <= table["angle_deg"] + 1e-9).all()


# blocks


def test_block_means_of_a_hand_computed_matrix():
    matrix = np.array([[1, 0.8, 0.1, 0.2], [0.8, 1, 0.3, 0.4], [0.1, 0.3, 1, 0.6], [0.2, 0.4, 0.6, 1]])
    before, after, across = block_means(matrix[None])
    assert (before[0, 0], after[0, 0]) == (0.8, 0.6)
    assert across[0, 0] == pytest.approx(0.25)
    assert best_split(matrix[None])[0][0] == pytest.approx(0.45)


def test_a_planted_pair_of_blocks_is_placed_and_beats_smooth_drift():
    rng = np.random.default_rng(0)
    path = turn_all(rng, wander(rng, rates=0.15, widths=WIDTHS, noise=0.2), at=8, degrees=90)
    row = located(path, test=two_blocks).loc[("wandering", "blocks")]
    assert (row["step_a"], row["step_b"]) == (STEPS[7], STEPS[8])
    assert row["p_constant"] < 0.02
    assert abs(row["cos_across"]) < 0.1
    assert min(row["cos_before"], row["cos_after"]) > 0.6


def test_smooth_drift_makes_blocks_too_but_they_are_not_called_real():
    p_values = []
    for seed in range(60):
        path = wander(np.random.default_rng(seed), rates=1.0, widths=WIDTHS, n=150, d=48, noise=0.3)
        p_values.append(located(path, seed=seed, draws=60, permutations=100, test=two_blocks).iloc[0])
    found = pd.DataFrame(p_values)
    assert found["value"].min() > 0.2  # a contrast as such proves nothing
    assert (found["p_order"] <= 0.05).mean() <= 0.1
    assert (found["p_constant"] <= 0.05).mean() <= 0.1


def test_drifting_multiplies_cosines_along_the_path():
    matrix = drifted(np.array([[0.1, 0.2]]))[0]
    assert matrix[0, 2] == pytest.approx(matrix[0, 1] * matrix[1, 2])


# tiny studies


@pytest.mark.parametrize("n_snapshots", [2, 3, 4])
def test_tiny_studies_give_honest_rows(n_snapshots):
    steps = (0, 4, 16, 64)[:n_snapshots]
    path = wander(np.random.default_rng(0), rates=1.0, widths=np.ones(n_snapshots - 1), n=5, d=8)
    turns, weights = turns_of(path, draws=20), bootstrap_weights(np.arange(5.0), draws=20, seed=0)
    options = {"chance": 0.35, "permutations": 100, "seed": 0}
    clocks = {"log_step": log_steps(steps)}
    table = turning_points({"plain": turns}, steps, clocks, weights, **options)
    assert len(table) == 8
    assert (table["n_intervals"] == n_snapshots - 1).all()
    blocks = two_blocks({"plain": turns}, steps, clocks, weights, **options)
    assert len(blocks) == 1
    assert ("value" in blocks) == (n_snapshots == 4)


def test_a_dead_dictionary_gives_rows_without_values():
    nothing = Turns(np.full((3, 6), np.nan), np.full((2, 6), np.nan), np.full((5, 4, 4), np.nan))
    weights = bootstrap_weights(np.arange(6.0), draws=4, seed=0)
    clocks, options = {"log_step": log_steps(STEPS[:4])}, {"chance": 0.3, "permutations": 100, "seed": 0}
    table = turning_points({"plain": nothing}, STEPS[:4], clocks, weights, **options)
    assert (table["n_intervals"] == 0).all()
    assert "value" not in table
    assert len(two_blocks({"plain": nothing}, STEPS[:4], clocks, weights, **options)) == 1
    curve = rotation_intervals({"plain": nothing, "procrustes": nothing}, STEPS[:4], weights, chance=0.3)
    assert curve["turn_deg"].isna().all()
    assert curve["noise_deg"].isna().all()
