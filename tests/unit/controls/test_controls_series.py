import itertools

import numpy as np
import pandas as pd
import pytest

from snapcoder.capture.token_means import token_centred
from snapcoder.evolution.control_statistics import StudyTables, control_statistics, warmup_control
from snapcoder.evolution.sae_series import nearest_directions, sae_series_check, sae_series_match
from snapcoder.evolution.snapshot_decoders import SnapshotDecoders

S, F, D = 4, 40, 32


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def series(present, seed=0):
    """A dictionary whose features turn over snapshots, and autoencoders that have just the present ones, shuffled."""
    rng = np.random.default_rng(seed)
    start, end = unit(rng.standard_normal((2, F, D)))
    angle = np.linspace(0, 1, S)[:, None, None] * rng.uniform(0.2, 1.5, F)[:, None]
    direction = unit(np.cos(angle) * start + np.sin(angle) * end).astype(np.float32)
    saes = []
    for s in range(S):
        known = direction[s][present[s]]
        filler = unit(rng.standard_normal((F - len(known), D))).astype(np.float32)
        saes.append(rng.permutation(np.concatenate([known, filler])))
    decoders = SnapshotDecoders(
        steps=(0, 4, 16, 64), added=(False,) * S, decoders=tuple(direction * 2), threshold=np.zeros((S, F)),
        scale=np.ones(S), center=np.zeros((S, D)), gate="per_snapshot", layer=2,
    )  # fmt: skip
    return decoders, saes


def test_autoencoders_that_have_just_the_present_features_confirm_presence_and_turn():
    present = np.arange(F)[None, :] < np.array([10, 20, 30, 40])[:, None]
    decoders, saes = series(present)
    match = sae_series_match(decoders, saes, present=present, alive=np.ones((S, F), bool))
    check = sae_series_check(match, decoders, saes, seed=0).set_index("step")
    assert np.allclose(check["sae_cos_median"], 1, atol=1e-5)
    assert (check["matched_present"] == 1).all()
    assert (check["kappa"].iloc[:3] > 0.9).all()
    assert (check["auroc"].iloc[:3] == 1).all()
    assert np.isnan(check["auroc"].iloc[3])
    assert check["turn_spearman"].iloc[0] == pytest.approx(1)
    assert check["cos_final_median"].to_numpy() == pytest.approx(check["sae_cos_final_median"].to_numpy(), abs=1e-5)


def test_autoencoders_that_know_nothing_of_the_features_confirm_nothing():
    present = np.arange(F)[None, :] < np.array([10, 20, 30, 40])[:, None]
    decoders, _ = series(present)
    rng = np.random.default_rng(1)
    saes = [rng.standard_normal((F, D)).astype(np.float32) for _ in range(S)]
    match = sae_series_match(decoders, saes, present=present, alive=np.ones((S, F), bool))
    check = sae_series_check(match, decoders, saes, seed=0)
    assert (check["matched_present"] < 0.1).all()
    assert check["sae_cos_median"].max() < check["cos_null_p95"].max()
    assert check["auroc"].dropna().between(0.25, 0.75).all()


def test_a_missing_direction_finds_nothing():
    directions = np.eye(3, dtype=np.float32)
    directions[1] = np.nan
    found = nearest_directions(directions, np.eye(3, dtype=np.float32)[::-1].copy())
    assert found.row.tolist() == [2, -1, 0]
    assert np.isnan(found.cosine[1])


def test_token_means_leave_out_the_row_itself_and_held_out_rows():
    rng = np.random.default_rng(0)
    token = np.array([1, 1, 1, 5, 2, 2, 1, 5, 9])
    is_train = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0], dtype=bool)
    a = rng.standard_normal((9, 3)).astype(np.float32)
    for size in (2, 4, 9):
        blocks = [a[i : i + size] for i in range(0, 9, size)]
        centred = np.concatenate(list(token_centred(lambda blocks=blocks: blocks, token, is_train)))
        for row in range(9):
            others = [r for r in range(9) if r != row and is_train[r] and token[r] == token[row]]
            mean = a[others].mean(axis=0) if others else a[is_train].mean(axis=0)
            assert np.allclose(centred[row], a[row] - mean, atol=1e-6), row


def study(kind, *, uni, bi, turn, emergent=5, warmup=100.0):
    steps = [0, 10, 100, 1000]
    pairs = [
        {"step_a": a, "step_b": b, "cos_median": 1.0 if a == b else 0.1, "cos_ci_lo": 0.0, "cos_ci_hi": 0.2}
        for a in steps
        for b in steps
    ]
    summary = pd.DataFrame(pairs)
    for a, b in itertools.pairwise(steps):
        at = (summary["step_a"] == a) & (summary["step_b"] == b)
        summary.loc[at, "cos_median"] = -0.5 if b == turn else 0.99
    timing = pd.DataFrame(
        {
            "class": ["emergent"] * emergent + ["initialization"] * (10 - emergent) + ["dead"],
            "onset_hi": pd.array([100] * emergent + [0] * (10 - emergent) + [None], dtype="Int64"),
            "onset_censoring": ["interval"] * emergent + ["left"] * (10 - emergent) + ["right"],
        }
    )
    metrics = pd.concat(
        pd.DataFrame({"step": steps, "metric": name, "value": [abs(np.log10(max(s, 1) / best)) for s in steps]})
        for name, best in (("kl_uni_context", uni), ("kl_bi_context", bi))
    )
    return StudyTables(
        kind=kind, timing=timing, rotation_summary=summary, metrics=metrics, segments=None, warmup_steps=warmup,
        reconstruction=pd.DataFrame({"snapshot": [-1], "ev": [0.9], "l0": [20.0]}),
    )  # fmt: skip


def test_landmarks_are_read_off_the_curves_and_shifts_are_in_decades():
    studies = {
        "study": study("study", uni=10, bi=100, turn=100),
        "warmup400": study("warmup", uni=100, bi=1000, turn=100, warmup=400.0),
        "seed1": study("crosscoder_seed", uni=10, bi=100, turn=100),
    }
    table = warmup_control(studies).set_index(["control", "landmark"])
    assert table.loc[("study", "unigram_nearest"), "step"] == 10
    assert table.loc[("warmup400", "unigram_nearest"), "shift_decades"] == pytest.approx(1)
    assert table.loc[("warmup400", "fastest_turn"), "shift_decades"] == pytest.approx(0)
    assert table.loc[("warmup400", "bigram_nearest"), "over_warmup"] == pytest.approx(2.5)
    assert "seed1" not in table.index.get_level_values("control")


def test_statistics_stand_beside_those_of_the_study():
    studies = {
        "study": study("study", uni=10, bi=100, turn=100),
        "untrained": study("untrained", uni=1, bi=1, turn=0, emergent=0),
    }
    table = control_statistics(studies).set_index(["control", "quantity"])
    emergent = table.loc[("untrained", "share_emergent")]
    assert emergent["value"] == 0
    assert emergent["study_value"] == 0.5
    assert 0 < emergent["ci_hi"] < 0.35
    assert table.loc[("study", "onset_median"), "value"] == pytest.approx(100)
    assert ("untrained", "fastest_turn") not in table.index
