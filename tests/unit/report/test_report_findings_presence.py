import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from snapcoder.figures.summary import norm_correlations
from snapcoder.report.findings_presence import presence_findings


def findings(tables):
    return {finding.key: finding for finding in presence_findings(tables)}


@pytest.fixture
def tables(study_tables):
    return {name: study_tables[name].copy() for name in ("feature_presence", "feature_onsets")}


def statistic(finding, name):
    return next(one for one in finding.statistics if one.name == name)


def test_correlations_are_spearmans_per_feature_and_leave_out_what_is_undefined():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        [{"feature": f, "step": s, "norm_rel": rng.random(), "other": rng.integers(0, 4)} for f in range(6) for s in range(8)]
    )  # fmt: skip
    rows.loc[rows["feature"] == 1, "other"] = 2  # the same throughout
    rows["other"] = rows["other"].astype(float)
    rows.loc[(rows["feature"] == 2) & (rows["step"] == 3), "other"] = np.nan
    expected = [spearmanr(g["norm_rel"], g["other"]).statistic for f, g in rows.groupby("feature") if f not in (1, 2)]
    np.testing.assert_allclose(sorted(norm_correlations(rows, "other")), sorted(expected))
    assert norm_correlations(rows[rows["feature"] == 1], "other").size == 0


def test_a_probe_that_follows_the_norm_supports_it(tables):
    finding = findings(tables)["norm_validity"]
    assert finding.verdict == "found"
    assert statistic(finding, "median Spearman ρ, norm and probe AUROC").value == pytest.approx(1)


def test_a_probe_that_goes_its_own_way_does_not(tables):
    rows = tables["feature_presence"]
    rows["probe_auroc"] = 1.4 - 0.9 * rows["norm_rel"]
    assert findings(tables)["norm_validity"].verdict == "not_found"


def test_without_probes_or_with_few_snapshots_the_norm_is_not_judged(tables):
    few = {**tables, "feature_presence": tables["feature_presence"].query("step < 64")}
    assert "fewer than five snapshots" in findings(few)["norm_validity"].sentence
    tables["feature_presence"]["probe_auroc"] = np.nan
    assert findings(tables)["norm_validity"].verdict == "undecidable"


def test_onsets_are_counted_by_what_became_of_them(tables):
    onsets = tables["feature_onsets"]
    dated = onsets["norm_lo"].notna() & onsets["norm_hi"].notna() & (onsets["class"] != "dead")
    finding = findings(tables)["onset_verdicts"]
    assert finding.verdict == "found"
    covered = (onsets.loc[dated, "verdict"] == "decoupled").mean()
    assert 0 < covered < 0.5
    assert statistic(finding, "share decoupled").value == pytest.approx(covered)
    assert statistic(finding, "features with an onset by norm between snapshots").value == dated.sum()
    onsets["verdict"] = "shrinkage"
    assert findings(tables)["onset_verdicts"].verdict == "not_found"


def test_few_onsets_decide_nothing(tables):
    tables["feature_onsets"]["norm_lo"] = np.nan
    assert findings(tables)["onset_verdicts"].verdict == "undecidable"
