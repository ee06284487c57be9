import numpy as np
import pytest

from snapcoder.evolution.presence_evidence import Evidence, Measured, between, certain, independent, ratio_interval

STEPS = np.array([0, 10, 20, 30, 40])


def evidence(text):
    """'.?x' → absent, undecided, present; '-' not measured; one feature."""
    marks = np.array([[mark] for mark in text])
    return Evidence(marks == "x", np.isin(marks, ["x", "?", "-"]), marks != "-")


@pytest.mark.parametrize(
    ("marks", "lo", "hi", "censoring"),
    [
        ("..xxx", 10, 20, "interval"),
        (".?xxx", 0, 20, "interval"),  # an undecided snapshot makes the interval wider
        ("??xxx", None, 20, "left"),
        (".x?xx", 0, 30, "interval"),  # nor does it make a run
        ("x?xxx", None, 20, "left"),
        ("xxxxx", None, 0, "left"),
        (".....", 40, None, "right"),
        ("...??", 20, None, "right"),
        ("-----", None, None, "right"),
    ],
)
def test_undecided_snapshots_widen_the_interval_by_hand_computed_rules(marks, lo, hi, censoring):
    found = evidence(marks).onset(STEPS, consecutive=2)
    assert found.censoring[0] == censoring
    assert np.isnan(found.lo[0]) if lo is None else found.lo[0] == lo
    assert np.isnan(found.hi[0]) if hi is None else found.hi[0] == hi


def test_evidence_that_always_decides_is_never_unknown():
    assert list(certain(np.array([[True], [False]])).states()[:, 0]) == ["present", "absent"]


def test_an_interval_decides_by_which_side_of_the_bound_it_lies():
    lo, hi = np.array([[0.8, 0.5, 0.2, np.nan]]), np.array([[0.9, 0.8, 0.6, np.nan]])
    found = between(lo, hi, 0.7)
    assert list(found.states()[0]) == ["present", "unknown", "absent", "unknown"]
    assert list(found.known[0]) == [True, True, True, False]


def test_a_ratio_to_the_peak_has_the_error_of_both_and_none_to_itself():
    value, se = np.array([[1.0, 1.0], [2.0, 0.1]]), np.array([[0.1, 0.2], [0.2, 0.2]])
    ratio, lo, hi = ratio_interval(value, se, value[1], se[1])
    assert ratio[0, 0] == 0.5
    half = 1.959964 * np.hypot(0.1, 0.5 * 0.2) / 2
    assert hi[0, 0] - ratio[0, 0] == pytest.approx(half, rel=1e-4)
    assert (lo[1, 0], hi[1, 0]) == (1, 1)
    assert np.isnan(ratio[:, 1]).all()  # its own peak is not clearly above zero


def measured(**changes):
    """One feature at three snapshots: nothing, nothing, everything; its peak is the last."""
    plain = {
        "regress_excess": [0.0, 0.0, 0.04], "q": [0.9, 0.9, 0.001], "probe_lo": [0.45, 0.45, 0.9],
        "probe_hi": [0.55, 0.55, 0.95], "free_eps": [0.0, 0.0, 1.0], "free_eps_se": [0.01] * 3,
        "free_rest": [0.1] * 3, "free_rest_se": [0.01] * 3,
    }  # fmt: skip
    values = {name: np.array(changes.get(name, value), dtype=float)[:, None] for name, value in plain.items()}
    return independent(Measured(np.array([2]), **values), alpha=0.5, fdr=0.05, auroc=0.75)


def states(evidence):
    return list(evidence.states()[:, 0])


def test_nothing_in_the_activations_is_unseen():
    found = measured()
    for name in ("regression", "probe", "scaling"):
        assert states(getattr(found, name)) == ["absent", "absent", "present"]
    assert list(found.unseen[:, 0]) == [True, True, False]


def test_one_evidence_that_speaks_for_the_feature_is_enough_to_be_seen():
    assert not measured(q=[0.001] * 3, regress_excess=[0.04] * 3).unseen.any()
    assert not measured(probe_lo=[0.9] * 3, probe_hi=[0.95] * 3).unseen.any()


def test_a_significant_trace_that_is_small_and_not_separable_is_unseen_too():
    found = measured(q=[0.001] * 3, regress_excess=[0.001, 0.001, 0.04])
    assert list(found.unseen[:, 0]) == [True, True, False]
    assert not measured(q=[0.001] * 3, regress_excess=[0.02, 0.02, 0.04]).unseen.any()  # √½ of its largest


def test_evidence_that_was_not_measured_abstains():
    nothing = [np.nan] * 3
    found = measured(**dict.fromkeys(("q", "probe_lo", "probe_hi", "free_eps", "free_rest", "regress_excess"), nothing))
    assert not found.unseen.any()
    for name in ("regression", "probe", "scaling", "covered"):
        assert states(getattr(found, name)) == ["unknown"] * 3


def test_features_that_always_fire_together_do_not_count_as_covering():
    separable = {"q": [0.001] * 3, "probe_lo": [0.9] * 3, "probe_hi": [0.95] * 3}
    assert states(measured(free_rest=[0.8] * 3, **separable).covered) == ["absent"] * 3
    found = measured(free_rest=[1.0, 0.8, 0.8], **separable)
    assert found.nu_r[0, 0] == pytest.approx(0.6)
    assert states(found.covered) == ["present", "absent", "absent"]


def test_covering_needs_tokens_as_separable_as_at_their_best():
    options = {"free_rest": [1.0, 0.1, 0.1], "q": [0.001] * 3}
    assert states(measured(probe_lo=[0.78, 0.8, 0.9], probe_hi=[0.85, 0.9, 0.95], **options).covered)[0] == "absent"
    assert states(measured(probe_lo=[0.86, 0.8, 0.9], probe_hi=[0.93, 0.9, 0.95], **options).covered)[0] == "present"
