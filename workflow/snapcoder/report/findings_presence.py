"""Findings about presence: whether the decoder norm can be trusted, and what became of the onsets it gives."""

from collections.abc import Mapping

import pandas as pd

from snapcoder.figures.summary import Estimate, median_interval, norm_correlations, share
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, undecidable

FEW = 10  # features below which no verdict is given
FEW_SNAPSHOTS = 5
STRONG = 0.5  # median rank correlation that counts as following
_ROWS, _ONSETS = "feature_presence", "feature_onsets"


def presence_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return the findings about norm validity and about the verdicts on onsets."""
    rows, onsets = tables[_ROWS], tables[_ONSETS]
    live = onsets[onsets["class"] != "dead"] if not onsets.empty else onsets
    rows = rows[rows["feature"].isin(live["feature"])] if not rows.empty and not live.empty else rows.iloc[:0]
    return [_norm_validity(rows), _onset_verdicts(live, rows)]


def _norm_validity(rows: pd.DataFrame) -> Finding:
    claim = "The decoder norm follows how linearly separable a feature's tokens are"
    if rows.empty or rows["step"].nunique() < FEW_SNAPSHOTS:
        return undecidable("norm_validity", "features", claim, "There are fewer than five snapshots.", _ROWS)
    probe = median_interval(norm_correlations(rows, "probe_auroc"))
    if probe.n < FEW:
        return undecidable("norm_validity", "features", claim, "The probe is defined for too few features.", _ROWS)
    regression = median_interval(norm_correlations(rows, "regress_excess"))
    amplitude = median_interval(norm_correlations(rows, "free_eps"))
    varied = median_interval(norm_correlations(_told_apart(rows), "probe_auroc"))
    verdict: Verdict = "found" if probe.low > STRONG else "not_found" if probe.high < STRONG else "undecidable"
    sentence = (
        "Over snapshots, a feature's norm and the AUROC of a linear probe for its tokens have a median rank "
        f"correlation of {_estimate(probe)} over {plural(probe.n, 'feature')}; where the AUROC differs clearly between "
        f"two snapshots it is {_estimate(varied)} (n = {varied.n:,}). With the variance that the code explains it is "
        f"{_estimate(regression)}, with the amplitude that latent scaling leaves to the feature {_estimate(amplitude)}."
    )
    named = (
        ("norm and probe AUROC", probe),
        ("norm and probe AUROC where it differs", varied),
        ("norm and regression excess", regression),
        ("norm and amplitude by latent scaling", amplitude),
    )
    return Finding(
        "norm_validity",
        "features",
        claim,
        verdict,
        sentence,
        tuple(Statistic(f"median Spearman ρ, {name}", one.value, _ROWS, one.low, one.high) for name, one in named),
        caveat="Counted as found when the interval over features lies above 0.5. An AUROC near 1 at all snapshots has "
        "little left to follow; a probe may read the token rather than the feature.",
    )


def _told_apart(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of features whose AUROC at one snapshot lies clearly above that at another."""
    by_feature = rows.groupby("feature")
    apart = by_feature["probe_ci_lo"].transform("max") > by_feature["probe_ci_hi"].transform("min")
    return rows[apart]


def _estimate(one: Estimate) -> str:
    return f"{number(one.value)} {between(one.low, one.high)}"


def _onset_verdicts(live: pd.DataFrame, rows: pd.DataFrame) -> Finding:
    claim = "Onsets read from the decoder norm stand up to independent evidence"
    dated = live[live["norm_lo"].notna() & live["norm_hi"].notna()] if not live.empty else live
    if len(dated) < FEW:
        why = f"Only {plural(len(dated), 'feature')} have an onset by norm between two snapshots."
        return undecidable("onset_verdicts", "features", claim, why, _ONSETS)
    counts = dated["verdict"].value_counts()
    parts = {name: share(int(counts.get(name, 0)), len(dated)) for name in sorted(counts.index)}
    confirmed = share(int(counts.get("confirmed", 0)), len(dated))
    verdict: Verdict = "found" if confirmed.low > 0.5 else "not_found" if confirmed.high < 0.5 else "undecidable"
    others = ", ".join(
        f"{name.replace('_', ' ')} {percent(part.value)}"
        for name, part in sorted(parts.items(), key=lambda item: (-item[1].value, item[0]))
        if name != "confirmed"
    )
    tested = rows[(rows["step"] == rows["step"].min()) & rows["q_present"].notna()]
    significant = (tested["by_regression"] == "present").mean() if len(tested) else float("nan")
    sentence = (
        f"Of {plural(len(dated), 'feature')} with an onset by norm between two snapshots, latent scaling finds "
        f"{percent(confirmed.value)} {between(confirmed.low, confirmed.high, as_percent=True)} absent at every "
        f"snapshot before ({others or 'no other verdict'}). The median feature has {percent(_agreement(dated))} of its "
        f"evidences within one snapshot of the combined onset. By regression alone, {percent(significant)} of all tested "
        "features would already be present at the first snapshot."
    )
    return Finding(
        "onset_verdicts",
        "features",
        claim,
        verdict,
        sentence,
        (
            *(
                Statistic(f"share {name.replace('_', ' ')}", part.value, _ONSETS, part.low, part.high)
                for name, part in parts.items()
            ),
            Statistic("features with an onset by norm between snapshots", len(dated), _ONSETS),
            Statistic("present by regression at the first snapshot", significant, _ROWS),
        ),
        (_ONSETS, _ROWS),
        caveat="Counted as found when the interval of the confirmed share lies above one half. Decoupled: other features "
        "did the work before; shrinkage: the signal was there, the decoder was not.",
    )


def _agreement(dated: pd.DataFrame) -> float:
    return float(dated["agreement"].median())
