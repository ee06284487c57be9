"""All findings of a study's layer, in the order in which the report tells them."""

from collections.abc import Mapping, Sequence

import pandas as pd

from snapcoder.report.finding import Finding, Verdict
from snapcoder.report.findings_behaviour import behaviour_findings
from snapcoder.report.findings_carriers import carrier_findings
from snapcoder.report.findings_controls import control_findings
from snapcoder.report.findings_dictionary import dictionary_findings
from snapcoder.report.findings_directions import direction_findings
from snapcoder.report.findings_downstream import downstream_findings
from snapcoder.report.findings_features import feature_findings
from snapcoder.report.findings_order import order_findings
from snapcoder.report.findings_phases import phase_findings
from snapcoder.report.findings_presence import presence_findings
from snapcoder.report.findings_sweep import sweep_findings
from snapcoder.report.findings_tasks import task_findings
from snapcoder.report.findings_timing import timing_findings

SECTIONS: Mapping[str, str] = {
    "phases": "From n-gram statistics to features",
    "features": "Features over training",
    "directions": "Directions and dimensions",
    "tasks": "Abilities and what carries them",
    "dictionary": "What all this rests on",
}
HEADLINES = (
    "ngram_order", "ngram_before_features", "loss_below_h2", "boundary_joint", "boundary_all_clocks", "classes", "onsets",
    "onset_verdicts", "turning_point",
    "dimensionality", "dimensionality_beyond_spectrum", "complexity", "abilities", "carriers", "reconstruction", "recovered_loss",
    "convergence",
)  # fmt: skip
"""Keys of the findings that open the report: one or two per claim of the paper, found or not."""


class Tables(dict[str, pd.DataFrame]):
    """Tables by name; one that the study lacks is an empty frame."""

    def __missing__(self, name: str) -> pd.DataFrame:
        return pd.DataFrame()


def all_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return every finding, section by section; a table that the study lacks counts as empty."""
    given = Tables(tables)
    found = [
        *phase_findings(given),
        *behaviour_findings(given),
        *feature_findings(given),
        *timing_findings(given),
        *presence_findings(given),
        *order_findings(given),
        *direction_findings(given),
        *_with_abilities(task_findings(given)),
        *carrier_findings(given),
        *dictionary_findings(given),
        *downstream_findings(given),
        *sweep_findings(given["sweep_metrics"]),
        *control_findings(given),
    ]
    order = list(SECTIONS)
    return sorted(found, key=lambda finding: order.index(finding.section))


def headlines(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that open the report, in the order of `HEADLINES`."""
    by_key = {finding.key: finding for finding in findings}
    return [by_key[key] for key in HEADLINES if key in by_key]


def _with_abilities(findings: Sequence[Finding]) -> list[Finding]:
    """Put one line over all tasks before the findings of each."""
    tasks = [finding for finding in findings if finding.key.startswith("task_")]
    if not tasks:
        return list(findings)
    named = {
        verdict: ", ".join(finding.key.removeprefix("task_") for finding in tasks if finding.verdict == verdict)
        for verdict in ("found", "not_found", "undecidable")
    }
    said = {"found": "Acquired and kept to the end", "not_found": "not acquired", "undecidable": "undecidable here"}
    sentence = "; ".join(f"{said[verdict]}: {names}" for verdict, names in named.items() if names) + "."
    verdict: Verdict = "found" if named["found"] else "not_found" if named["not_found"] else "undecidable"
    summary = Finding(
        "abilities",
        "tasks",
        "The model acquires abilities during training",
        verdict,
        sentence[0].upper() + sentence[1:],
        (),
        ("task_performance", "tasks"),
        "Each task by its own rule, not corrected for their number; see the findings of each.",
    )
    return [summary, *findings]
