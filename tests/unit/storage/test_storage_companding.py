import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from snapcoder.storage.activation_dtypes import fits
from snapcoder.storage.companding import Compander


def bound(rows, compander, steps):
    """The error bound of the module, in float64, with room for float32 rounding on the way."""
    a, center, spread = (array.astype(np.float64) for array in (rows, compander.center, compander.spread))
    u, step = np.arcsinh((a - center) / spread), steps.astype(np.float64)[:, None]
    exact = spread * 2 * np.sinh(step / 4) * np.cosh(np.abs(u) + step / 4)
    return exact + 2e-5 * (np.abs(a) + np.abs(center) + spread) + 1e-43


values = st.one_of(
    st.floats(-1e3, 1e3, width=32),
    st.sampled_from([0.0, -0.0, 1.0, 1e-45, -1e-40, 1.17e-38, 1e-20, 3e4, -7e8, 1e25, -1e30, 3.4e38]).map(np.float32),
)
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=values)


@settings(max_examples=150, deadline=None)
@given(rows=matrices, n_fitted=st.integers(1, 9))
def test_no_value_is_off_by_more_than_the_bound(rows, n_fitted):
    compander = Compander.fit(rows[:n_fitted])
    assert (compander.spread > 0).all()
    assume(fits(rows[:n_fitted], "int8", compander).all())  # else no cache is written
    rows = rows[fits(rows, "int8", compander).all(axis=1)]
    assume(len(rows))
    codes, steps = compander.encode(rows)
    assert codes.dtype == np.int8
    assert steps.dtype == np.float16
    assert np.abs(codes.astype(int)).max() <= 127
    back = compander.decode(codes, steps)
    assert back.dtype == np.float32
    assert (np.abs(back.astype(np.float64) - rows) <= bound(rows, compander, steps)).all()


@settings(max_examples=50, deadline=None)
@given(rows=matrices, data=st.data())
def test_what_a_row_comes_back_as_depends_on_that_row_alone(rows, data):
    compander = Compander.fit(np.random.default_rng(0).normal(size=(50, rows.shape[1])).astype(np.float32))
    rows = rows[fits(rows, "int8", compander).all(axis=1)]
    assume(len(rows))
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    codes, steps = compander.encode(rows)
    for found, expected in zip(compander.encode(rows[order]), (codes[order], steps[order]), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("value", [0.0, 1.0, -3e4, 1e-42, 7e35])
def test_rows_that_never_change_come_back_exactly(value):
    rows = np.full((20, 5), value, dtype=np.float32)
    compander = Compander.fit(rows)
    assert np.array_equal(compander.decode(*compander.encode(rows)), rows)


@settings(max_examples=50, deadline=None)
@given(power=st.integers(-60, 60), seed=st.integers(0, 99))
def test_the_codes_do_not_depend_on_the_unit(power, seed):
    rows = np.random.default_rng(seed).standard_t(3, size=(40, 6)).astype(np.float32)
    plain, scaled = Compander.fit(rows), Compander.fit(np.ldexp(rows, power))
    assert np.array_equal(scaled.spread, np.ldexp(plain.spread, power))
    assert np.array_equal(plain.encode(rows)[0], scaled.encode(np.ldexp(rows, power))[0])


def test_the_code_of_a_value_is_the_formula():
    compander = Compander(center=np.array([10.0, 0.0], dtype=np.float32), spread=np.array([2.0, 1.0], dtype=np.float32))
    rows = np.array([[10 + 2 * np.sinh(1.0), -np.sinh(0.5)], [10, 0]], dtype=np.float32)
    codes, steps = compander.encode(rows)
    assert codes.tolist() == [[127, -63], [0, 0]]  # 0.5 / (1 / 127) = 63.5, a little less as the step is rounded up
    assert steps[0] == pytest.approx(1 / 127, rel=1e-3)
    assert steps[0] >= np.float32(1) / 127
    assert steps[1] == 0
    expected = 10 + 2 * np.sinh(float(steps[0]) * 127)
    assert compander.decode(codes, steps)[0, 0] == pytest.approx(expected, rel=1e-6)


def heavy_tailed(n_rows, d_model, seed=0):
    """Student-t values in unequal dimensions, three of them forty times larger and off zero, and rare massive values."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(5, size=(n_rows, d_model)) * np.exp(0.5 * rng.standard_normal(d_model))
    outliers = rng.choice(d_model, 3, replace=False)
    x[:, outliers] = x[:, outliers] * 40 + [100, -60, 200]
    x[rng.choice(n_rows, n_rows // 200, replace=False), rng.integers(d_model)] += 1500
    return x.astype(np.float32)


def lost_share(x, back, dimensions):
    centred = (x - x.mean(axis=0))[:, dimensions]
    return float(((back - x)[:, dimensions] ** 2).sum() / (centred**2).sum())


@pytest.mark.parametrize("d_model", [96, 768])
def test_outlier_dimensions_and_massive_rows_leave_the_other_dimensions_fine(d_model):
    x = heavy_tailed(3000, d_model)
    compander = Compander.fit(x[:1000])
    back = compander.decode(*compander.encode(x))
    largest = np.abs(x).max(axis=1, keepdims=True) / 127
    straight = np.rint(x / largest) * largest  # one scale per row, on a straight scale
    usual = np.argsort(x.std(axis=0))[:-5]
    everything = np.arange(d_model)
    assert lost_share(x, back, everything) < 1.2e-4
    assert lost_share(x, back, usual) < 1.2e-4
    assert lost_share(x, straight, usual) > 0.03


@pytest.mark.parametrize("d_model", [96, 768])
def test_gaussian_rows_lose_less_than_a_straight_scale_would(d_model):
    x = np.random.default_rng(0).standard_normal((4000, d_model)).astype(np.float32)
    compander = Compander.fit(x[:1000])
    back = compander.decode(*compander.encode(x))
    largest = np.abs(x).max(axis=1, keepdims=True) / 127
    everything = np.arange(d_model)
    assert lost_share(x, back, everything) < 5e-5
    assert lost_share(x, back, everything) < lost_share(x, np.rint(x / largest) * largest, everything)
    error = (back - x).astype(np.float64)
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)  # as often up as down
