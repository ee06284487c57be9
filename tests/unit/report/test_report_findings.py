import json
import re

import numpy as np
import pandas as pd
import pytest

from snapcoder.report.finding import Finding, Statistic, percent
from snapcoder.report.findings import SECTIONS, all_findings


def findings(tables) -> dict[str, Finding]:
    return {finding.key: finding for finding in all_findings(tables)}


def changed(tables, name, **columns):
    return {**tables, name: tables[name].assign(**columns)}


@pytest.fixture(scope="module")
def told(study_tables):
    return findings(study_tables)


def test_the_planted_story_is_told(told):
    found = {key for key, finding in told.items() if finding.verdict == "found"}
    assert {
        "kl_uni_context", "kl_bi_context", "ngram_order", "loss_below_h3", "boundary_ngram", "features_after_bigram", "classes",
        "onsets", "turning_point", "orthogonal_turn", "own_rotation", "dimensionality", "task_agreement_his_their",
        "disrupt_agreement_his_their", "restore_agreement_his_their", "dominance_agreement_his_their", "convergence",
    } <= found  # fmt: skip


def test_what_is_not_there_is_said_not_to_be_there(told):
    assert told["kl_uni_marginal"].verdict == "not_found"
    assert told["boundary_joint"].verdict == "not_found"
    assert told["task_induction"].verdict == "not_found"
    assert "At no snapshot clearly above chance" in told["task_induction"].sentence
    assert told["dimensionality_beyond_spectrum"].verdict == "not_found"
    assert told["task_rare$pair"].verdict == "undecidable"
    assert told["type_order"].verdict == "undecidable"


def test_every_finding_names_its_tables_and_fits_json(told, study_tables):
    assert {finding.section for finding in told.values()} == set(SECTIONS)
    for finding in told.values():
        content = finding.as_json()
        assert content["tables"], finding.key
        assert set(content["tables"]) <= set(study_tables)
        json.dumps(content, allow_nan=False)


def test_without_tables_nothing_is_claimed():
    assert {finding.verdict for finding in all_findings({})} == {"undecidable"}


def test_empty_tables_claim_nothing_either(no_tables):
    assert {finding.verdict for finding in all_findings(no_tables)} == {"undecidable"}


def test_a_kl_that_only_falls_is_no_statistical_phase(study_tables):
    metrics = study_tables["phase_metrics"]
    rank = metrics["step"].rank(method="dense")
    falling = changed(study_tables, "phase_metrics", value=10 / rank, ci_lo=9.9 / rank, ci_hi=10.1 / rank)
    assert findings(falling)["kl_bi_context"].verdict == "not_found"


def test_a_minimum_within_overlapping_intervals_is_undecidable(study_tables):
    metrics = study_tables["phase_metrics"]
    wide = changed(study_tables, "phase_metrics", ci_lo=metrics["value"] - 5, ci_hi=metrics["value"] + 5)
    assert findings(wide)["kl_bi_context"].verdict == "undecidable"
    assert findings(wide)["loss_below_h3"].verdict == "undecidable"
    assert findings(wide)["beyond_bigram"].verdict == "not_found"


def test_a_loss_that_stays_above_the_bigram_model_is_said_to(study_tables):
    high = study_tables["phase_metrics"].copy()
    loss = high["metric"] == "loss"
    high.loc[loss, ["value", "ci_lo", "ci_hi"]] += 3
    assert findings({**study_tables, "phase_metrics": high})["loss_below_h2"].verdict == "not_found"


def test_an_unsupported_boundary_is_undecidable(study_tables):
    segments = study_tables["phase_segments"]
    weak = changed(study_tables, "phase_segments", break_support=segments["break_support"] * 0.1)
    assert findings(weak)["boundary_ngram"].verdict == "undecidable"


def test_onsets_at_a_constant_rate_do_not_crowd(study_tables):
    steps = np.array([2**power for power in range(11)])
    timing = study_tables["feature_timing"].iloc[:50].copy()
    timing["class"], timing["onset_censoring"] = "emergent", "interval"
    timing["onset_hi"] = np.repeat(steps[1:], 5)
    timing["onset_lo"] = np.repeat(steps[:-1], 5)
    snapshots = pd.DataFrame({"step": steps})
    assert findings({"feature_timing": timing, "snapshots": snapshots})["onsets"].verdict == "not_found"


def test_steady_turning_has_no_turning_point(study_tables):
    rotation = study_tables["direction_rotation"].copy()
    places = np.log10(np.where(rotation[["step_a", "step_b"]] == 0, 0.5, rotation[["step_a", "step_b"]]))
    rotation["angle_deg"] = 20 * (places[:, 1] - places[:, 0])
    assert findings({**study_tables, "direction_rotation": rotation})["turning_point"].verdict != "found"


def test_a_turn_of_the_whole_space_is_not_counted_as_the_features_own(study_tables):
    rigid = changed(study_tables, "direction_rotation", procrustes_cos=1.0)
    assert findings(rigid)["own_rotation"].verdict == "not_found"


def test_features_that_beat_no_random_draw_are_not_called_few(study_tables):
    curves = study_tables["ablation_curves"]
    random = curves["ranking"] == "random"
    same = curves[curves["ranking"] == "attr_here"]
    copies = pd.concat([same.assign(ranking="random", draw=draw) for draw in range(3)])
    tied = {**study_tables, "ablation_curves": pd.concat([curves[~random], copies])}
    assert findings(tied)["disrupt_agreement_his_their"].verdict == "undecidable"
    assert findings(tied)["restore_agreement_his_their"].verdict == "undecidable"


def test_a_task_lost_at_the_end_is_not_acquired(study_tables):
    performance = study_tables["task_performance"].copy()
    performance.loc[performance["step"] == 2000, "acquired"] = False
    finding = findings({**study_tables, "task_performance": performance})["task_agreement_his_their"]
    assert finding.verdict == "not_found"
    assert "but not at the end" in finding.sentence


def test_sentences_only_use_numbers_that_the_tables_yield(told, study_tables):
    """Change every value of a table and its sentences must change: no number is written into the text."""
    recon = study_tables["recon_metrics"]
    moved = findings(changed(study_tables, "recon_metrics", ev=recon["ev"] - 0.2, l0=31.4, dict_size=77, dead=0.33))
    sentence = moved["reconstruction"].sentence
    assert {"31.4", "33%", "77 features", "73%"} <= set(re.findall(r"31\.4|33%|77 features|73%", sentence))
    assert moved["reconstruction"].verdict == "not_found"
    assert told["reconstruction"].sentence != sentence


def test_percentages_keep_a_decimal_only_where_it_matters():
    assert [percent(value) for value in (0.5, 0.934, 0.012, 1.0, float("nan"))] == ["50%", "93.4%", "1.2%", "100%", "–"]


def test_undefined_statistics_become_null():
    finding = Finding("k", "phases", "c", "found", "s", (Statistic("x", float("nan"), "t"),))
    assert finding.as_json()["statistics"][0]["value"] is None


def test_a_boundary_with_a_weak_bic_gain_is_undecidable(study_tables):
    weak = changed(study_tables, "phase_segments", delta_bic_vs_1seg=3.0)
    assert findings(weak)["boundary_ngram"].verdict == "undecidable"


def test_a_task_above_chance_at_the_last_snapshot_only_is_undecidable(study_tables):
    performance = study_tables["task_performance"].copy()
    performance.loc[performance["step"] < 2000, "acquired"] = False
    finding = findings({**study_tables, "task_performance": performance})["task_agreement_his_their"]
    assert finding.verdict == "undecidable"


def test_missing_and_empty_ablations_are_told_apart(study_tables, no_tables):
    lacking = {name: frame for name, frame in study_tables.items() if name != "ablation_curves"}
    assert "no table of ablations" in findings(lacking)["few_features"].sentence
    none = {**study_tables, "ablation_curves": no_tables["ablation_curves"]}
    assert "clearly better than chance" in findings(none)["few_features"].sentence
