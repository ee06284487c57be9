"""The claims of the paper, judged from findings."""

import numpy as np
import pytest
import study_files
from synthetic_study import synthetic_tables

from snapcoder.report.claims import CLAIMS, judge
from snapcoder.report.finding import Finding, Statistic, Verdict
from snapcoder.report.findings import all_findings
from snapcoder.storage.tables import read_table
from snapcoder.tables.report import CLAIMS as SCHEMA


def finding(key, verdict: Verdict, *statistics):
    return Finding(key, "features", f"claim of {key}", verdict, f"sentence of {key}", statistics)


def row(findings, number):
    return judge(findings).set_index("claim").loc[number]


def test_all_thirteen_claims_are_judged_whatever_there_is(study_tables):
    table = judge(all_findings(study_tables))
    assert table["claim"].tolist() == list(range(1, 14))
    assert set(table["verdict"]) == {"supported", "not supported", "undecidable here"}
    assert (table["reason"].str.len() > 10).all()
    assert (judge([])["verdict"] == "undecidable here").all()


def test_every_finding_that_a_claim_rests_on_exists(study_tables):
    keys = {one.key for one in all_findings(study_tables)}
    for claim in CLAIMS:
        for pattern in (*claim.keys, *claim.robust):
            stem = pattern.rstrip("*")
            assert any(key.startswith(stem) if pattern.endswith("*") else key == stem for key in keys), pattern


def test_a_claim_of_several_parts_needs_all_of_them():
    parts = ["dimensionality", "dimensionality_beyond_random", "dimensionality_beyond_spectrum"]
    assert row([finding(key, "found") for key in parts], 10)["verdict"] == "supported"
    one_fails = [finding(parts[0], "found"), finding(parts[1], "undecidable"), finding(parts[2], "not_found")]
    failed = row(one_fails, 10)
    assert failed["verdict"] == "not supported"
    assert failed["reason"] == "1 of 3 parts: not found: claim of dimensionality_beyond_spectrum."
    unclear = row([finding(parts[0], "found"), finding(parts[1], "undecidable"), finding(parts[2], "found")], 10)
    assert (unclear["verdict"], unclear["reason"]) == ("undecidable here", f"sentence of {parts[1]}")
    assert row([finding(parts[0], "found")], 10)["verdict"] == "undecidable here"


def test_every_task_counts_for_a_claim_about_abilities():
    both = [finding("disrupt_a", "found"), finding("restore_a", "found")]
    assert row(both, 7)["verdict"] == "supported"
    assert row([*both, finding("disrupt_b", "not_found")], 7)["verdict"] == "not supported"
    assert row([finding("disrupt_a", "found")], 7)["verdict"] == "undecidable here"


def test_the_statistic_is_that_of_the_finding_that_decides_with_the_weakest_p():
    good = finding("onsets", "found", Statistic("share", 0.3, "onset_tests", 0.2, 0.4), Statistic("p (Holm), a", 0.01, "t"),
                   Statistic("p (Holm), b", 0.04, "t"), Statistic("peak, from", 64, "t"))  # fmt: skip
    told = row([good], 1)
    assert (told["statistic"], told["value"], told["ci_lo"], told["ci_hi"], told["p"]) == ("share", 0.3, 0.2, 0.4, 0.04)
    assert told["tables"] == ["onset_tests", "t"]
    assert np.isnan(row([finding("classes", "found")], 2)["p"])


def test_a_check_that_contradicts_is_named_beside_the_verdict():
    told = row([finding("onsets", "found"), finding("threshold_onsets", "not_found"), finding("untrained", "found")], 1)
    assert told["verdict"] == "supported"
    assert told["not_robust"] == ["claim of threshold_onsets"]


def test_the_report_opens_with_the_claims_and_writes_their_table(tmp_path):
    tables = study_files.write_tables(tmp_path, synthetic_tables())
    folder = study_files.run_report(tmp_path, tables, [])
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert text.index('id="claims"') < text.index('id="findings"')
    written = read_table(tmp_path / "report" / "claims.parquet")
    assert len(written) == 13
    assert list(written.columns) == [column.name for column in SCHEMA.columns]
    for claim in CLAIMS:
        assert f"<strong>{claim.text}</strong>" in text


@pytest.mark.parametrize("verdict", ["found", "not_found"])
def test_without_a_sweep_claims_about_dictionaries_say_how_to_get_one(verdict):
    told = row([finding("onsets", verdict)], 13)
    assert told["verdict"] == "undecidable here"
    assert "config/sweep.yaml" in told["reason"]
