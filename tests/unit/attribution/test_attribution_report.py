"""The step attribution_report on a planted study: who carries which task, when, and since when."""

import numpy as np
import pandas as pd
import pytest
from synthetic_study import conform

from snapcoder.job import Job
from snapcoder.steps.attribution_report import attribution_report
from snapcoder.storage.dictionaries import Dictionary, write_dictionary
from snapcoder.storage.tables import read_table, write_table
from snapcoder.tables.catalogue import TABLES

STEPS, N_FEATURES, LAYER = (0, 8, 32, 64, 128, 256, 512, 1024), 30, 1
SINCE = 64  # the task is acquired from here
EARLY, LATE, FIRST = 4, 9, 2  # features: leads early, takes over at 512, is there from the start
OUTPUTS = {
    "relie": "relie", "check": "relie_check", "report": "attribution_report", "timing": "task_feature_timing",
    "handover": "handover",
}  # fmt: skip


def attribution_rows(step):
    late = step >= 512
    strength = {
        EARLY: 0.3 if late else 1.0,
        LATE: 1.0 if late else 0.1,
        FIRST: 0.2,
        **dict.fromkeys(range(20, 30), 0.01),
    }
    ranked = sorted(strength, key=lambda feature: -strength[feature])
    rows = [
        {"task": "planted", "step": step, "feature": feature, "attr": strength[feature], "attr_se": 0.02,
         "rank": rank, "exact_effect": 1.1 * strength[feature]}
        for rank, feature in enumerate(ranked, 1)
    ]  # fmt: skip
    rows.append({"task": "planted", "step": step, "feature": -1, "attr": 5.0, "attr_se": 0.02, "rank": 0})
    other = [{**row, "method": "atp", "baseline": "zero", "attr": 9.0} for row in rows]
    frame = pd.DataFrame([{**row, "method": "ig", "baseline": "corrupted"} for row in rows] + other)
    return frame.assign(layer=LAYER, ig_steps=10, attr_abs_mean=1.0, attr_share=0.1, n_examples=24)


@pytest.fixture
def files(tmp_path):
    onset = {EARLY: (32, 64), LATE: (256, 512), FIRST: (np.nan, 0)}
    places = [onset.get(feature, (128, 256)) for feature in range(N_FEATURES)]
    tables = {
        "performance": conform(
            pd.DataFrame(
                {"task": "planted", "step": STEPS, "accuracy": 0.9, "acquired": [step >= SINCE for step in STEPS],
                 "status": "scored", "aoa_step": 50.0, "aoa_se": 0.02, "aoa_lo": 45.0, "aoa_hi": 55.0}
            ),
            TABLES["task_performance"],
        ),
        "trajectory": conform(
            pd.DataFrame(
                [
                    {"feature": feature, "snapshot": i, "step": step, "norm": 1.0 + feature, "alive": True,
                     "rate": 0.001 * (1 + feature)}
                    for i, step in enumerate(STEPS)
                    for feature in range(N_FEATURES)
                ]
            ),
            TABLES["feature_trajectory"],
        ),
        "onsets": conform(
            pd.DataFrame(
                {"feature": range(N_FEATURES), "onset_lo": [lo for lo, _ in places], "onset_hi": [hi for _, hi in places],
                 "norm_lo": [lo for lo, _ in places], "norm_hi": [hi for _, hi in places]}
            ),
            TABLES["feature_onsets"],
        ),
    }  # fmt: skip
    schemas = {"performance": "task_performance", "trajectory": "feature_trajectory", "onsets": "feature_onsets"}
    for name, frame in tables.items():
        write_table(tmp_path / f"{name}.parquet", frame, TABLES[schemas[name]], {})
    for step in STEPS:
        frame = attribution_rows(step) if step >= SINCE else attribution_rows(step).iloc[:0]
        frame.to_parquet(tmp_path / f"step{step}.parquet")
    rng = np.random.default_rng(0)
    decoder = rng.normal(size=(len(STEPS), N_FEATURES, 12)).astype(np.float32)
    decoder[6, LATE] = decoder[6, EARLY] + decoder[6, LATE] * 0  # the same direction where the lead passes on
    write_dictionary(
        tmp_path / "dictionary.safetensors",
        Dictionary(
            encoder=np.zeros((len(STEPS), 12, N_FEATURES), np.float32), decoder=decoder,
            encoder_bias=np.zeros(N_FEATURES, np.float32), decoder_bias=np.zeros((len(STEPS), 12), np.float32),
            threshold=np.zeros(N_FEATURES, np.float32), scale=np.ones(len(STEPS), np.float32),
            center=np.zeros((len(STEPS), 12), np.float32), steps=STEPS, gate="per_snapshot", arm="batchtopk", layer=LAYER,
        ),
        {},
    )  # fmt: skip
    return tmp_path


def run(root, out, *, top=5, steps=STEPS):
    out.mkdir(exist_ok=True)
    inputs = {name: (root / f"{name}.parquet",) for name in ("performance", "trajectory", "onsets")}
    inputs |= {
        "attribution": tuple(root / f"step{step}.parquet" for step in steps),
        "dictionary": (root / "dictionary.safetensors",),
        "extensions": (),
    }
    outputs = {name: (out / f"{table}.parquet",) for name, table in OUTPUTS.items()}
    settings = {"carriers": {"top": top, "bootstrap": 100, "permutations": 100, "seed": 0}}
    attribution_report(Job("attribution_report", inputs, outputs, settings, 1, {}))
    return {name: read_table(out / f"{table}.parquet") for name, table in OUTPUTS.items()}


def test_the_planted_story_of_carriers_is_told(files, tmp_path):
    found = run(files, tmp_path / "out")
    report = found["report"].set_index("feature")
    assert {EARLY, LATE, FIRST} < set(report.index)
    assert report.loc[EARLY, "timing_combined"] == "together"  # onset in (32, 64], acquired at 50
    assert report.loc[LATE, "timing_combined"] == "lags"
    assert report.loc[FIRST, "timing_combined"] == "leads"
    assert report.loc[LATE, "lag_combined"] == pytest.approx(np.log10(np.sqrt(256 * 512) / 50))
    assert report.loc[LATE, "share_final"] == pytest.approx(1.0 / 1.6)
    assert report.loc[LATE, "rank_final"] == 1
    assert report.loc[EARLY, "relie_centroid"] < report.loc[LATE, "relie_centroid"]
    assert (report.loc[EARLY, "first_step"], report.loc[EARLY, "last_step"]) == (SINCE, 1024)


def test_shares_over_snapshots_sum_to_one_and_agree_with_proportional_exact_effects(files, tmp_path):
    found = run(files, tmp_path / "out")
    sums = found["relie"].groupby(["task", "feature"])[["relie", "reldec"]].sum()
    np.testing.assert_allclose(sums, 1.0, rtol=1e-5)
    check = found["check"].set_index("quantity")
    assert check.loc["relie", "spearman"] == pytest.approx(1.0)
    assert np.isnan(check.loc["reldec", "spearman"])  # norms are constant here: no rank


def test_shares_of_times_sum_to_one_and_follow_the_weights(files, tmp_path):
    timing = run(files, tmp_path / "out")["timing"].set_index(["weighting", "onset_by"])
    parts = ["share_initial", "share_before", "share_together", "share_after", "share_undated"]
    np.testing.assert_allclose(timing[parts].sum(axis=1), 1.0)
    first, last = timing.loc[("first", "combined")], timing.loc[("last", "combined")]
    assert first["share_together"] > 0.7 > first["share_after"]
    assert last["share_after"] > 0.6
    assert first["lag"] < last["lag"]
    assert set(timing["acquired_by"]) == {"sigmoid"}
    assert (timing["p_shift_holm"] >= timing["p_shift"]).all()


def test_the_planted_handover_has_its_step_and_the_cosine_of_both_decoders(files, tmp_path):
    handover = run(files, tmp_path / "out")["handover"].set_index("step")
    passed = handover.dropna(subset="from_feature")
    assert passed.index.tolist() == [512]
    event = passed.loc[512]
    assert (event["from_feature"], event["holder"], event["from_step"]) == (EARLY, LATE, 256)
    assert event["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert abs(event["cosine_across"]) < 0.9
    assert handover["leader"].tolist() == [EARLY] * 3 + [LATE] * 2


def test_other_methods_and_the_error_term_carry_nothing(files, tmp_path):
    found = run(files, tmp_path / "out", top=30)
    assert found["report"]["attr_final"].max() == 1.0
    assert found["report"]["feature"].min() >= 0
    assert found["timing"]["carried"].tolist() == pytest.approx([1.0] * 6)


def test_running_again_gives_the_same_bytes(files, tmp_path):
    run(files, tmp_path / "one")
    run(files, tmp_path / "two")
    for table in OUTPUTS.values():
        assert (tmp_path / "one" / f"{table}.parquet").read_bytes() == (
            tmp_path / "two" / f"{table}.parquet"
        ).read_bytes()


def test_without_an_acquired_task_all_tables_are_empty(files, tmp_path):
    found = run(files, tmp_path / "out", steps=STEPS[:3])
    assert {name: len(frame) for name, frame in found.items()} == dict.fromkeys(OUTPUTS, 0)
