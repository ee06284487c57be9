"""Findings about the model's own predictions follow the tables: found, not found, undecidable, and never an error."""

import numpy as np
import pytest
from synthetic_study import empty_tables, synthetic_tables

from snapcoder.figures.summary import FEW_TOKENS, class_label, shown_classes
from snapcoder.report.findings_behaviour import behaviour_findings
from snapcoder.report.findings_phases import phase_findings

KEYS = {
    "ngram_text", "ngram_regression", "frequent_first", "class_order", "classes_below_h3", "contrast_copying",
    "contrast_context",
}  # fmt: skip


@pytest.fixture
def tables():
    return synthetic_tables()


def findings(tables):
    return {finding.key: finding for finding in behaviour_findings(tables)}


def with_values(tables, name, rows, **columns):
    frame = tables[name].copy()
    chosen = np.logical_and.reduce([frame[column] == value for column, value in rows.items()])
    for column, value in columns.items():
        frame.loc[chosen, column] = value
    return {**tables, name: frame}


def test_the_planted_story_is_told(tables):
    found = findings(tables)
    assert found.keys() == KEYS
    assert {key for key, finding in found.items() if finding.verdict != "found"} == set()
    assert "unigram 0.20" in found["ngram_text"].sentence
    assert "step 16" in found["ngram_text"].sentence
    assert "0–25% step 20 [18, 22], 95–100% step 200 [180, 220]" in found["frequent_first"].sentence
    assert "not clearly at the end: frequency 95–100%, position 1, position 2–3" in found["classes_below_h3"].sentence
    sentence = found["contrast_copying"].sentence
    assert "by 0.60 nats/token [0.56, 0.64] on the same tokens of class repeated bigram, which is 0.40" in sentence
    assert "more than on first occurrence; both above 0 to the end from step 512 on" in sentence


def test_text_that_is_never_unlearnt_is_not_found_and_overlap_is_undecidable(tables):
    falling = tables["phase_metrics"]["step"].rank(method="dense", ascending=False)
    chosen = {"metric": "excess_on_bigram_text"}
    still = with_values(tables, "phase_metrics", chosen, value=falling, ci_lo=falling - 0.1, ci_hi=falling + 0.1)
    assert findings(still)["ngram_text"].verdict == "not_found"
    wide = with_values(tables, "phase_metrics", chosen, ci_lo=0.0, ci_hi=9.0)
    assert findings(wide)["ngram_text"].verdict == "undecidable"


def test_a_regression_that_fits_best_at_the_end_is_not_found(tables):
    rising = tables["phase_metrics"]["step"].rank(method="dense") / 10
    better = with_values(tables, "phase_metrics", {"metric": "r2_ngram_regression"}, value=rising)
    assert findings(better)["ngram_regression"].verdict == "not_found"


def test_rare_tokens_first_and_overlapping_ages_change_the_verdict(tables):
    rare = {"class": "frequency_95_100"}
    early = with_values(tables, "token_classes", rare, aoa_step=5.0, aoa_lo=4.0, aoa_hi=6.0)
    assert findings(early)["frequent_first"].verdict == "not_found"
    vague = with_values(tables, "token_classes", rare, aoa_lo=1.0)
    assert findings(vague)["frequent_first"].verdict == "undecidable"
    gone = with_values(tables, "token_classes", rare, n=FEW_TOKENS - 1)
    assert findings(gone)["frequent_first"].verdict == "undecidable"


def test_contrasts_follow_their_interval_at_the_last_snapshot(tables):
    last = {"contrast": "copying", "step": 2000}
    below = with_values(tables, "token_class_contrasts", last, value=-0.3, ci_lo=-0.4, ci_hi=-0.2)
    assert findings(below)["contrast_copying"].verdict == "not_found"
    unsure = with_values(tables, "token_class_contrasts", last, ci_lo=-0.1)
    assert findings(unsure)["contrast_copying"].verdict == "undecidable"
    assert "to the end" not in findings(unsure)["contrast_copying"].sentence
    behind = {
        "class": "repeated_bigram",
        "step": 2000,
    }  # a larger gain on a class where the trigram model is still better
    slow = with_values(tables, "token_class_loss", behind, gap_h3=-0.5, gap_h3_ci_lo=-0.6, gap_h3_ci_hi=-0.4)
    assert findings(slow)["contrast_copying"].verdict == "not_found"
    without = with_values(tables, "token_class_contrasts", last, ci_lo=np.nan)
    assert findings(without)["contrast_copying"].verdict == "undecidable"


def test_nothing_scored_is_undecidable_everywhere():
    assert {finding.verdict for finding in findings(empty_tables()).values()} == {"undecidable"}


def test_other_smoothings_are_named_where_the_loss_passes_a_line(tables):
    sentence = {finding.key: finding.sentence for finding in phase_findings(tables)}["loss_below_h3"]
    assert "add-k (3.90) from step 512 on" in sentence
    assert "Jelinek" not in sentence  # the study has no such row


def test_classes_are_shown_in_their_order_and_under_readable_names(tables):
    classes = tables["token_classes"]
    assert shown_classes(classes, "position") == ["position_1", "position_2_3", "position_32_63"]
    assert shown_classes(classes, "repetition") == ["first_occurrence", "repeated_bigram"]
    assert shown_classes(classes, "position", least=150) == ["position_2_3", "position_32_63"]
    labels = {name: class_label(name) for name in ("position_1", "position_2_3", "frequency_00_25", "word_start")}
    assert list(labels.values()) == ["1", "2–3", "0–25%", "word start"]
