import pandas as pd
import pytest

from snapcoder.report.findings import HEADLINES
from snapcoder.report.findings_order import order_findings

KEYS = (
    "ngram_order",
    "ngram_before_features",
    "complexity",
    "context_window",
    "type_order",
    "formation",
    "formation_agrees",
)


def told(tables):
    return {finding.key: finding for finding in order_findings(tables)}


def with_tests(tables, where, **columns):
    """The study's tests with other numbers in the rows that `where` selects, and these decided as if by the rules."""
    tests = tables["order_tests"].copy()
    rows = pd.Series(True, index=tests.index)
    for name, value in where.items():
        rows &= tests[name] == value
    assert rows.any()
    tests.loc[rows, list(columns)] = list(columns.values())
    return {**tables, "order_tests": tests}


def supported(tables, question):
    return with_tests(tables, {"question": question}, verdict="supported", effect=0.4, ci_lo=0.3, ci_hi=0.5, p_adjusted=0.001,
                      n=80)  # fmt: skip


def test_every_finding_is_there_and_names_its_numbers(study_tables):
    found = told(study_tables)
    assert tuple(found) == KEYS
    assert set(KEYS) >= {"ngram_order", "ngram_before_features", "complexity"} & set(HEADLINES)
    assert found["ngram_order"].verdict == "found"
    assert found["formation"].verdict == found["formation_agrees"].verdict == "found"
    assert found["type_order"].verdict == "undecidable"
    assert "induction 0" in found["type_order"].sentence
    assert all(finding.statistics for finding in found.values())


@pytest.mark.parametrize("question, key", [("later_more_complex", "complexity"), ("type_order", "type_order"),
                                           ("ngram_before_features", "ngram_before_features")])  # fmt: skip
def test_supported_tests_make_a_finding_found(study_tables, question, key):
    finding = told(supported(study_tables, question))[key]
    assert finding.verdict == "found"
    assert finding.statistics[0].low == 0.3


def test_complexity_that_holds_only_for_some_is_undecidable_and_says_how_many(study_tables):
    tables = supported(study_tables, "later_more_complex")
    mixed = with_tests(tables, {"question": "later_more_complex", "group": "emergent", "x": "peak", "y": "complexity"},
                       verdict="not_supported", effect=0.0)  # fmt: skip
    finding = told(mixed)["complexity"]
    assert finding.verdict == "undecidable"
    assert "6 of 8 support the claim" in finding.sentence


def test_complexity_that_nothing_supports_is_not_found(study_tables):
    tables = supported(study_tables, "later_more_complex")
    none = with_tests(tables, {"question": "later_more_complex"}, verdict="not_supported", effect=-0.1)
    finding = told(none)["complexity"]
    assert finding.verdict == "not_found"
    assert "does not support" in finding.sentence


def test_one_metric_that_is_not_sure_is_named(study_tables):
    tables = supported(study_tables, "ngram_before_features")
    unsure = with_tests(tables, {"question": "ngram_before_features", "x": "kl_bi_marginal"}, verdict="undecidable")
    finding = told(unsure)["ngram_before_features"]
    assert "5 of 6 metrics" in finding.sentence
    assert "bigram KL averaged over contexts" in finding.sentence


def test_combined_evidence_is_preferred_to_the_norm(study_tables):
    tests = study_tables["order_tests"]
    other = tests[tests["onset_by"] == "norm"].assign(onset_by="combined")
    finding = told({**study_tables, "order_tests": pd.concat([tests, other])})
    for key in ("ngram_before_features", "complexity", "type_order"):
        assert "combined evidence" in finding[key].sentence
    assert "onset says" in finding["formation_agrees"].claim


def test_the_decisive_tolerance_is_the_smallest(study_tables):
    tables = supported(study_tables, "ngram_before_features")
    loose = with_tests(tables, {"question": "ngram_before_features", "tolerance": 0.2}, verdict="not_supported")
    finding = told(loose)["ngram_before_features"]
    assert finding.verdict == "found"
    assert "tolerance 20%: not supported" in finding.sentence


def test_without_emergent_features_nothing_is_claimed_about_formation(study_tables):
    timing = study_tables["feature_timing"].assign(**{"class": "initialization"})
    finding = told({**study_tables, "feature_timing": timing})["formation"]
    assert finding.verdict == "undecidable"


def test_empty_tables_claim_nothing(no_tables):
    assert {finding.verdict for finding in order_findings(no_tables)} == {"undecidable"}
