import numpy as np
import pandas as pd
import pytest

from snapcoder.evolution.onset_distribution import OnsetEvidence, onset_distribution
from snapcoder.report.finding import Finding
from snapcoder.report.findings_timing import timing_findings
from snapcoder.study.timing import TimingSettings

READ = (
    "feature_timing", "onset_distribution", "onset_tests", "threshold_sensitivity", "snapshot_sensitivity",
    "heldout_snapshots",
)  # fmt: skip
NONE = pd.DataFrame()
STEPS = np.array([2**power for power in range(11)])


def findings(tables) -> dict[str, Finding]:
    return {finding.key: finding for finding in timing_findings({name: tables.get(name, NONE) for name in READ})}


def changed(tables, name, **columns):
    return {**tables, name: tables[name].assign(**columns)}


def distributed(onset_hi, **more):
    """The tables onset_distribution and onset_tests of features whose onset ends with these snapshots."""
    evidence = {}
    for onset_by, hi in {"norm": onset_hi, **more}.items():
        hi = np.asarray(hi, dtype=float)
        evidence[onset_by] = OnsetEvidence(hi / 2, hi, np.full(len(hi), "emergent"))
    settings = TimingSettings(null_draws=400, bootstrap=100)
    distribution, tests = onset_distribution(evidence, STEPS, settings=settings, layer=2)
    return {"onset_distribution": distribution, "onset_tests": tests}


@pytest.fixture(scope="module")
def told(study_tables):
    return findings(study_tables)


def test_the_planted_crowd_is_told_with_its_place_and_all_four_nulls(told):
    finding = told["onsets"]
    assert finding.verdict == "found"
    assert "between step 128 and step 256" in finding.sentence
    assert "11 onsets where 1.6 are expected" in finding.sentence
    assert sum(statistic.name.startswith("p (Holm)") for statistic in finding.statistics) == 4


def test_onsets_at_a_constant_rate_do_not_crowd():
    assert findings(distributed(np.repeat(STEPS[1:], 5)))["onsets"].verdict == "not_found"


def test_three_crowds_alike_are_none_that_one_could_name():
    thrice = np.concatenate([np.repeat(STEPS[1:], 2), np.repeat([16, 64, 256], 25)])
    assert findings(distributed(thrice))["onsets"].verdict == "undecidable"


def test_combined_evidence_leads_and_the_others_are_named():
    crowd = np.concatenate([np.repeat(STEPS[1:], 2), np.full(40, 64)])
    finding = findings(distributed(crowd, firing=crowd // 2 * 2, combined=np.minimum(crowd * 2, 1024)))["onsets"]
    assert finding.sentence.startswith("By combined evidence, 60 of 60 live features")
    assert "between step 64 and step 128" in finding.sentence
    assert "By norm, the peak lies between step 32 and step 64." in finding.sentence


def test_too_few_onsets_are_no_distribution():
    assert findings(distributed([4, 8, 8]))["onsets"].verdict == "undecidable"


def test_rises_wider_than_their_interval_are_gradual_and_narrower_ones_sudden(study_tables, told):
    assert told["onset_width"].verdict == "not_found"
    sudden = changed(study_tables, "feature_timing", onset_width=study_tables["feature_timing"]["onset_width"] / 10)
    assert findings(sudden)["onset_width"].verdict == "found"


def test_a_peak_that_moves_with_the_threshold_is_said_to(study_tables, told):
    assert told["threshold_onsets"].verdict == "found"
    table = study_tables["threshold_sensitivity"]
    low = table["alpha"] == 0.1
    moved = table.assign(peak_lo=table["peak_lo"].mask(low, 4), peak_hi=table["peak_hi"].mask(low, 16))
    finding = findings({**study_tables, "threshold_sensitivity": moved})["threshold_onsets"]
    assert finding.verdict == "not_found"
    assert "α 0.1 with m 1 (step 4 to step 16)" in finding.sentence


def test_a_share_that_follows_the_threshold_is_said_to(study_tables, told):
    assert told["threshold_classes"].verdict == "found"
    table = study_tables["threshold_sensitivity"]
    moved = table.assign(emergent_share=table["alpha"])
    assert findings({**study_tables, "threshold_sensitivity": moved})["threshold_classes"].verdict == "not_found"


def test_half_the_snapshots_must_keep_classes_onsets_and_peak(study_tables, told):
    assert told["snapshot_onsets"].verdict == "found"
    for column, value in (("consistent", 0.5), ("class_agreement", 0.5)):
        worse = changed(study_tables, "snapshot_sensitivity", **{column: value})
        assert findings(worse)["snapshot_onsets"].verdict == "not_found"
    table = study_tables["snapshot_sensitivity"]
    elsewhere = table.assign(peak_lo=table["peak_lo"].mask(table["every"] == 2, 1024.0),
                             peak_hi=table["peak_hi"].mask(table["every"] == 2, 1408.0))  # fmt: skip
    assert findings({**study_tables, "snapshot_sensitivity": elsewhere})["snapshot_onsets"].verdict == "not_found"


def test_decoders_off_the_line_are_named_where_they_are_furthest(study_tables, told):
    assert told["heldout_snapshots"].verdict == "undecidable"  # smooth late, not early
    assert "most at step 4 " in told["heldout_snapshots"].sentence
    table = study_tables["heldout_snapshots"]
    interpolated = table["method"] == "interpolated"
    for ev, verdict in ((0.94, "found"), (0.5, "not_found")):
        moved = table.assign(ev=table["ev"].mask(interpolated, ev))
        assert findings({**study_tables, "heldout_snapshots": moved})["heldout_snapshots"].verdict == verdict


def test_tables_of_a_study_with_nothing_dated_claim_nothing(study_tables):
    nothing = {name: study_tables[name].copy() for name in ("threshold_sensitivity", "snapshot_sensitivity")}
    for table in nothing.values():
        table["n_dated"] = 0
        table[["peak_lo", "peak_hi", "median_onset", "p_log_uniform", "spearman_dated", "emd_decades"]] = np.nan
    told = findings({**nothing, **distributed([])})
    for key in ("onsets", "threshold_onsets", "threshold_classes", "snapshot_onsets", "heldout_snapshots"):
        assert told[key].verdict == "undecidable", key
