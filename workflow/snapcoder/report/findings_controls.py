"""Findings about controls: what holds with another seed, another warm-up, without training, without a shared code."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, step, undecidable

NEAR_SHARE = 0.5  # of shared features that must keep their onset within a snapshot
SAME_DECADES = 0.15  # a landmark that moves by less than this, or than seeds do, has not moved
LITTLE_EMERGENCE = 0.5  # untrained models may show at most this share of the study's emergent share
AGREES = 0.75  # AUROC from which autoencoders of single snapshots count as agreeing about presence


def control_findings(tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return the finding about shuffled snapshots, and those of the controls that the study has."""
    found = [] if tables["shuffled_order"].empty else [_order(tables["shuffled_order"])]
    if not tables["seed_stability"].empty:
        found += [_seeds(tables["seed_stability"]), _seed_onsets(tables["seed_stability"])]
    if not tables["warmup_control"].empty:
        found += _warmup(tables["warmup_control"])
    if not tables["control_statistics"].empty:
        found += [*_untrained(tables["control_statistics"]), *_token_centred(tables["control_statistics"])]
    if not tables["sae_series_check"].empty:
        found += [_series(tables["sae_series_check"])]
    return found


def _order(table: pd.DataFrame) -> Finding:
    claim, name = "Histories of features have an order: shuffled snapshots would show fewer of them", "shuffled_order"
    rows = {row["quantity"]: row for row in table.to_dict("records")}
    switches, unbroken, emergent = (rows[key] for key in ("switches", "share_unbroken", "share_emergent"))
    p = max(float(switches["p"]), float(unbroken["p"]))
    if not np.isfinite(p):
        return undecidable("shuffled_order", "features", claim, "There is no live feature.", name)
    sentence = (
        f"A feature switches between present and absent {number(switches['value'])} times; with the snapshots in any other "
        f"order {number(switches['shuffled_mean'])} {between(switches['shuffled_lo'], switches['shuffled_hi'])} times. "
        f"{percent(unbroken['value'])} switch at most once ({percent(unbroken['shuffled_mean'])} "
        f"{between(unbroken['shuffled_lo'], unbroken['shuffled_hi'], as_percent=True)} shuffled); {percent(emergent['value'])} "
        f"are emergent ({percent(emergent['shuffled_mean'])} shuffled). p = {p:.3f} over "
        f"{int(switches['n_shuffles'])} shuffled orders."
    )
    return Finding(
        "shuffled_order",
        "features",
        claim,
        "found" if p < 0.05 else "not_found",
        sentence,
        (
            Statistic("changes per feature", float(switches["value"]), name, unit="changes"),
            Statistic("p, shuffled snapshots", p, name),
        ),
        caveat="Brackets are the range of 95% of shuffled orders. A dictionary does not know the order of its snapshots, so "
        "this asks about the reading, not about the training.",
    )


def _seeds(pairs: pd.DataFrame) -> Finding:
    claim, name = "Another seed of the dictionary finds the same features", "seed_stability"
    share, low, high = pairs["shared_both"].mean(), pairs["shared_both_ci_lo"].min(), pairs["shared_both_ci_hi"].max()
    verdict: Verdict = "found" if low > 0.5 else "not_found" if high < 0.5 else "undecidable"
    sentence = (
        f"{percent(share)} {between(low, high, as_percent=True)} of live features are found again (decoders and encoders "
        f"agree on the match, both cosines at least 0.7), over {plural(len(pairs), 'other seed')}; by decoders alone "
        f"{percent(pairs['shared_07'].mean())}, at cosine 0.9 {percent(pairs['shared_09'].mean())}. A match at random "
        f"reaches {number(pairs['cos_null_p95'].max())} (95%)."
    )
    return Finding(
        "seed_features",
        "dictionary",
        claim,
        verdict,
        sentence,
        (
            Statistic("share of features shared", float(share), name, float(low), float(high)),
            Statistic("median decoder cosine of matches", float(pairs["match_cos_median"].mean()), name),
        ),
        caveat="Counted as found when more than half are shared. Read statements about single features together with "
        "their stability; other seeds of the dictionary say nothing about other language models.",
    )


def _seed_onsets(pairs: pd.DataFrame) -> Finding:
    claim, name = "Onsets do not depend on the seed of the dictionary", "seed_stability"
    near, n = pairs["onset_near_share"].mean(), int(pairs["n_onsets"].min())
    if n < 10 or not np.isfinite(near):
        return undecidable("seed_onsets", "features", claim, f"Only {n} shared features have an onset.", name)
    verdict: Verdict = "found" if pairs["onset_near_share"].min() > NEAR_SHARE else "not_found"
    sentence = (
        f"{percent(near)} of shared features have onsets at most one snapshot apart (Spearman "
        f"{number(pairs['onset_spearman'].mean())}, concordance {number(pairs['onset_concordance'].mean())}); the "
        f"distributions of all onsets differ by {number(pairs['onset_distance'].max())} decades at most, shares of "
        f"emergent features are {percent(pairs['emergent_share'].iloc[0])} and "
        f"{', '.join(percent(value) for value in pairs['emergent_share_other'])}."
    )
    return Finding(
        "seed_onsets",
        "features",
        claim,
        verdict,
        sentence,
        (
            Statistic("shared features with the same onset ± 1 snapshot", float(near), name),
            Statistic("distance of onset distributions", float(pairs["onset_distance"].max()), name, unit="decades"),
        ),
        caveat="Only features that both dictionaries have can be compared one by one.",
    )


def _warmup(table: pd.DataFrame) -> list[Finding]:
    """Return a finding for each landmark: does it move with the warm-up?"""
    warmups = table[table["kind"] == "warmup"]
    seeds = table[table["kind"] == "model_seed"]
    return [
        _landmark(landmark, said, warmups, seeds, table)
        for landmark, said in (("bigram_nearest", "The bigram phase"), ("fastest_turn", "The turn of directions"))
        if not warmups.empty
    ]


def _landmark(landmark: str, said: str, warmups: pd.DataFrame, seeds: pd.DataFrame, table: pd.DataFrame) -> Finding:
    claim, name, key = f"{said} does not move with the learning-rate warm-up", "warmup_control", f"warmup_{landmark}"
    moved = warmups[(warmups["landmark"] == landmark) & warmups["shift_decades"].notna()]
    noise = seeds.loc[seeds["landmark"] == landmark, "shift_decades"].abs().max()
    own = table[(table["kind"] == "study") & (table["landmark"] == landmark)]
    if moved.empty or own.empty:
        return undecidable(key, "phases", claim, "It does not happen in one of the models.", name)
    allowed = max(SAME_DECADES, float(noise) if np.isfinite(noise) else 0.0)
    largest = float(moved["shift_decades"].abs().max())
    texts = ", ".join(
        f"{step(at)} with a warm-up of {warmup:,.0f} ({number(over)} warm-ups)"
        for at, warmup, over in zip(moved["step"], moved["warmup_steps"], moved["over_warmup"], strict=True)
    )
    study = own.iloc[0]
    spread = f"; another model seed moves it by {number(float(noise))} decades" if np.isfinite(noise) else ""
    return Finding(
        key,
        "phases",
        claim,
        "not_found" if largest > allowed else "found",
        f"{step(study['step'])} with the study's warm-up of {study['warmup_steps']:,.0f} "
        f"({number(study['over_warmup'])} warm-ups); {texts}{spread}.",
        (
            Statistic("largest shift with the warm-up", largest, name, unit="decades"),
            Statistic("shift with the model's seed", float(noise), name, unit="decades"),
        ),
        caveat="Steps are known up to the interval between snapshots. One model per warm-up: a shift no larger than that "
        f"of another seed, or than {SAME_DECADES} decades, does not count.",
    )


def _untrained(statistics: pd.DataFrame) -> list[Finding]:
    row = statistics[(statistics["control"] == "untrained") & (statistics["quantity"] == "share_emergent")]
    if row.empty or not np.isfinite(row["study_value"].iloc[0]):
        return []
    found = row.iloc[0]
    few = found["ci_hi"] < LITTLE_EMERGENCE * found["study_value"]
    turn = statistics[(statistics["control"] == "untrained") & (statistics["quantity"] == "cos_first_last")]
    sentence = (
        f"Over untrained models in place of snapshots, {percent(found['value'])} "
        f"{between(found['ci_lo'], found['ci_hi'], as_percent=True)} of live features would count as emergent, "
        f"{percent(found['study_value'])} in the study. The median cosine of a feature's directions in the first and the "
        f"last of them is {number(float(turn['value'].iloc[0]))}."
    )
    verdict: Verdict = "found" if few else "not_found" if found["ci_lo"] >= found["study_value"] else "undecidable"
    return [
        Finding(
            "untrained",
            "features",
            "Without training, hardly any feature seems to emerge",
            verdict,
            sentence,
            (
                Statistic(
                    "emergent share, untrained", found["value"], "control_statistics", found["ci_lo"], found["ci_hi"]
                ),
            ),
            caveat="How often the rules call a feature emergent when nothing is learnt. Initialisations differ from each "
            "other more than neighbouring snapshots do.",
        )
    ]


def _token_centred(statistics: pd.DataFrame) -> list[Finding]:
    row = statistics[(statistics["control"] == "token_centred") & (statistics["quantity"] == "share_emergent")]
    if row.empty:
        return []
    found = row.iloc[0]
    more = found["ci_lo"] > found["study_value"]
    sentence = (
        f"After subtracting each token's mean activation, {percent(found['value'])} "
        f"{between(found['ci_lo'], found['ci_hi'], as_percent=True)} of live features are emergent, "
        f"{percent(found['study_value'])} before."
    )
    return [
        Finding(
            "token_centred",
            "features",
            "Features of the context emerge more often than features of the token",
            "found" if more else "not_found",
            sentence,
            (Statistic("emergent share", found["value"], "control_statistics", found["ci_lo"], found["ci_hi"]),),
            caveat="Partly built in: untrained models hardly mix context in, so that little is left at early snapshots "
            "once tokens are subtracted, and its scale is blown up by the normalisation.",
        )
    ]


def _series(check: pd.DataFrame) -> Finding:
    claim, name = "Autoencoders of single snapshots agree about presence and turn", "sae_series_check"
    judged = check[check["auroc"].notna()]
    middle, turn = check["auroc"].median(), check["turn_spearman"].iloc[:-1].median()
    if judged.empty or not np.isfinite(turn):
        return undecidable("sae_series", "dictionary", claim, "No snapshot has both present and absent features.", name)
    verdict: Verdict = "found" if middle >= AGREES and turn > 0.5 else "not_found"
    last = check.sort_values("step").iloc[0]
    sentence = (
        f"A present feature has a direction within cosine {number(check['sae_cos_median'].median())} (median) in an "
        f"autoencoder that saw its snapshot alone (random: {number(check['cos_null_p95'].max())}). That cosine tells "
        f"present from absent features with AUROC {number(float(middle))} (median over snapshots). Cosines to the final "
        f"direction correlate with those of the autoencoders (Spearman {number(float(turn))}); at {step(last['step'])} "
        f"their medians are {number(last['cos_final_median'])} and {number(last['sae_cos_final_median'])}."
    )
    return Finding(
        "sae_series",
        "dictionary",
        claim,
        verdict,
        sentence,
        (
            Statistic("AUROC, median over snapshots", float(middle), name),
            Statistic("Spearman of cosines to final", float(turn), name),
        ),
        caveat=f"Counted as found with a median AUROC of {AGREES} and a correlation above 0.5. An autoencoder splits "
        "features its own way, so that a missing match is weak evidence of absence.",
    )
