"""What is said about sharing one dictionary, against gaps that were planted."""

import numpy as np
import pandas as pd
import pytest

from snapcoder.report.findings import all_findings
from snapcoder.report.findings_sweep import sweep_findings


def planted(gaps):
    """A table in which the crosscoder explains `gaps[step]` more than autoencoders do at equal L0."""
    rows = []
    for sparsity, l0 in ((1, 10.0), (2, 20.0), (3, 40.0)):
        point = {"arm": "batchtopk", "n_features": 8, "sparsity": sparsity, "seed": 0, "l0": l0}
        rows.append({**point, "kind": "crosscoder", "snapshot": -1, "step": np.nan, "ev": 0.0})
        for snapshot, (step, gap) in enumerate(gaps.items()):
            ev = 0.5 + 0.1 * np.log(l0)
            rows.append({**point, "kind": "crosscoder", "snapshot": snapshot, "step": step, "ev": ev + gap})
            rows.append({**point, "kind": "sae", "snapshot": 0, "step": step, "ev": ev})
    return pd.DataFrame(rows)


def sharing(metrics):
    return next(finding for finding in sweep_findings(metrics) if finding.key == "sharing")


@pytest.mark.parametrize("gaps, verdict", [({0: 0.01, 64: -0.01}, "found"), ({0: 0.05, 64: -0.03}, "not_found")])
def test_sharing_is_judged_by_its_worst_snapshot(gaps, verdict):
    finding = sharing(planted(gaps))
    assert finding.verdict == verdict
    assert [statistic.value for statistic in finding.statistics] == pytest.approx(
        [sum(gaps.values()) / 2, min(gaps.values()), max(gaps.values())]
    )
    assert "6 pairs" in finding.sentence
    assert "(step 64)" in finding.sentence


def test_nothing_is_said_without_autoencoders_and_nothing_decided_without_equal_l0():
    metrics = planted({0: 0.0, 64: 0.0})
    assert [finding.key for finding in sweep_findings(metrics[metrics["kind"] == "crosscoder"])] == ["dictionary_size"]
    assert sweep_findings(pd.DataFrame()) == []
    assert "sharing" not in {finding.key for finding in all_findings({})}
    apart = metrics.assign(l0=metrics["l0"].where(metrics["kind"] == "sae", 1000.0))
    assert sharing(apart).verdict == "undecidable"


@pytest.mark.parametrize("gain, verdict", [(0.02, "found"), (-0.01, "not_found")])
def test_sizes_are_compared_at_equal_l0(gain, verdict):
    l0 = np.array([10.0, 20.0, 40.0])
    pooled = [
        {"arm": "batchtopk", "n_features": size, "sparsity": k, "seed": 0, "l0": at, "kind": "crosscoder", "snapshot": -1,
         "step": np.nan, "ev": 0.5 + 0.1 * np.log(at) + more}
        for size, more, shift in ((8, 0.0, 1.0), (16, gain, 1.02))
        for k, at in enumerate(l0 * shift)
    ]  # fmt: skip
    (finding,) = sweep_findings(pd.DataFrame(pooled))
    assert finding.verdict == verdict
    assert finding.statistics[0].value == pytest.approx(gain, abs=1e-3)
