from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import linregress

from snapcoder.evolution.latent_scaling import CodeSums, DirectionSums, scaling_slopes, unit


def world(seed=0, n=3000, d=10, n_features=6, bias=0.7):
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.5, 2, (n, n_features)) * (rng.random((n, n_features)) < 0.2)
    f = z * (z > 0.9)
    decoder = rng.standard_normal((n_features, d))
    x = z @ decoder + 0.3 * rng.standard_normal((n, d)) + bias
    return z, f, decoder, x, f @ decoder + bias / 2


def accumulate(z, f, decoder, x, xhat, direction, segments=8, size=100):
    sums, along = CodeSums(segments, *decoder.shape), DirectionSums(direction, segments)
    edges = np.linspace(0, len(x), segments + 1).astype(int)
    for segment, (low, high) in enumerate(pairwise(edges)):
        for start in range(low, high, size):
            part = slice(start, min(start + size, high))
            zs, fs = (csr_array(values[part].astype(np.float32)) for values in (z, f))
            sums.add_code(segment, zs)
            sums.add_snapshot(segment, zs, fs, x[part], xhat[part])
            along.add(segment, zs.T @ x[part], zs.T @ xhat[part])
    return sums, along, edges


def slopes(z, f, decoder, x, xhat, direction, **options):
    sums, along, _ = accumulate(z, f, decoder, x, xhat, direction)
    options = {"segments": np.arange(8), "min_active": 2, **options}
    return scaling_slopes(sums, along, decoder, **options)


def test_slopes_and_errors_are_those_of_a_regression_on_the_rows():
    z, f, decoder, x, xhat = world()
    direction = unit(np.random.default_rng(1).standard_normal(decoder.shape))
    error, rest = slopes(z, f, decoder, x, xhat, direction)
    edges = np.linspace(0, len(x), 9).astype(int)
    for i in range(len(decoder)):
        own = np.outer(f[:, i], decoder[i])
        for found, y in ((error, x - xhat + own), (rest, xhat - own)):
            p = y @ direction[i]
            line = linregress(z[:, i], p)
            assert found.value[i] == pytest.approx(line.slope, rel=1e-4, abs=1e-5)
            score = (z[:, i] - z[:, i].mean()) * (p - line.intercept - line.slope * z[:, i])
            by_segment = np.add.reduceat(score, edges[:-1])
            expected = np.sqrt(8 / 7 * (by_segment**2).sum()) / ((z[:, i] - z[:, i].mean()) ** 2).sum()
            assert found.se[i] == pytest.approx(expected, rel=1e-3)


def test_a_right_decoder_scales_by_one_and_a_shrunken_one_leaves_the_whole_amplitude_in_the_error():
    z, _, decoder, x, _ = world(bias=0.0)
    for share in (1.0, 0.25, 0.0):
        made = decoder.copy()
        made[2] *= share
        xhat = z @ made
        error, rest = slopes(z, z, made, x, xhat, unit(decoder))
        amplitude = np.linalg.norm(decoder, axis=1)
        np.testing.assert_allclose(error.value / amplitude, 1, atol=0.05)
        assert abs(rest.value[2] / amplitude[2]) < 0.25


def test_what_another_feature_covers_shows_in_the_rest_and_not_in_the_error():
    z, _, decoder, x, _ = world(bias=0.0)
    z = np.column_stack([z, z[:, 2]])  # a copy of feature 2 does its work
    made = np.vstack([decoder, decoder[2]])
    made[2] = 0
    error, rest = slopes(z, z, made, x, z @ made, unit(np.vstack([decoder, decoder[2]])))
    amplitude = np.linalg.norm(decoder[2])
    assert abs(error.value[2] / amplitude) < 0.05
    assert rest.value[2] / amplitude == pytest.approx(1, abs=0.25)


def test_without_an_own_contribution_it_is_the_formula_of_minder_for_centred_data():
    z, _, decoder, x, _ = world(bias=0.0)
    z, x = z - z.mean(axis=0), x - x.mean(axis=0)
    direction = unit(decoder)
    error, _ = slopes(z, 0 * z, decoder, x, 0 * x, direction)
    minder = np.einsum("fd,fd->f", direction, z.T @ x) / (z**2).sum(axis=0)
    np.testing.assert_allclose(error.value, minder, rtol=1e-3)


def test_few_activations_constant_codes_and_missing_directions_are_undefined():
    z, f, decoder, x, xhat = world()
    z[:, 0], f[:, 0] = 0, 0
    z[:, 1], f[:, 1] = 1, 1
    direction = unit(decoder)
    direction[3] = 0
    error, rest = slopes(z, f, decoder, x, xhat, direction, min_active=300)
    assert np.isnan(error.value[[0, 1, 3]]).all()
    assert not np.isnan(error.value[[2, 4, 5]]).any()
    assert np.isnan(slopes(z, f, decoder, x, xhat, direction, min_active=10_000)[1].value).all()
    alone = slopes(z, f, decoder, x, xhat, direction, segments=np.array([0]), min_active=2)[0]
    assert not np.isnan(alone.value[2])
    assert np.isnan(alone.se).all()  # one stretch of documents has no spread
    assert np.isnan(rest.value[0])


def test_standard_errors_cover_the_truth():
    inside = []
    for seed in range(25):
        z, _, decoder, x, _ = world(seed, n=1200, bias=0.0)
        error, _ = slopes(z, 0 * z, decoder, x, z @ decoder - z[:, [0]] * decoder[0], unit(decoder))
        inside.append(abs(error.value[0] - np.linalg.norm(decoder[0])) < 2.36 * error.se[0])  # t with 7 degrees
    assert np.mean(inside) >= 0.84
