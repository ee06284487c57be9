import numpy as np
import pytest

from snapcoder.report.findings_downstream import downstream_findings

NAMES = ("reconstruction_loss", "task_reconstruction", "task_performance")


def findings(tables):
    return {finding.key: finding for finding in downstream_findings(tables)}


def statistic(finding, name):
    return next(one for one in finding.statistics if one.name == name)


@pytest.fixture
def tables(study_tables):
    return {name: study_tables[name].copy() for name in NAMES}


def test_the_share_of_the_loss_is_told_at_the_end_and_where_it_is_lowest(tables):
    finding = findings(tables)["recovered_loss"]
    assert finding.verdict == "found"
    assert statistic(finding, "loss recovered, last snapshot").value == pytest.approx(0.9)
    assert statistic(finding, "loss recovered, lowest").value == pytest.approx(0.83)
    assert "least at step 16: 83%" in finding.sentence
    assert "At 2 snapshots the mean costs nothing" in finding.sentence
    losses = tables["reconstruction_loss"].query("step == 2000").set_index("activation")["loss"]
    added = statistic(finding, "loss added by the reconstruction").value
    assert added == pytest.approx(losses["reconstructed"] - losses["clean"])


@pytest.mark.parametrize("low, high, verdict", [(0.7, 0.79, "not_found"), (0.7, 0.85, "undecidable")])
def test_one_snapshot_that_loses_too_much_is_enough(tables, low, high, verdict):
    losses = tables["reconstruction_loss"]
    here = (losses["step"] == 64) & (losses["activation"] == "mean")
    losses.loc[here, ["recovered", "recovered_ci_lo", "recovered_ci_hi"]] = ((low + high) / 2, low, high)
    assert findings(tables)["recovered_loss"].verdict == verdict


def test_where_nothing_could_be_lost_nothing_is_said(tables):
    tables["reconstruction_loss"]["recovered"] = np.nan
    assert "At no snapshot does it cost loss" in findings(tables)["recovered_loss"].sentence
    tables["task_reconstruction"]["recovered"] = np.nan
    assert findings(tables)["recovered_tasks"].verdict == "undecidable"


def test_empty_and_missing_tables_are_undecidable(no_tables):
    found = findings({name: no_tables[name] for name in NAMES})
    assert {finding.verdict for finding in found.values()} == {"undecidable"}


def test_only_acquired_tasks_have_to_survive(tables):
    tasks = tables["task_reconstruction"]
    tasks.loc[tasks["task"] == "induction", ["recovered", "recovered_ci_lo", "recovered_ci_hi"]] = (0.1, 0.0, 0.2)
    finding = findings(tables)["recovered_tasks"]
    assert finding.verdict == "found"
    assert "90% [no interval]" in finding.sentence
    tasks.loc[tasks["task"] != "induction", "recovered"] = 0.5
    assert findings(tables)["recovered_tasks"].verdict == "not_found"


def test_what_a_trigram_knows_comes_first_and_the_selection_is_owned_up_to(tables):
    finding = findings(tables)["cloze_order"]
    assert finding.verdict == "found"
    assert (statistic(finding, "acquired within the trigram from").value, "by selection" in finding.caveat) == (
        64,
        True,
    )
    assert statistic(finding, "acquired beyond the trigram from").value == 512
    performance = tables["task_performance"]
    swapped = performance["task"].replace(
        {"cloze_beyond_trigram": "cloze_within_trigram", "cloze_within_trigram": "cloze_beyond_trigram"}
    )
    turned = {**tables, "task_performance": performance.assign(task=swapped)}
    assert findings(turned)["cloze_order"].verdict == "not_found"
    together = performance.copy()
    within = performance.query("task == 'cloze_within_trigram'").set_index("step")["acquired"]
    beyond = together["task"] == "cloze_beyond_trigram"
    together.loc[beyond, "acquired"] = together.loc[beyond, "step"].map(within)
    assert findings({**tables, "task_performance": together})["cloze_order"].verdict == "undecidable"


def test_a_study_without_cloze_says_nothing_of_it(tables):
    performance = tables["task_performance"]
    tables["task_performance"] = performance[~performance["task"].str.startswith("cloze")]
    assert "cloze_order" not in findings(tables)
