import numpy as np
import pandas as pd
import pytest

from snapcoder.report.findings import all_findings

TASK = "agreement_his_their"


def findings(tables):
    return {finding.key: finding for finding in all_findings(tables)}


def with_summary(tables, *, unit="feature", ablation="resample", **columns):
    summary = tables["ablation_summary"].copy()
    chosen = (summary["ranking"] == "attr_here") & (summary["ablation"] == ablation) & (summary["unit"] == unit)
    for name, value in columns.items():
        summary.loc[chosen, name] = value
    return findings({**tables, "ablation_summary": summary})


@pytest.mark.parametrize("mode", ["disrupt", "restore"])
def test_few_features_are_found_when_interval_and_matched_features_say_so(study_tables, mode):
    finding = findings(study_tables)[f"{mode}_{TASK}"]
    assert finding.verdict == "found"
    assert "2.8 features [1.8, 3.8] of 60" in finding.sentence
    assert "as many features matched in decoder norm and firing rate" in finding.sentence
    assert "100% of them weaker (p = 0.0300, Holm)" in finding.sentence
    assert ("Alone, the top 10 do 2.50 in sum; together −0.30 [−0.50, −0.10] on top." in finding.sentence) == (
        mode == "disrupt"
    )


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"p_matched_holm": 0.06}, "undecidable"),  # no more than any features like them
        ({"k50_ci_hi": 120.0}, "undecidable"),
        ({"k50": 200.0, "k50_ci_lo": 120.0, "k50_ci_hi": 300.0}, "not_found"),
        ({"k50": np.nan, "k50_ci_lo": np.nan, "k50_ci_hi": np.nan}, "undecidable"),
        ({"matched_k": np.nan, "p_matched_holm": np.nan}, "undecidable"),
    ],
)
def test_few_features_need_tens_with_certainty_and_more_than_matched_ones(study_tables, changes, verdict):
    told = with_summary(study_tables, **changes)
    assert {told[f"{mode}_{TASK}"].verdict for mode in ("disrupt", "restore")} == {verdict}


def test_other_values_of_ablated_features_are_told(study_tables):
    told = with_summary(study_tables, ablation="zero", k50=np.nan)
    assert "mean 2.8, zero no clear effect" in told[f"disrupt_{TASK}"].sentence


def test_fewer_than_neurons_needs_intervals_that_do_not_meet(study_tables):
    assert findings(study_tables)["fewer_than_neurons"].verdict == "found"
    close = with_summary(study_tables, unit="pca", k50_ci_lo=3.0)["fewer_than_neurons"]
    assert close.verdict == "undecidable"
    assert "clearly fewer in 0 of 1 task" in close.sentence
    better = with_summary(study_tables, unit="neuron", k50=0.5, k50_ci_lo=0.4, k50_ci_hi=0.6)["fewer_than_neurons"]
    assert better.verdict == "not_found"
    none = with_summary(study_tables, unit="pca", k50=np.nan)["fewer_than_neurons"]
    assert none.verdict == "undecidable"
    assert none.sentence.startswith("At the last snapshot of no task")


@pytest.mark.parametrize("name", ["ablation_curves", "ablation_summary"])
def test_missing_and_empty_ablations_are_told_apart(study_tables, no_tables, name):
    lacking = {other: frame for other, frame in study_tables.items() if other != name}
    assert "no table of ablations" in findings(lacking)["few_features"].sentence
    none = {**study_tables, name: no_tables[name]}
    assert "clearly better than chance" in findings(none)["few_features"].sentence


def test_the_numbers_told_are_those_of_the_last_snapshot(study_tables):
    summary = study_tables["ablation_summary"]
    earlier = summary["step"] < summary["step"].max()
    moved = pd.concat([summary[earlier].assign(k50=50.0), summary[~earlier]])
    sentence = findings({**study_tables, "ablation_summary": moved})[f"disrupt_{TASK}"].sentence
    assert "2.8 features" in sentence
    assert "it takes 2.8 to 50.0" in sentence
