import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from snapcoder.report.finding import Finding, Statistic, percent
from snapcoder.report.findings import SECTIONS, Tables, all_findings


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
        "onsets", "turning_point", "two_blocks", "orthogonal_turn", "own_rotation", "dimensionality",
        "dimensionality_beyond_random", "task_agreement_his_their",
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


def test_the_workflow_gives_the_report_every_table_that_findings_ask_for(monkeypatch):
    asked = set()
    monkeypatch.setattr(Tables, "__missing__", lambda self, name: asked.add(name) or pd.DataFrame())
    all_findings({})
    given = Path("rules/report_files.smk").read_text(encoding="utf-8")
    assert asked
    assert {name for name in asked if f'"{name}"' not in given and f"/{name}.parquet" not in given} == set()


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


def test_the_turning_point_is_named_with_its_interval_speed_and_tests(told):
    sentence = told["turning_point"].sentence
    assert "between step 64 and step 128 (95% over features: step 64 to step 256)" in sentence
    assert "50° in this interval beyond the 4° that estimation makes" in sentence
    assert "p = 0.005 against constant speed, 0.010" in sentence
    assert "Per step, not per decade, it is between step 4 and step 16" in told["turning_point"].caveat


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"p_constant": 0.3}, "not_found"),  # speeds differ no more than features as a sample let them
        ({"step_a": 0, "step_b": 4}, "not_found"),  # fastest in the first interval: no turn inside
        ({"p_order": 0.2}, "undecidable"),  # an uneven process would do as well
        ({"p_constant": np.nan}, "undecidable"),
    ],
)
def test_a_turning_point_needs_a_place_inside_and_both_tests(study_tables, changes, verdict):
    assert findings(changed(study_tables, "turning_points", **changes))["turning_point"].verdict == verdict


def test_one_law_alone_makes_no_turning_point(study_tables):
    points = study_tables["turning_points"].copy()
    points.loc[points["law"] == "wandering", "p_constant"] = 0.4
    assert findings({**study_tables, "turning_points": points})["turning_point"].verdict == "not_found"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"cos_across_ci_lo": 0.4, "cos_across_ci_hi": 0.5}, "not_found"),
        ({"cos_after_ci_lo": 0.2, "cos_after_ci_hi": 0.4}, "not_found"),  # it goes on turning
        ({"p_order": 0.2}, "undecidable"),
    ],
)
def test_two_blocks_need_unrelated_cosines_slow_drift_and_both_tests(study_tables, changes, verdict):
    assert findings(changed(study_tables, "turning_points", **changes))["two_blocks"].verdict == verdict


def test_a_turn_of_the_whole_space_is_not_counted_as_the_features_own(study_tables):
    rigid = changed(
        study_tables, "rotation_intervals", common_share=0.95, common_share_ci_lo=0.9, common_share_ci_hi=1.0
    )  # fmt: skip
    assert findings(rigid)["own_rotation"].verdict == "not_found"
    assert "5%" in findings(rigid)["own_rotation"].sentence


def test_a_dip_counts_as_beyond_the_spectrum_only_as_difference_and_ratio(study_tables):
    tests = study_tables["dimensionality_tests"].copy()
    spectrum = tests["measure"] == "minus_spectrum"
    tests.loc[spectrum, ["p_null", "compression_ci_lo", "expansion_ci_lo"]] = 0.02
    assert findings({**study_tables, "dimensionality_tests": tests})["dimensionality_beyond_spectrum"].verdict == (
        "undecidable"
    )
    tests.loc[tests["measure"] == "over_spectrum", ["p_null", "compression_ci_lo", "expansion_ci_lo"]] = 0.02
    assert (
        findings({**study_tables, "dimensionality_tests": tests})["dimensionality_beyond_spectrum"].verdict == "found"
    )


def test_without_a_dip_there_is_nothing_to_explain(study_tables):
    rising = changed(study_tables, "dimensionality_tests", depth=0.0)
    told = findings(rising)
    assert told["dimensionality"].verdict == "not_found"
    assert told["dimensionality_beyond_random"].verdict == "undecidable"


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


def test_attribution_is_judged_by_exact_effects_of_the_primary_method(told, study_tables):
    assert told["attribution_exact"].verdict == "found"
    assert "median r of 0.97" in told["attribution_exact"].sentence
    assert told["attribution_significance"].verdict == "found"
    quality = study_tables["attribution_quality"]
    primary = quality["method"] == "ig"
    worse = changed(
        study_tables, "attribution_quality",
        exact_r=quality["exact_r"].where(~primary, 0.5), n_significant=quality["n_significant"].where(~primary, 0),
    )  # fmt: skip
    found = findings(worse)
    assert found["attribution_exact"].verdict == "not_found"
    assert found["attribution_significance"].verdict == "not_found"
    unknown = changed(study_tables, "attribution_quality", exact_r=np.nan)
    assert findings(unknown)["attribution_exact"].verdict == "undecidable"
