import numpy as np
import pytest

from snapcoder.evolution.curves import FeatureCurves
from snapcoder.evolution.shuffled_order import shuffled_order
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.tables.timing import SHUFFLED_ORDER

N, F = 14, 60


def curves(norm, rate=0.01):
    rates = np.full(norm.shape, rate)
    return FeatureCurves(np.arange(len(norm)), np.arange(norm.shape[1]), norm, rates, rates > 0)


def read(norm, **options):
    table = shuffled_order(curves(norm, **options), settings=EvolutionSettings(), permutations=99, seed=0, layer=2)
    assert list(table.columns) == [column.name for column in SHUFFLED_ORDER.columns]
    return table.set_index("quantity")


def test_planted_histories_switch_once_and_no_shuffle_looks_as_ordered():
    onset = np.random.default_rng(0).integers(0, N, F)
    table = read(np.where(np.arange(N)[:, None] >= onset, 1.0, 0.1))
    assert table.loc["switches", "value"] == (onset > 0).mean()
    assert table.loc["share_unbroken", "value"] == 1
    assert table.loc["switches", "p"] == table.loc["share_unbroken", "p"] == pytest.approx(0.01)
    assert table.loc["switches", "shuffled_lo"] > 1.5 * table.loc["switches", "value"]


def test_norms_that_only_scatter_are_as_ordered_in_any_order():
    p = [read(np.random.default_rng(seed).random((N, F))).loc["switches", "p"] for seed in range(20)]
    assert np.mean(np.array(p) <= 0.1) <= 0.3
    assert 0.2 < np.mean(p) < 0.8


def test_relabelling_features_changes_nothing_and_no_feature_is_no_number():
    norm = np.random.default_rng(1).random((N, F))
    assert read(norm).equals(read(norm[:, ::-1]))
    none = read(norm, rate=0.0)
    assert none[["value", "p"]].isna().all(axis=None)
    assert (none["n_features"] == 0).all()
