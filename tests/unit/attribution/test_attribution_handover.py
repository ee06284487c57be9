"""Hand-overs against planted ones: found where they are, and not found between rivals that noise alone exchanges."""

import numpy as np
import pytest

from snapcoder.attribution.handover import handovers


def planted(rng, curves, se=0.05):
    """Attributions [snapshot, feature] around the true curves."""
    truth = np.asarray(curves, dtype=np.float64)
    return truth + se * rng.standard_normal(truth.shape), np.full(truth.shape, se)


CROSSING = np.column_stack([np.linspace(1.0, 0.2, 9), np.linspace(0.2, 1.0, 9), np.full(9, 0.1)])


def test_a_planted_handover_is_found_between_the_last_clear_lead_and_the_first_clear_one():
    found = handovers(*planted(np.random.default_rng(0), CROSSING, se=0.02))
    assert [(old, new) for _, _, old, new in found.events] == [(0, 1)]
    before, at, _, _ = found.events[0]
    assert before < 4 < at  # the curves cross at snapshot 4, where nobody leads
    assert found.holder.tolist() == [0] * at + [1] * (9 - at)
    assert found.n_leaders == 2
    assert found.clearly_ahead[0]
    assert not found.clearly_ahead[4]


def test_close_rivals_that_noise_exchanges_hand_nothing_over():
    rng, curves = np.random.default_rng(1), np.tile([1.0, 1.0, 0.97, 0.3], (12, 1))
    found = [handovers(*planted(rng, curves)) for _ in range(300)]
    assert np.mean([len(np.unique(one.leader)) > 1 for one in found]) > 0.95, "the leader does change all the time"
    assert np.mean([len(one.events) > 0 for one in found]) <= 0.05


def test_the_lead_can_come_back():
    a = np.array([1.0, 1, 0.2, 0.2, 1, 1])
    found = handovers(*planted(np.random.default_rng(2), np.column_stack([a, 1.2 - a]), se=0.02))
    assert [(at, old, new) for _, at, old, new in found.events] == [(2, 0, 1), (4, 1, 0)]
    assert found.n_leaders == 2


def test_who_was_never_clearly_ahead_hands_nothing_over():
    curves = np.array([[0.50, 0.49], [0.50, 0.51], [0.2, 1.0]])
    found = handovers(curves, np.full(curves.shape, 0.05))
    assert found.events == ()
    assert found.holder.tolist() == [1, 1, 1]
    assert found.n_leaders == 1


def test_the_size_counts_and_not_the_sign():
    attr, se = planted(np.random.default_rng(3), CROSSING, se=0.02)
    flipped = handovers(attr * np.array([1, -1, 1]), se)
    assert flipped.events == handovers(attr, se).events


def test_the_order_and_names_of_features_do_not_matter():
    attr, se = planted(np.random.default_rng(4), CROSSING, se=0.02)
    order = np.array([2, 0, 1])
    moved = handovers(attr[:, order], se[:, order])
    assert [(a, b, order[i], order[j]) for a, b, i, j in moved.events] == list(handovers(attr, se).events)


def test_without_standard_errors_nothing_is_shown():
    found = handovers(CROSSING, np.full(CROSSING.shape, np.nan))
    assert found.events == ()
    assert not found.clearly_ahead.any()
    assert found.tests == 0


def test_a_single_leader_is_compared_with_nobody():
    found = handovers(np.array([[1.0, 0.1], [2.0, 0.1]]), np.full((2, 2), 0.1))
    assert found.tests == 0
    assert found.holder.tolist() == [0, 0]
    assert found.clearly_ahead.tolist() == [True, True], "of the runner-up, by 6 standard errors"


def test_p_values_are_corrected_for_all_pairs_and_snapshots():
    attr = np.array([[0.2, 0.0], [0.0, 0.2], [0.0, 0.2]])
    found = handovers(attr, np.full(attr.shape, 0.1 / np.sqrt(2) * 1.0))
    # z = 2, p = 0.0455 each: significant alone, not after Holm over three
    assert found.tests == 3
    np.testing.assert_allclose(found.p_runner_up, 3 * 0.04550026, rtol=1e-6)
    assert found.events == ()


def test_no_snapshot_is_refused():
    with pytest.raises(ValueError, match="at least one attributed snapshot"):
        handovers(np.zeros((0, 3)), np.zeros((0, 3)))
