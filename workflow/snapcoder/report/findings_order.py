"""Findings about what comes before what: n-grams, features, types, complexity, and formation in the activations."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from snapcoder.figures.summary import median_interval, share
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, step, undecidable

NAME = "order_tests"
FEW = 10  # features below which no verdict is given
Q_LEVEL = 0.05
_VERDICTS: Mapping[str, Verdict] = {"supported": "found", "not_supported": "not_found", "undecidable": "undecidable"}
_METRICS = {
    "kl_uni_context": "unigram KL per context",
    "kl_bi_context": "bigram KL per context",
    "kl_uni_marginal": "unigram KL averaged over contexts",
    "kl_bi_marginal": "bigram KL averaged over contexts",
    "gap_h1": "loss against the unigram model",
    "gap_h2": "loss against the bigram model",
}
_GROUPS = {"all": "all live features", "emergent": "emergent ones"}


def order_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return the findings that rest on the tables order_tests, feature_formation and formation_onset."""
    tests = tables[NAME]
    return [
        _ngram_order(tests),
        _ngram_before_features(tests),
        _later(tests, "complexity"),
        _later(tests, "context_window"),
        *([_later(tests, "complexity_llm")] if _rows(tests, "later_more_complex", y="complexity_llm") else []),
        _type_order(tests),
        _formation(tables["feature_formation"], tables["formation_onset"], tables["feature_timing"]),
        _formation_agrees(tests),
    ]


def _rows(tests: pd.DataFrame, question: str, **where: Any) -> list[dict[str, Any]]:
    """Return the rows of a question, by the strongest evidence of onset that the study has."""
    if tests.empty:
        return []
    found = tests[tests["question"] == question]
    for name, value in where.items():
        found = found[found[name].isin(value) if isinstance(value, tuple) else found[name] == value]
    return found.to_dict("records")  # type: ignore[return-value]


def _evidence(tests: pd.DataFrame) -> str:
    return "combined" if not tests.empty and (tests["onset_by"] == "combined").any() else "norm"


def _dated(by: str) -> str:
    return "norm" if by == "norm" else "combined evidence"


def _joined(rows: list[dict[str, Any]]) -> Verdict:
    verdicts = {row["verdict"] for row in rows}
    if verdicts == {"supported"}:
        return "found"
    return "not_found" if "not_supported" in verdicts else "undecidable"


def _statistic(name: str, row: Mapping[str, Any], unit: str = "") -> Statistic:
    return Statistic(name, row["effect"], NAME, row["ci_lo"], row["ci_hi"], unit)


def _p_values(rows: list[dict[str, Any]]) -> tuple[Statistic, ...]:
    """Return the corrected p-value of each row that has one."""
    return tuple(
        Statistic(f"p ({row['correction']}), {row['x']}, {row['group']}", row["p_adjusted"], NAME)
        for row in rows
        if pd.notna(row["p_adjusted"])
    )


def _p(value: float) -> str:
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"


def _ngram_order(tests: pd.DataFrame) -> Finding:
    key, claim = "ngram_order", "The unigram stage comes before the bigram stage"
    rows = _rows(tests, "unigram_before_bigram")
    known = [row for row in rows if pd.notna(row["effect"])]
    if not known:
        return undecidable(key, "phases", claim, "The distances to n-gram models do not settle or are missing.", NAME)
    said = [
        f"{_METRICS[row['x']].replace('unigram ', '').replace('against the unigram model', 'against the n-gram model')}: "
        f"{row['note'].removesuffix('; n: tokens')}, {number(row['effect'])} decades apart "
        f"{between(row['ci_lo'], row['ci_hi'])} (corrected {_p(row['p_adjusted'])})"
        for row in known
    ]
    return Finding(
        key,
        "phases",
        claim,
        _joined(rows),
        _capital("; ".join(said)) + ".",
        tuple(_statistic(f"{row['y']} − {row['x']}", row, "decades") for row in known),
        caveat="A distance has settled when it has made nearly all of its fall (order.tolerance); the loss, when it is "
        "below the model's. Intervals resample documents and hold the spacing of snapshots.",
    )


def _ngram_before_features(tests: pd.DataFrame) -> Finding:
    key, claim = "ngram_before_features", "Predictions and loss reach the n-gram models before emergent features form"
    by = _evidence(tests)
    every = _rows(tests, key, group="emergent", onset_by=by)
    decisive = min((row["tolerance"] for row in every), default=float("nan"))
    chosen = [row for row in every if row["y"] == "onset_median" and row["tolerance"] == decisive]
    joint = [row for row in chosen if row["x"] == "all_metrics"]
    metrics = [row for row in chosen if row["x"] != "all_metrics"]
    if not joint or all(pd.isna(row["effect"]) for row in metrics):
        why = "No emergent feature has an onset between two snapshots, or no distance to an n-gram model is defined."
        return undecidable(key, "phases", claim, why, NAME)
    sure = [row for row in metrics if row["verdict"] == "supported"]
    open_ = [_METRICS[row["x"]] for row in metrics if row["verdict"] != "supported"]
    last = joint[0]
    others = [row for row in every if row["x"] == "all_metrics" and row is not last]
    also = ", ".join(
        f"{row['y'].removeprefix('onset_').replace('_', ' ')} onset at tolerance {row['tolerance']:.0%}: "
        f"{row['verdict'].replace('_', ' ')}"
        for row in others
    )
    sentence = (
        f"Onsets by {_dated(by)} of {plural(last['n'], 'emergent feature')}: the median lies after "
        f"{len(sure)} of {plural(len(metrics), 'metric')} settled"
        f"{'' if not open_ else ', but not surely after ' + ' and '.join(open_)}. The metric that settles last leaves "
        f"{number(last['effect'])} decades {between(last['ci_lo'], last['ci_hi'])} "
        f"({last['note'].split(': ', 1)[1]}). All metrics at once, {also}."
    )
    return Finding(
        key,
        "phases",
        claim,
        _VERDICTS[last["verdict"]],
        sentence,
        (
            _statistic("median onset − last of the n-gram metrics to settle", last, "decades"),
            *(_statistic(f"median onset − {_METRICS[row['x']]}", row, "decades") for row in metrics),
            *_p_values(joint),
        ),
        caveat="Found when this holds for every metric (Holm), with intervals that hold the spacing of snapshots. "
        "Features that are there at the first snapshot form before any n-gram is learnt and are not counted.",
    )


_LATER = {
    "complexity": (
        "complexity",
        "Later features are more complex",
        "Rule-based complexity",
        "p corrected over the whole family (Benjamini–Hochberg); intervals: BCa. The paper reports r = 0.31 between peak "
        "and complexity as a language model judges it, for about a hundred features. Over all features, those of the first snapshot "
        "and the rest may differ for other reasons: read emergent ones beside them.",
    ),
    "context_window": (
        "context_window",
        "Later features need more tokens of context",
        "Shortest suffix that keeps the activation",
        "Measured on each feature's strongest contexts, which are strong for more reasons than the feature: what a cut takes away "
        "is partly chance. p corrected over the whole family of correlations with complexity (Benjamini–Hochberg).",
    ),
    "complexity_llm": (
        "complexity_llm",
        "Later features are more complex to a language model's eye",
        "Complexity judged by a language model",
        "The judge knows how often features fire, and rare ones look complex: read the correlation with rate and norm held fixed.",
    ),
}
"""Per measure: key and claim of the finding, how the measure is called, and its caveat."""


def _later(tests: pd.DataFrame, measure: str) -> Finding:
    key, claim, called, caveat = _LATER[measure]
    by = _evidence(tests)
    rows = _rows(tests, "later_more_complex", y=measure, x="onset", onset_by=by)
    rows += _rows(tests, "later_more_complex", y=measure, x="peak")
    known = [row for row in rows if pd.notna(row["effect"]) and row["n"] >= FEW]
    if not known:
        why = (
            f"Fewer than {FEW} features have both a time and this measure, or all of them the same: too few to decide."
        )
        return undecidable(key, "features", claim, why, NAME)
    supported = sum(row["verdict"] == "supported" for row in known)
    verdict: Verdict = "undecidable"
    if len(known) == len(rows) and supported == len(rows):
        verdict = "found"
    elif not supported and any(row["verdict"] == "not_supported" for row in known):
        verdict = "not_found"
    texts = []
    for x, group in dict.fromkeys((row["x"], row["group"]) for row in known):
        pair = {row["statistic_name"]: row for row in known if (row["x"], row["group"]) == (x, group)}
        parts = [
            f"{prefix}{row['effect']:+.2f} {between(row['ci_lo'], row['ci_hi'])}, {_p(row['p_adjusted'])}"
            for prefix, name in (("ρ = ", "spearman"), ("with rate and norm held fixed ", "partial_spearman"))
            if (row := pair.get(name)) is not None
        ]
        n = next(iter(pair.values()))["n"]
        when = f"onset by {_dated(by)}" if x == "onset" else "peak"
        texts.append(f"{when}, {_GROUPS[group]} (n = {n:,}): {'; '.join(parts)}")
    sentence = f"{called} against {' | '.join(texts)}."
    sentence += {
        "found": " Every one of these supports the claim.",
        "not_found": " This does not support the claim.",
        "undecidable": f" {supported} of {len(known)} support the claim: it depends on which features and which time."
        if supported
        else " None of these supports the claim, and none excludes it.",
    }[verdict]
    return Finding(
        key,
        "features",
        claim,
        verdict,
        sentence,
        (
            *(
                _statistic(f"{row['statistic_name'].replace('_', ' ')}, {row['x']}, {_GROUPS[row['group']]}", row)
                for row in sorted(known, key=lambda row: (row["statistic_name"] != "spearman", row["group"]))
            ),
            *_p_values(known),
        ),
        caveat=caveat,
    )


def _type_order(tests: pd.DataFrame) -> Finding:
    key = "type_order"
    claim = "Previous-token features come before induction features, and these before contextual ones"
    by = _evidence(tests)
    rows = _rows(tests, "type_order", onset_by=by)
    if not rows:
        return undecidable(key, "features", claim, "No feature has an onset.", NAME)
    main = next((row for row in rows if row["group"] == "emergent"), rows[0])
    texts = []
    for row in rows:
        found = (
            f"P(as stated) − P(reversed) = {number(row['effect'])} {between(row['ci_lo'], row['ci_hi'])}, corrected "
            f"{_p(row['p_adjusted'])}"
            if pd.notna(row["effect"])
            else "no test"
        )
        texts.append(f"{_GROUPS[row['group']]} ({row['note']}): {found}")
    pairs = [
        f"{row['x']} ({_GROUPS[row['group']]}): {number(row['effect'])} {between(row['ci_lo'], row['ci_hi'])}, {_p(row['p_adjusted'])}"
        for row in _rows(tests, "type_pair", onset_by=by)
        if pd.notna(row["effect"])
    ]
    sentence = f"Jonckheere–Terpstra on onsets by {_dated(by)}: {'; '.join(texts)}."
    sentence += f" Pairs: {'; '.join(pairs)}." if pairs else ""
    return Finding(
        key,
        "features",
        claim,
        _VERDICTS[main["verdict"]],
        sentence,
        (
            *(_statistic(f"order of types, {_GROUPS[row['group']]}", row) for row in rows if pd.notna(row["effect"])),
            Statistic("features of these types", main["n"], NAME),
            *_p_values([row for row in rows if pd.notna(row["effect"])]),
        ),
        caveat="The verdict is that of emergent features. Onsets whose intervals overlap count as ties.",
    )


def _formation(formation: pd.DataFrame, onsets: pd.DataFrame, timing: pd.DataFrame) -> Finding:
    key, claim = "formation", "Emergent features form in the activations themselves, beyond their tokens"
    names = ("feature_formation", "formation_onset")
    if formation.empty or onsets.empty or timing.empty:
        return undecidable(key, "features", claim, "Formation was not measured.", *names)
    emergent = set(timing.loc[timing["class"] == "emergent", "feature"])
    own = onsets[onsets["feature"].isin(emergent) & onsets["formation_max"].notna()]
    rows = formation[formation["feature"].isin(emergent) & formation["formation"].notna()]
    if len(own) < FEW:
        why = f"Only {plural(len(own), 'emergent feature')} fires on enough rows in both halves of the documents."
        return undecidable(key, "features", claim, why, *names)
    formed = share(int((own["onset_censoring"] == "interval").sum()), len(own))
    steps = rows["step"].agg(["min", "max"])
    first, last = (rows[rows["step"] == at] for at in steps)
    middle = [median_interval(part["formation"]) for part in (first, last)]
    naive = [float((part["similarity"] - part["random"]).median()) for part in (first, last)]
    beyond = share(int(own["above_selection"].sum()), len(own))
    verdict: Verdict = "found" if formed.low > 0.5 else "not_found" if formed.high < 0.5 else "undecidable"
    sentence = (
        f"{percent(formed.value)} {between(formed.low, formed.high, as_percent=True)} of "
        f"{plural(len(own), 'emergent feature')} form between two snapshots. How much more alike their strongest rows are than "
        f"rows with the same tokens rises from {number(middle[0].value)} {between(middle[0].low, middle[0].high)} at "
        f"{step(steps.iloc[0])} to {number(middle[1].value)} {between(middle[1].low, middle[1].high)} at {step(steps.iloc[1])} "
        f"(medians). {percent(beyond.value)} exceed what 95% of random directions give at their best. Against random tokens, the "
        f"control of SAE-Track, the medians are {number(naive[0])} and {number(naive[1])}."
    )
    return Finding(
        key,
        "features",
        claim,
        verdict,
        sentence,
        (
            Statistic("share that forms between two snapshots", formed.value, names[1], formed.low, formed.high),
            Statistic(
                "median formation, first snapshot", middle[0].value, names[0], middle[0].low, middle[0].high, "cosine"
            ),
            Statistic(
                "median formation, last snapshot", middle[1].value, names[0], middle[1].low, middle[1].high, "cosine"
            ),
            Statistic("share above 95% of random directions", beyond.value, names[1], beyond.low, beyond.high),
        ),
        caveat="Cosines between rows of different documents, chosen by the feature's code; no decoder and no norm is used. "
        "Rows chosen along any direction are somewhat alike.",
    )


def _formation_agrees(tests: pd.DataFrame) -> Finding:
    key = "formation_agrees"
    by = _evidence(tests)
    claim = f"Emergent features form in the activations when their {'norm says' if by == 'norm' else 'onset says'} so"
    rows = {row["statistic_name"]: row for row in _rows(tests, key, group="emergent", onset_by=by)}
    if len(rows) < 2 or any(row["n"] < FEW for row in rows.values()):
        return undecidable(key, "features", claim, "Too few emergent features form in the activations.", NAME)
    near, ranks = rows["share_within_one_snapshot"], rows["spearman"]
    sentence = (
        f"Both onsets lie within one snapshot of each other for {percent(near['effect'])} "
        f"{between(near['ci_lo'], near['ci_hi'], as_percent=True)} of {plural(near['n'], 'emergent feature')} "
        f"({near['note']}, {_p(near['p_adjusted'])}); Spearman's ρ = {number(ranks['effect'])} "
        f"{between(ranks['ci_lo'], ranks['ci_hi'])}, {_p(ranks['p_adjusted'])}; {ranks['note']}."
    )
    return Finding(
        key,
        "features",
        claim,
        _joined(list(rows.values())),
        sentence,
        (
            _statistic("share within one snapshot", near),
            _statistic("Spearman ρ of both onsets", ranks),
        ),
        caveat="Both onsets are relative to the feature's own maximum; p corrected by Holm. Over all features the two differ: "
        "token features are there from the start, and what they share beyond their token comes later.",
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
