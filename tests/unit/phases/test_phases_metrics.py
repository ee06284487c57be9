import numpy as np
import pandas as pd
import pytest

from snapcoder.evolution.rotation import rotation
from snapcoder.evolution.snapshot_decoders import merge_decoders
from snapcoder.phases.feature_curves import feature_curves, feature_draws, feature_table
from snapcoder.phases.metrics import (
    feature_metrics,
    ngram_metrics,
    optimiser_metrics,
    phase_metrics,
    reconstruction_metrics,
    rotation_metrics,
)
from snapcoder.storage.dictionaries import Dictionary

ALIVE = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0]], dtype=bool)  # [snapshot, feature]
STEPS = (0, 5, 50, 500)


def trajectory(alive=ALIVE, norm_rel=None):
    snapshot, feature = (axis.ravel() for axis in np.indices(alive.shape))
    norm_rel = np.full(alive.shape, 0.5) if norm_rel is None else norm_rel
    return pd.DataFrame(
        {
            "step": np.array(STEPS)[snapshot],
            "feature": feature,
            "alive": alive.ravel(),
            "norm_rel": norm_rel.ravel(),
            "dimensionality": np.where(alive, 0.25, np.nan).ravel(),
        }
    )


def curve(table, metric):
    return table[table["metric"] == metric].set_index("step")["value"]


def test_alive_new_and_lost_features_are_counted_by_hand():
    table = feature_metrics(trajectory().sample(frac=1, random_state=0), bootstrap=50, seed=0)
    assert list(curve(table, "n_alive")) == [1, 2, 3, 2]
    assert list(curve(table, "n_new")) == [1, 1, 0]
    assert list(curve(table, "n_lost")) == [0, 0, 1]
    np.testing.assert_allclose(curve(table, "n_new_per_decade"), [1, 1, 0])  # one decade each, step 0 at 0.5
    assert 0 not in curve(table, "n_new").index
    np.testing.assert_allclose(curve(table, "dimensionality_mean"), 0.25)


def test_the_mean_norm_leaves_out_features_that_never_live():
    norm_rel = np.full(ALIVE.shape, 0.5)
    norm_rel[:, 3] = 1.0
    norm_rel[0, :3] = 0.2
    table = feature_metrics(trajectory(norm_rel=norm_rel), bootstrap=50, seed=0)
    np.testing.assert_allclose(curve(table, "norm_rel_mean"), [0.2, 0.5, 0.5, 0.5])


def test_feature_draws_give_binomial_intervals():
    alive = np.zeros((4, 400), dtype=bool)
    alive[:, :100] = True
    table = feature_metrics(trajectory(alive), bootstrap=2000, seed=0)
    row = table[(table["metric"] == "n_alive") & (table["step"] == 0)].iloc[0]
    deviation = np.sqrt(400 * 0.25 * 0.75)
    assert row["ci_hi"] - row["ci_lo"] == pytest.approx(3.92 * deviation, rel=0.1)


def test_renaming_features_leaves_the_curves_unchanged():
    order = np.array([2, 0, 3, 1])
    plain = feature_curves(feature_table(trajectory()), np.ones((1, 4)))
    renamed = feature_curves(feature_table(trajectory(ALIVE[:, order])), np.ones((1, 4)))
    for name in plain:
        np.testing.assert_allclose(renamed[name], plain[name])


def test_feature_draws_hold_as_many_features_as_there_are():
    draws = feature_draws(7, draws=30, seed=1)
    assert (draws.sum(axis=1) == 7).all()
    assert len(np.unique(draws, axis=0)) > 20


def test_optimiser_metrics_follow_the_log_between_snapshots():
    log = pd.DataFrame({"step": range(1, 11), "lr": 0.1, "grad_norm": np.arange(1.0, 11), "param_step_norm": 2.0})
    table = optimiser_metrics(log, np.array([0, 1, 4, 10, 20]))
    np.testing.assert_allclose(curve(table, "cum_lr"), [0, 0.1, 0.4, 1.0])
    np.testing.assert_allclose(curve(table, "grad_norm"), [1, 3, 7.5])  # updates 1; 2–4; 5–10
    assert list(curve(table, "lr").index) == [1, 4, 10]
    assert list(curve(table, "param_step_norm")) == [2, 2, 2]
    sparse = optimiser_metrics(log[log["step"] % 2 == 0], np.array([0, 4, 10]))
    np.testing.assert_allclose(curve(sparse, "cum_lr"), [0, 0.4, 1.0])


def test_rotation_becomes_degrees_per_decade_at_the_later_snapshot():
    angle = np.radians([0, 45, 90, 90])
    decoder = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None, :].repeat(5, axis=1).astype(np.float32)
    s, f, d = decoder.shape
    dictionary = Dictionary(
        encoder=np.zeros((s, d, f)), decoder=decoder, encoder_bias=np.zeros(f), decoder_bias=np.zeros((s, d)),
        threshold=np.zeros(f), scale=np.ones(s), center=np.zeros((s, d)), steps=STEPS, gate="per_snapshot",
        arm="batchtopk", layer=0,
    )  # fmt: skip
    _, summary = rotation(merge_decoders(dictionary), alive=np.ones((4, 5), dtype=bool), cka=np.eye(4))
    table = rotation_metrics(summary)
    np.testing.assert_allclose(curve(table, "rotation_per_decade"), [45, 45, 0], atol=0.1)
    np.testing.assert_allclose(curve(table, "cos_to_final"), [0, np.sqrt(0.5), 1, 1], atol=1e-6)
    np.testing.assert_allclose(curve(table, "rotation_per_decade_procrustes"), 0, atol=0.1)
    intervals = table[table["metric"] == "rotation_per_decade"]
    assert (intervals["ci_lo"] <= intervals["ci_hi"]).all()


def test_added_snapshots_bring_the_reconstruction_of_the_level_in_use():
    base = pd.DataFrame(
        {"snapshot": [-1, 0, 1], "step": [np.nan, 0, 10], "ev": [0.8, 0.7, 0.9], "ev_legacy": 0.5, "l0": 24.0,
         "nrmse": 0.3, "n_rows": 100}
    )  # fmt: skip
    added = pd.DataFrame(
        {"step": [5, 5], "level": ["frozen", "adapted"], "ev": [0.1, 0.85], "ev_legacy": 0.5, "l0": 24.0,
         "nrmse": 0.3, "used": [False, True]}
    )  # fmt: skip
    assert list(curve(reconstruction_metrics(base, added), "ev")) == [0.7, 0.85, 0.9]
    assert list(curve(reconstruction_metrics(base, None), "ev")) == [0.7, 0.9]


def test_the_joined_table_has_the_tokens_and_the_entropies_at_every_snapshot():
    behaviour = pd.DataFrame(
        {
            "step": [0, 5],
            "metric": "loss",
            "value": [3.0, 2.0],
            "ci_lo": 1.0,
            "ci_hi": 4.0,
            "n": 10,
            "unit": "nats/token",
        }
    )
    entropies = pd.DataFrame(
        {"order": [1, 2, 3], "cross_entropy": [2.5, 2.2, 2.0], "ci_lo": 1.0, "ci_hi": 3.0, "n_tokens": 99}
    )
    entropies = pd.concat([entropies.assign(smoothing=name) for name in ("add_k", "kneser_ney")])
    entropies.loc[entropies["smoothing"] == "add_k", "cross_entropy"] += 1
    snapshots = pd.DataFrame({"step": [0, 5], "tokens": [0, 500]})
    table = phase_metrics([ngram_metrics(behaviour, entropies)], layer=2, snapshots=snapshots)
    assert list(curve(table, "h2")) == [2.2, 2.2]
    assert set(table["layer"]) == {2}
    assert table.set_index(["metric", "step"]).loc[("loss", 5), "tokens"] == 500
