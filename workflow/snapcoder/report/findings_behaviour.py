"""Findings about the model's own predictions: text of n-gram models, classes of tokens, use of the context."""

from collections.abc import Mapping

import pandas as pd

from snapcoder.figures.summary import class_label, metric_curve, shown_classes
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, step, undecidable

_TEXTS = {"unigram": "excess_on_unigram_text", "bigram": "excess_on_bigram_text", "trigram": "excess_on_trigram_text"}
_FAMILIES = ("form", "frequency", "repetition", "novelty", "position")


def behaviour_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return findings about sampled text, the regression on n-gram models, classes of tokens, and context."""
    metrics, classes = tables["phase_metrics"], tables["token_classes"]
    losses, contrasts = tables["token_class_loss"], tables["token_class_contrasts"]
    return [
        _ngram_text(metrics),
        _regression(metrics),
        _frequent_first(classes),
        _classes_differ(classes),
        _below_trigram(losses, classes),
        _contrast(
            contrasts, losses, "copying", "The model predicts what repeats its context better than trigrams explain"
        ),
        _contrast(contrasts, losses, "context", "The model gains from context that is longer than a trigram"),
    ]


def _lowest(curve: pd.DataFrame) -> pd.Series:
    return curve.iloc[int(curve["value"].to_numpy().argmin())]


def _ngram_text(metrics: pd.DataFrame) -> Finding:
    claim = "The model comes to predict text of n-gram models and then unlearns it, the unigram's before the bigram's"
    curves = {name: metric_curve(metrics, metric) for name, metric in _TEXTS.items()}
    if any(len(curve) < 3 for curve in curves.values()):
        return undecidable(
            "ngram_text", "phases", claim, "Sampled text was not scored at three snapshots.", "phase_metrics"
        )
    lows, lasts = ({name: pick(curve) for name, curve in curves.items()} for pick in (_lowest, _last))
    parts, statistics = [], []
    for name, low in lows.items():
        last = lasts[name]
        parts.append(
            f"{name} {number(low['value'])} {between(low['ci_lo'], low['ci_hi'])} at {step(low['step'])}, "
            f"{number(last['value'])} {between(last['ci_lo'], last['ci_hi'])} at the last snapshot"
        )
        statistics += [
            Statistic(f"excess on {name} text, lowest", low["value"], "phase_metrics", low["ci_lo"], low["ci_hi"], "nats/token"),
            Statistic(f"excess on {name} text, step of the lowest", low["step"], "phase_metrics", unit="training steps"),
        ]  # fmt: skip
    turned = {name: bool(lasts[name]["ci_lo"] > lows[name]["ci_hi"]) for name in ("unigram", "bigram")}
    in_turn = lows["unigram"]["step"] < lows["bigram"]["step"]
    verdict: Verdict = "undecidable"
    if all(turned.values()) and in_turn:
        verdict = "found"
    elif lows["unigram"]["step"] > lows["bigram"]["step"] or any(
        lows[name]["step"] == lasts[name]["step"] for name in turned
    ):
        verdict = "not_found"
    sentence = f"Excess over the n-gram model on its own text is lowest: {'; '.join(parts)} (nats/token)."
    return Finding("ngram_text", "phases", claim, verdict, sentence, tuple(statistics))


def _last(curve: pd.DataFrame) -> pd.Series:
    return curve.iloc[-1]


def _regression(metrics: pd.DataFrame) -> Finding:
    claim = "Predictions are most like those of n-gram models early in training"
    curve = metric_curve(metrics, "r2_ngram_regression")
    if len(curve) < 3:
        return undecidable("ngram_regression", "phases", claim, "The regression is not defined.", "phase_metrics")
    best, last = curve.iloc[int(curve["value"].to_numpy().argmax())], curve.iloc[-1]
    verdict: Verdict = "undecidable"
    if best["step"] == last["step"]:
        verdict = "not_found"
    elif best["ci_lo"] > last["ci_hi"]:
        verdict = "found"
    sentence = (
        "A regression on the three n-gram models explains most of the log-probabilities of held-out tokens at "
        f"{step(best['step'])}: R² {number(best['value'])} {between(best['ci_lo'], best['ci_hi'])}; at the last snapshot "
        f"{number(last['value'])} {between(last['ci_lo'], last['ci_hi'])}."
    )
    return Finding(
        "ngram_regression",
        "phases",
        claim,
        verdict,
        sentence,
        (
            Statistic("R², highest", best["value"], "phase_metrics", best["ci_lo"], best["ci_hi"]),
            Statistic("R², last", last["value"], "phase_metrics", last["ci_lo"], last["ci_hi"]),
        ),
        caveat="R² compares log-probabilities of the tokens that came, not whole distributions; it can stay high while "
        "the model adds what no n-gram model has.",
    )


def _ages(classes: pd.DataFrame, family: str) -> pd.DataFrame:
    if classes.empty:
        return classes
    chosen = classes[(classes["family"] == family) & classes["class"].isin(shown_classes(classes, family))]
    return chosen[chosen["aoa_lo"].notna()]


def _age(row: pd.Series) -> str:
    return f"{class_label(row['class'])} {step(row['aoa_step'])} {between(row['aoa_lo'], row['aoa_hi'], 0)}"


def _age_statistics(ages: pd.DataFrame) -> tuple[Statistic, ...]:
    columns = [ages[name] for name in ("class", "aoa_step", "aoa_lo", "aoa_hi")]
    return tuple(
        Statistic(f"halfway, {class_label(name)}", age, "token_classes", low, high, "training steps")
        for name, age, low, high in zip(*columns, strict=True)
    )


def _frequent_first(classes: pd.DataFrame) -> Finding:
    claim, key = "Frequent tokens are learnt before rare ones", "frequent_first"
    ages = _ages(classes, "frequency").sort_values("class") if not classes.empty else classes
    if len(ages) < 2:
        return undecidable(key, "phases", claim, "Fewer than two frequency bands were learnt.", "token_classes")
    first, last = ages.iloc[0], ages.iloc[-1]
    in_order = ages["aoa_step"].is_monotonic_increasing
    verdict: Verdict = "undecidable"
    if first["aoa_hi"] < last["aoa_lo"]:
        verdict = "found"
    elif first["aoa_lo"] > last["aoa_hi"]:
        verdict = "not_found"
    said = ", ".join(_age(row) for _, row in ages.iterrows())
    sentence = (
        f"By bands of the training text, most frequent tokens first, the loss comes halfway down at {said}; "
        f"{'every band after the one before' if in_order else 'not every band after the one before'}."
    )
    return Finding(
        key,
        "phases",
        claim,
        verdict,
        sentence,
        _age_statistics(ages),
    )  # fmt: skip


def _classes_differ(classes: pd.DataFrame) -> Finding:
    claim, key = "Kinds of tokens are learnt one after the other", "class_order"
    ages = _ages(classes, "form").sort_values("aoa_step") if not classes.empty else classes
    if len(ages) < 2:
        return undecidable(key, "phases", claim, "Fewer than two kinds of tokens were learnt.", "token_classes")
    first, last = ages.iloc[0], ages.iloc[-1]
    verdict: Verdict = "found" if first["aoa_hi"] < last["aoa_lo"] else "undecidable"
    sentence = f"The loss comes halfway down at: {', '.join(_age(row) for _, row in ages.iterrows())}."
    return Finding(
        key,
        "phases",
        claim,
        verdict,
        sentence,
        _age_statistics(ages),
        caveat="Halfway is relative to what the class comes to in this training; a class that is still being learnt at "
        "the end is dated too early.",
    )  # fmt: skip


def _below_trigram(losses: pd.DataFrame, classes: pd.DataFrame) -> Finding:
    claim, key = "Some classes of tokens pass the trigram model before others", "classes_below_h3"
    tables = ("token_class_loss", "token_classes")
    if classes.empty or losses.empty:
        return undecidable(key, "phases", claim, "No class of tokens was scored.", *tables)
    shown = {name for family in _FAMILIES for name in shown_classes(classes, family)}
    chosen = classes[classes["class"].isin(shown)].sort_values(["below_h3_step", "class"])
    passed, never = chosen[chosen["below_h3_step"].notna()], chosen[chosen["below_h3_step"].isna()]
    groups = [
        f"from {step(part['below_h3_step'].iloc[0])} on: {', '.join(_named(row) for _, row in part.iterrows())}"
        for _, part in passed.groupby("below_h3_step", sort=True)
    ]
    if len(never):
        groups.append(f"not clearly at the end: {', '.join(_named(row) for _, row in never.iterrows())}")
    verdict: Verdict = (
        "found" if passed["below_h3_step"].nunique() + bool(len(never)) > 1 and len(passed) else "not_found"
    )
    sentence = (
        f"Clearly better than the trigram model on the same tokens, and so to the end, are {len(passed)} of "
        f"{len(chosen)} classes of tokens ({'; '.join(groups)})."
    )
    everything = losses[losses["family"] == "all"].sort_values("step").iloc[-1]
    return Finding(
        key,
        "phases",
        claim,
        verdict,
        sentence,
        (
            Statistic(
                "better than the trigram model, all tokens, last snapshot",
                everything["gap_h3"], "token_class_loss", everything["gap_h3_ci_lo"], everything["gap_h3_ci_hi"], "nats/token",
            ),
            Statistic("classes clearly below", len(passed) / max(len(chosen), 1), "token_classes", unit="share"),
        ),
        tables,
        caveat="The trigram model counts with Kneser–Ney smoothing; on trigrams that training never showed it is weak, so "
        "a model passes it there early. Intervals are not corrected for the number of classes.",
    )  # fmt: skip


def _named(row: pd.Series) -> str:
    kind = {"frequency": "frequency ", "position": "position "}.get(row["family"], "")
    return kind + class_label(row["class"])


def _contrast(contrasts: pd.DataFrame, losses: pd.DataFrame, name: str, claim: str) -> Finding:
    """Found when the model passes the trigram model on the first class, and by more than on the second."""
    key, tables = f"contrast_{name}", ("token_class_contrasts", "token_class_loss")
    curve = contrasts[contrasts["contrast"] == name] if not contrasts.empty else contrasts
    if curve.empty or losses.empty:
        return undecidable(key, "phases", claim, "These classes of tokens were not scored.", *tables)
    own = losses[losses["class"] == curve["class_a"].iloc[0]]
    curve = curve.merge(own[["step", "gap_h3", "gap_h3_ci_lo", "gap_h3_ci_hi"]], on="step").sort_values("step")
    last = curve.iloc[-1]
    if pd.isna(last["ci_lo"]) or pd.isna(last["gap_h3_ci_lo"]):
        return undecidable(key, "phases", claim, "There is no interval, since all text is one document.", *tables)
    holds = (curve["ci_lo"] > 0) & (curve["gap_h3_ci_lo"] > 0)
    broken = curve.loc[~holds, "step"]
    since = curve.loc[curve["step"] > (broken.max() if len(broken) else -1), "step"]
    verdict: Verdict = "undecidable"
    if len(since):
        verdict = "found"
    elif last["ci_hi"] < 0 or last["gap_h3_ci_hi"] < 0:
        verdict = "not_found"
    kinds = "position " if name == "context" else ""
    first, second = (kinds + class_label(last[column]) for column in ("class_a", "class_b"))
    sentence = (
        f"At {step(last['step'])} the model is ahead of the trigram model by {number(last['gap_h3'])} nats/token "
        f"{between(last['gap_h3_ci_lo'], last['gap_h3_ci_hi'])} on the same tokens of class {first}, which is "
        f"{number(last['value'])} {between(last['ci_lo'], last['ci_hi'])} more than on {second}"
        f"{f'; both above 0 to the end from {step(since.iloc[0])} on' if len(since) else ''}."
    )
    return Finding(
        key,
        "phases",
        claim,
        verdict,
        sentence,
        (
            Statistic(f"ahead of the trigram on {first}", last["gap_h3"], "token_class_loss",
                      last["gap_h3_ci_lo"], last["gap_h3_ci_hi"], "nats/token"),
            Statistic(f"more than on {second}", last["value"], "token_class_contrasts", last["ci_lo"], last["ci_hi"], "nats/token"),
        ),
        caveat="Tokens are compared as they occur, nothing is taken out of their context; classes also differ in how sure "
        "the trigram model is. The induction task tests copying with random tokens.",
    )  # fmt: skip
