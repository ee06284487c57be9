"""All findings of a study's layer, in the order in which the report tells them."""

from collections.abc import Mapping

import pandas as pd

from snapcoder.report.finding import Finding
from snapcoder.report.findings_dictionary import dictionary_findings
from snapcoder.report.findings_directions import direction_findings
from snapcoder.report.findings_features import feature_findings
from snapcoder.report.findings_phases import phase_findings
from snapcoder.report.findings_tasks import task_findings

SECTIONS: Mapping[str, str] = {
    "phases": "From n-gram statistics to features",
    "features": "Features over training",
    "directions": "Directions and dimensions",
    "tasks": "Abilities and what carries them",
    "dictionary": "What all this rests on",
}
_TABLES = (
    "recon_metrics", "crosscoder_training", "extension_metrics", "phase_metrics", "phase_segments", "ngram_entropy",
    "feature_timing", "feature_trajectory", "snapshots", "complexity", "direction_rotation", "rotation_summary",
    "dimensionality", "task_performance", "tasks", "ablation_curves", "attribution", "attribution_quality",
)  # fmt: skip


def all_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return every finding, section by section; a table that the study lacks counts as empty."""
    given = {name: tables.get(name, pd.DataFrame()) for name in _TABLES}
    found = [
        *phase_findings(given),
        *feature_findings(given),
        *direction_findings(given),
        *task_findings(given),
        *dictionary_findings(given),
    ]
    order = list(SECTIONS)
    return sorted(found, key=lambda finding: order.index(finding.section))
