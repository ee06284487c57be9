import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from snapcoder.evolution.censored import CensoredOnsets, bin_widths, em_step, log_likelihood, resolved, turnbull

STEPS = np.array([0, 5, 50, 500])  # one decade apart on the log clock
NAN = float("nan")

# Breast cosmesis, radiotherapy alone (Finkelstein & Wolfe 1985), and its published estimate (R package interval, icfit).
COSMESIS = [
    (45, NAN), (6, 10), (0, 7), (46, NAN), (46, NAN), (7, 16), (17, NAN), (7, 14), (37, 44), (0, 8), (4, 11), (15, NAN),
    (11, 15), (22, NAN), (46, NAN), (46, NAN), (25, 37), (46, NAN), (26, 40), (46, NAN), (27, 34), (36, 44), (46, NAN),
    (36, 48), (37, NAN), (40, NAN), (17, 25), (46, NAN), (11, 18), (38, NAN), (5, 12), (37, NAN), (0, 5), (18, NAN),
    (24, NAN), (36, NAN), (5, 11), (19, 35), (17, 25), (24, NAN), (32, NAN), (33, NAN), (19, 26), (37, NAN), (34, NAN),
    (36, NAN),
]  # fmt: skip
PUBLISHED = {5: 0.0463, 7: 0.0334, 8: 0.0887, 12: 0.0708, 25: 0.0926, 34: 0.0818, 40: 0.1209, 48: 0.4656}


def onsets_of(pairs, steps=STEPS):
    lo, hi = np.array(pairs, dtype=float).reshape(-1, 2).T
    return CensoredOnsets.of(lo, hi, np.asarray(steps))


def mass_of(onsets, **keywords):
    return turnbull(onsets.covers, onsets.count[None].astype(float), onsets.steps, **keywords)[0]


def test_onsets_fall_into_the_bins_that_may_hold_them():
    found = onsets_of([(NAN, 0), (0, 5), (5, 500), (500, NAN), (NAN, 5), (NAN, NAN)])
    expected = {"10000", "01000", "00110", "00001", "11000", "11111"}
    assert {"".join("01"[int(cell)] for cell in row) for row in found.covers} == expected
    assert found.n == 6
    assert found.dated().n == 2
    assert found.at_risk().n == 3


def test_widths_place_step_zero_at_a_half():
    decades, linear = bin_widths(STEPS)
    np.testing.assert_allclose(decades, [NAN, 1, 1, 1, NAN])
    np.testing.assert_allclose(linear, [NAN, 5, 45, 450, NAN])


def test_onsets_known_to_single_intervals_give_plain_shares():
    onsets = onsets_of([(NAN, 0)] * 4 + [(0, 5)] * 3 + [(50, 500)] * 2 + [(500, NAN)])
    np.testing.assert_allclose(mass_of(onsets), [0.4, 0.3, 0, 0.2, 0.1])
    assert resolved(onsets.covers).all()


def test_an_overlap_is_shared_out_as_computed_by_hand():
    # a in bin 1, b in bins 1–2, c in bin 2: p₁ = (1 + p₁)/3, so one half each
    np.testing.assert_allclose(mass_of(onsets_of([(0, 5), (0, 50), (5, 50)])), [0, 0.5, 0.5, 0, 0], atol=1e-3)
    # without c nothing asks for bin 2
    np.testing.assert_allclose(mass_of(onsets_of([(0, 5), (0, 50)])), [0, 1, 0, 0, 0])


def test_intervals_that_nothing_tells_apart_share_by_decades_and_say_so():
    onsets = onsets_of([(0, 50), (0, 50), (50, 500)], steps=[0, 5, 500 // 10, 500])
    np.testing.assert_allclose(mass_of(onsets), [0, 1 / 3, 1 / 3, 1 / 3, 0])
    np.testing.assert_array_equal(resolved(onsets.covers), [True, False, False, True, True])


def test_the_published_estimate_of_a_textbook_data_set_is_reproduced():
    lo, hi = np.array(COSMESIS).T
    steps = np.unique([*lo, *hi[~np.isnan(hi)]])
    mass = mass_of(CensoredOnsets.of(lo, hi, steps), tolerance=1e-9)
    found = {int(steps[k]): mass[k] for k in np.flatnonzero(mass > 1e-5)}
    assert found.keys() == PUBLISHED.keys()
    for end, share in PUBLISHED.items():
        assert found[end] == pytest.approx(share, abs=1e-4)


intervals = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda ends: (min(ends), max(ends))), min_size=1, max_size=25
)


def censored(ends, steps=STEPS):
    """Onsets whose first and last bin are given."""
    edges = [NAN, *steps, NAN]
    return onsets_of([(edges[first], edges[last + 1]) for first, last in ends], steps)


@settings(max_examples=40, deadline=None)
@given(ends=intervals)
def test_no_other_distribution_is_more_likely(ends):
    onsets = censored(ends)
    count = onsets.count[None].astype(float)
    mine = float(log_likelihood(mass_of(onsets)[None], onsets.covers, count)[0])

    def loss(free):
        weight = np.exp(free - free.max())
        return -float(log_likelihood((weight / weight.sum())[None], onsets.covers, count)[0])

    brute = min(minimize(loss, start, method="BFGS").fun for start in (np.zeros(5), np.linspace(-1, 1, 5)))
    assert mine >= -brute - 1e-4
    assert mass_of(onsets).sum() == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(ends=intervals)
def test_the_likelihood_never_falls_and_its_bound_holds(ends):
    onsets = censored(ends)
    count, mass = onsets.count[None].astype(float), np.full((1, 5), 0.2)
    best = log_likelihood(mass_of(onsets, tolerance=1e-9)[None], onsets.covers, count)
    values, bounds = [], []
    for _ in range(12):
        values.append(log_likelihood(mass, onsets.covers, count)[0])
        mass, gap = em_step(mass, onsets.covers, count)
        bounds.append(gap[0])
    assert (np.diff(values) >= -1e-12).all()
    assert (best[0] - np.array(values) <= np.array(bounds) + 1e-6).all()


def test_draws_are_estimated_side_by_side_as_one_by_one():
    onsets = censored([(0, 1), (1, 3), (2, 2), (3, 4), (1, 2), (4, 4)])
    counts = np.random.default_rng(0).multinomial(30, np.full(len(onsets.count), 1 / len(onsets.count)), size=8)
    together = turnbull(onsets.covers, counts.astype(float), STEPS)
    for row, count in zip(together, counts, strict=True):
        np.testing.assert_allclose(row, turnbull(onsets.covers, count[None].astype(float), STEPS)[0], atol=1e-12)


def test_nothing_observed_gives_nothing():
    onsets = onsets_of([])
    assert onsets.n == 0
    assert np.isnan(mass_of(onsets)).all()
