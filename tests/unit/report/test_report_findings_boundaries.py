import numpy as np
import pytest

from snapcoder.figures.boundaries import draw_boundaries
from snapcoder.figures.phases import draw_phases
from snapcoder.report.findings_boundaries import boundary_findings


@pytest.fixture
def segments(study_tables):
    return study_tables["phase_segments"].copy()


def told(segments):
    return {finding.key: finding for finding in boundary_findings(segments)}


def everywhere(segments, p):
    return segments.assign(p_perm=p, p_holm=min(8 * p, 1.0))


def test_a_boundary_is_told_with_clock_interval_p_and_support_for_its_number(segments):
    finding = told(segments)["boundary_ngram"]
    assert finding.verdict == "found"
    for said in (
        "On log steps",
        "[32, 128]",
        "p = 0.016 after correction",
        "70% of bootstrap draws prefer as many segments",
    ):
        assert said in finding.sentence
    assert "the most that were allowed" not in finding.sentence
    limited = told(segments.assign(most_segments=3))
    assert "the most that were allowed" in limited["boundary_ngram"].sentence
    assert "the most that were allowed" not in limited["boundary_features"].sentence


def test_a_cut_that_one_process_explains_is_no_boundary(segments):
    findings = told(everywhere(segments, 0.4))
    assert findings["boundary_ngram"].verdict == findings["boundary_features"].verdict == "not_found"
    assert "No boundary is supported" in findings["boundary_ngram"].sentence
    assert findings["boundary_after_warmup"].verdict == "undecidable"


def test_a_boundary_lost_to_the_correction_is_undecidable(segments):
    assert told(everywhere(segments, 0.03))["boundary_ngram"].verdict == "undecidable"


def test_an_undefined_p_value_supports_nothing(segments):
    assert told(segments.assign(p_perm=np.nan, p_holm=np.nan))["boundary_ngram"].verdict == "undecidable"


def test_a_boundary_that_one_clock_does_not_show_does_not_survive(segments):
    finding = told(segments)["boundary_all_clocks"]
    assert finding.verdict == "not_found"
    assert "the n-gram metrics: on log steps and loss" in finding.sentence
    assert "linear steps p = 0.300" in finding.sentence


def test_a_boundary_at_one_place_on_every_clock_survives(segments):
    survived = told(everywhere(segments, 0.001))["boundary_all_clocks"]
    assert survived.verdict == "found"
    assert "on all clocks, at the same place around step 64" in survived.sentence


def test_boundaries_at_different_places_do_not_survive_together(segments):
    segments = everywhere(segments, 0.001)
    loss = segments["clock"] == "loss"
    segments.loc[loss, ["break_lo", "break_hi"]] = [600, 700]
    assert told(segments)["boundary_all_clocks"].verdict == "not_found"


def test_too_few_clocks_decide_nothing(segments):
    few = segments[segments["clock"].isin(["log_step", "step"])]
    assert told(few)["boundary_all_clocks"].verdict == "undecidable"


def test_the_first_boundary_is_held_against_the_warmup(segments):
    finding = told(segments)["boundary_after_warmup"]  # n-gram metrics: step 64 in (32, 128], warm-up 100 steps
    assert finding.verdict == "undecidable"
    assert "0.64 [0.32, 1.28] of the warm-up's 100 steps" in finding.sentence
    late = segments.assign(break_over_warmup=segments["break_step"] / 20)
    assert told(late)["boundary_after_warmup"].verdict == "found"
    early = segments.assign(break_over_warmup=segments["break_step"] / 1000)
    assert told(early)["boundary_after_warmup"].verdict == "not_found"
    unknown = segments.assign(break_over_warmup=np.nan)
    assert told(unknown)["boundary_after_warmup"].verdict == "undecidable"


def words(canvas):
    return " ".join(item.get_text() for item in canvas.findobj(lambda artist: hasattr(artist, "get_text")))


def test_figures_draw_the_preferred_model_and_say_when_no_boundary_is_supported(segments, study_tables):
    drawn = words(draw_boundaries({"phase_segments": segments}))
    assert "levels, K = 3 (70%), p = 0.002" in drawn
    assert "lines" not in drawn
    assert "end of warm-up" in drawn
    swapped = segments.assign(preferred=~segments["preferred"])
    assert "lines, K = 3" in words(draw_boundaries({"phase_segments": swapped}))
    assert "no phase boundary" not in words(draw_phases(study_tables))
    weak = {**study_tables, "phase_segments": everywhere(segments, 0.5)}
    assert "no phase boundary on log steps" in words(draw_phases(weak))
