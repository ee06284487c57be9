"""Findings about the statistical phase and where it ends."""

from collections.abc import Mapping

import pandas as pd

from snapcoder.figures.summary import metric_curve, share, smoothed_entropies
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, step, undecidable
from snapcoder.report.findings_boundaries import boundary_findings

BEYOND_BIGRAM = 0.1  # nats: phases.statistical_mi's default; less counts as bigram statistics
FEW_FEATURES = 10  # below this, shares of features are not worth a verdict
_KL = {
    "kl_uni_context": ("unigram", "per context"),
    "kl_bi_context": ("bigram", "per context"),
    "kl_uni_marginal": ("unigram", "averaged over contexts"),
    "kl_bi_marginal": ("bigram", "averaged over contexts"),
}
_ORDERS = {1: "unigram", 2: "bigram", 3: "trigram"}


def phase_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about distances to n-gram models, the loss, context information, and phase boundaries."""
    metrics, segments = tables["phase_metrics"], tables["phase_segments"]
    found = [_minimum(metrics, metric) for metric in _KL]
    found += [_loss_below(metrics, tables["ngram_entropy"], order) for order in _ORDERS]
    found.append(_beyond_bigram(metrics))
    found += boundary_findings(segments)
    found.append(_features_after(metrics, tables["feature_timing"]))
    return found


def _lowest(curve: pd.DataFrame) -> pd.Series:
    return curve.iloc[int(curve["value"].to_numpy().argmin())]


def _minimum(metrics: pd.DataFrame, metric: str) -> Finding:
    ngram, kind = _KL[metric]
    claim = f"Predictions approach the {ngram} model and then leave it (KL {kind})"
    curve = metric_curve(metrics, metric)
    if len(curve) < 3:
        return undecidable(metric, "phases", claim, f"{metric} is not defined at three snapshots.", "phase_metrics")
    first, last, low = curve.iloc[0], curve.iloc[-1], _lowest(curve)
    text = f"{number(low['value'])} nats {between(low['ci_lo'], low['ci_hi'])} at {step(low['step'])}"
    ends = (
        f"{number(first['value'])} at {step(first['step'])} and {number(last['value'])} "
        f"{between(last['ci_lo'], last['ci_hi'])} at {step(last['step'])}"
    )
    verdict: Verdict
    if low["step"] in (first["step"], last["step"]):
        place = "first" if low["step"] == first["step"] else "last"
        verdict, sentence = "not_found", f"KL is lowest at the {place} snapshot: {text}; ends: {ends}."
    elif pd.isna(low["ci_hi"]) or pd.isna(last["ci_lo"]) or pd.isna(first["ci_lo"]):
        verdict, sentence = "undecidable", f"KL is lowest in between, {text}, against {ends}, but without intervals."
    elif last["ci_lo"] > low["ci_hi"] and first["ci_lo"] > low["ci_hi"]:
        verdict, sentence = "found", f"KL falls to {text} and is higher before and after: {ends}."
    else:
        verdict, sentence = "undecidable", f"KL is lowest in between, {text}, but the intervals overlap: {ends}."
    return Finding(
        metric,
        "phases",
        claim,
        verdict,
        sentence,
        (
            Statistic(f"{metric}, minimum", float(low["value"]), "phase_metrics", low["ci_lo"], low["ci_hi"], "nats"),
            Statistic(f"{metric}, step of the minimum", float(low["step"]), "phase_metrics", unit="training steps"),
            Statistic(f"{metric}, last", float(last["value"]), "phase_metrics", last["ci_lo"], last["ci_hi"], "nats"),
        ),
    )


def _loss_below(metrics: pd.DataFrame, entropies: pd.DataFrame, order: int) -> Finding:
    name = _ORDERS[order]
    claim, key = f"The loss falls below that of the {name} model", f"loss_below_h{order}"
    curve = metric_curve(metrics, "loss")
    rows = smoothed_entropies(entropies)
    rows = rows[rows["order"] == order] if not rows.empty else rows
    if curve.empty or rows.empty:
        return undecidable(
            key, "phases", claim, f"The loss or the {name} model is missing.", "phase_metrics", "ngram_entropy"
        )
    entropy, last = rows.iloc[0], curve.iloc[-1]
    clearly = curve[curve["ci_hi"] < entropy["ci_lo"]]
    limit = f"{number(entropy['cross_entropy'])} nats {between(entropy['ci_lo'], entropy['ci_hi'])}"
    ends = f"{number(last['value'])} {between(last['ci_lo'], last['ci_hi'])} at {step(last['step'])}"
    verdict: Verdict
    if len(clearly):
        first = clearly.iloc[0]
        verdict = "found"
        sentence = (
            f"The held-out loss is clearly below the {name} model's {limit} from {step(first['step'])} on "
            f"({number(first['value'])} {between(first['ci_lo'], first['ci_hi'])}) and ends at {ends}."
        )
        since = float(first["step"])
    else:
        verdict = "undecidable" if last["value"] < entropy["cross_entropy"] else "not_found"
        overlap = " but the intervals overlap" if verdict == "undecidable" else ""
        sentence = f"The held-out loss ends at {ends}, against the {name} model's {limit}{overlap}."
        since = float("nan")
    sentence += _other_smoothings(curve, entropies, order)
    return Finding(
        key,
        "phases",
        claim,
        verdict,
        sentence,
        (
            Statistic(
                f"{name} cross-entropy",
                float(entropy["cross_entropy"]),
                "ngram_entropy",
                entropy["ci_lo"],
                entropy["ci_hi"],
                "nats/token",
            ),
            Statistic(
                "loss, last snapshot", float(last["value"]), "phase_metrics", last["ci_lo"], last["ci_hi"], "nats/token"
            ),
            Statistic("first snapshot clearly below", since, "phase_metrics", unit="training steps"),
        ),
        caveat="Both intervals come from the same documents, so non-overlap is a strict criterion.",
    )


def _other_smoothings(curve: pd.DataFrame, entropies: pd.DataFrame, order: int) -> str:
    """Say from which snapshot the loss is clearly below the same counts, smoothed in other ways."""
    said = []
    for smoothing, name in (("jelinek_mercer", "Jelinek–Mercer"), ("add_k", "add-k")):
        rows = smoothed_entropies(entropies, smoothing)
        rows = rows[rows["order"] == order] if not rows.empty else rows
        if not rows.empty:
            below = curve[curve["ci_hi"] < rows.iloc[0]["ci_lo"]]
            since = f"from {step(below.iloc[0]['step'])} on" if len(below) else "at no snapshot"
            said.append(f"{name} ({number(rows.iloc[0]['cross_entropy'])}) {since}")
    return f" With other smoothing of the same counts: {', '.join(said)}." if said else ""


def _beyond_bigram(metrics: pd.DataFrame) -> Finding:
    claim = "The model comes to use context beyond the current token"
    curve = metric_curve(metrics, "mi_beyond_bigram")
    if curve.empty:
        return undecidable("beyond_bigram", "phases", claim, "mi_beyond_bigram is not defined.", "phase_metrics")
    last = curve.iloc[-1]
    above = curve[curve["ci_lo"] > BEYOND_BIGRAM]
    ends = f"{number(last['value'])} nats {between(last['ci_lo'], last['ci_hi'])} at {step(last['step'])}"
    if len(above):
        first = above.iloc[0]
        sentence = (
            f"Information beyond the current token first exceeds {BEYOND_BIGRAM} nats at {step(first['step'])} "
            f"({number(first['value'])} {between(first['ci_lo'], first['ci_hi'])}) and ends at {ends}."
        )
    else:
        sentence = (
            f"Information beyond the current token never clearly exceeds {BEYOND_BIGRAM} nats; it ends at {ends}."
        )
    return Finding(
        "beyond_bigram",
        "phases",
        claim,
        "found" if len(above) else "not_found",
        sentence,
        (
            Statistic(
                "mi_beyond_bigram, last", float(last["value"]), "phase_metrics", last["ci_lo"], last["ci_hi"], "nats"
            ),
        ),
    )


def _features_after(metrics: pd.DataFrame, timing: pd.DataFrame) -> Finding:
    claim = "Emergent features appear after the bigram stage"
    curve = metric_curve(metrics, "kl_bi_context")
    tables = ("phase_metrics", "feature_timing")
    if len(curve) < 3 or timing.empty:
        return undecidable("features_after_bigram", "phases", claim, "The distance or the onsets are missing.", *tables)
    minimum = int(_lowest(curve)["step"])
    emergent = timing[(timing["class"] == "emergent") & (timing["onset_censoring"] == "interval")]
    n, after = len(emergent), int((emergent["onset_lo"] >= minimum).sum())
    before = int((emergent["onset_hi"] <= minimum).sum())
    part = share(after, n)
    sentence = (
        f"Of {plural(n, 'emergent feature')}, {after:,} ({percent(part.value)} "
        f"{between(part.low, part.high, as_percent=True)}) "
        f"appear after {step(minimum)}, where the bigram distance is lowest, and {before:,} at or before it."
    )
    verdict: Verdict = "undecidable"
    if n >= FEW_FEATURES:
        verdict = "found" if part.low > 0.5 else "not_found" if part.high < 0.5 else "undecidable"
    else:
        sentence += f" That is fewer than {FEW_FEATURES} features: too few to decide."
    return Finding(
        "features_after_bigram",
        "phases",
        claim,
        verdict,
        sentence,
        (
            Statistic("share that appears later", part.value, "feature_timing", part.low, part.high),
            Statistic("bigram minimum", minimum, "phase_metrics", unit="training steps"),
        ),
    )
