import numpy as np
import pandas as pd
import pytest

from snapcoder.phases.clocks import clock_at, clocks, same_clock
from snapcoder.phases.warmup import warmup_length


def test_a_snapshot_weighs_half_of_the_gaps_beside_it():
    clock = clock_at(np.array([0.0, 1.0, 3.0, 3.0, 4.0]))
    np.testing.assert_allclose(clock.position, [0, 0.25, 0.75, 0.75, 1])
    np.testing.assert_allclose(clock.weight, np.array([0.5, 1.5, 1.0, 0.5, 0.5]) / 0.8)
    assert clock.effective_snapshots == pytest.approx(4**2 / (0.25 + 2.25 + 1 + 0.25 + 0.25))


def test_weighted_sums_are_integrals_over_the_clock():
    place = np.sort(np.random.default_rng(0).random(12))
    curve = place**2
    clock = clock_at(place)
    span = place[-1] - place[0]
    assert (clock.weight * curve).mean() == pytest.approx(np.trapezoid(curve, place) / span)


def test_the_loss_clock_runs_down_the_lowest_loss_so_far():
    told = clocks(np.array([0, 1, 2, 4]), tokens=None, loss=np.array([6.0, 4.0, 5.0, 2.0]))
    np.testing.assert_allclose(told["loss"].position, [0, 0.5, 0.5, 1])
    assert list(told) == ["log_step", "step", "loss"]


def test_tokens_at_a_constant_batch_size_are_the_same_clock_as_steps():
    steps = np.array([0, 3, 10, 143_000])
    told = clocks(steps, tokens=steps * 2_097_152.0, loss=None)
    assert same_clock(told["step"], told["tokens"])
    assert not same_clock(told["step"], told["log_step"])


def test_a_loss_that_never_falls_and_undefined_tokens_tell_no_clock():
    told = clocks(np.array([0, 1, 2]), tokens=np.array([0.0, np.nan, 2.0]), loss=np.array([1.0, 2.0, 3.0]))
    assert list(told) == ["log_step", "step"]


def test_the_warmup_ends_at_the_first_largest_rate():
    log = pd.DataFrame({"step": [1, 2, 3, 4, 5], "lr": [0.1, 0.2, 0.3, 0.3, 0.1]})
    assert warmup_length(log.sample(frac=1, random_state=0)) == 3
    assert np.isnan(warmup_length(log.assign(lr=0.3)))


def test_without_a_log_the_warmup_is_what_the_configuration_says():
    assert warmup_length(None, told=1430) == 1430
    assert np.isnan(warmup_length(None))
    assert np.isnan(warmup_length(None, told=0))
