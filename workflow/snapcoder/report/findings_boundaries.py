"""Findings about phase boundaries: on log steps, on every clock, and against the learning-rate warm-up."""

import itertools

import pandas as pd

from snapcoder.figures.summary import CLOCKS, SIGNIFICANT, p_text, preferred_segments, supported
from snapcoder.report.finding import Finding, Statistic, Verdict, between, number, percent, plural, step, undecidable

STRONG_BIC = 6.0  # Kass & Raftery (1995): above 6 strong, above 10 very strong evidence
_SETS = {"ngram": "the n-gram metrics", "features": "the feature metrics", "joint": "all metrics together"}
_MODELS = {"piecewise_const": "levels", "piecewise_linear": "straight lines"}
_TABLE = "phase_segments"


def boundary_findings(segments: pd.DataFrame) -> list[Finding]:
    """Return the findings on the boundaries of every metric set, on all clocks together, and on the warm-up."""
    return [*(_boundary(segments, name) for name in _SETS), _all_clocks(segments), _warmup(segments)]


def _boundary(segments: pd.DataFrame, name: str) -> Finding:
    claim, key = f"There is a phase boundary in {_SETS[name]}", f"boundary_{name}"
    rows = preferred_segments(segments, name, "log_step")
    if rows.empty:
        return undecidable(key, "phases", claim, "These metrics were not segmented.", _TABLE)
    first = rows.iloc[0]
    n, gain, p, p_holm = int(first["n_segments"]), *(float(first[c]) for c in ("delta_bic_vs_1seg", "p_perm", "p_holm"))
    if n <= 1:
        sentence = (
            "On log steps the Bayesian information criterion prefers one segment "
            f"(in {percent(first['k_support'])} of bootstrap draws): no boundary."
        )
        return Finding(key, "phases", claim, "not_found", sentence, (), (_TABLE,))
    statistics = [
        Statistic("BIC gain over one segment", gain, _TABLE),
        Statistic("p_perm", p, _TABLE),
        Statistic("p_holm", p_holm, _TABLE),
        Statistic("support for the number of segments", float(first["k_support"]), _TABLE, unit="share"),
    ]
    sure = (
        f"{p_text(p)} against one continuous process, {p_text(p_holm)} after correction for clocks and models; "
        f"{percent(first['k_support'])} of bootstrap draws prefer as many segments"
        f"{', the most that were allowed' if n == first['most_segments'] else ''}"
    )
    if not supported(rows):
        sentence = (
            f"On log steps BIC cuts the curves into {n} {_MODELS[first['model']]}, but one continuous process may do as "
            f"much: {sure}. No boundary is supported."
        )
        verdict: Verdict = "not_found" if p >= SIGNIFICANT else "undecidable"
        return Finding(key, "phases", claim, verdict, sentence, tuple(statistics), (_TABLE,), _CAVEAT)
    texts, stable = [], False
    for before, row in itertools.pairwise(rows.to_dict("records")):
        support = float(row["break_support"])
        stable = stable or support >= 0.5
        texts.append(
            f"between {step(before['last_step'])} and {step(row['first_step'])} (95% interval of steps "
            f"{between(row['break_lo'], row['break_hi'], 0)}; in {percent(support)} of bootstrap draws)"
        )
        place, low, high = float(row["break_step"]), row["break_lo"], row["break_hi"]
        statistics += [
            Statistic(f"boundary {row['segment']}", place, _TABLE, low, high, "training steps"),
            Statistic(f"support of boundary {row['segment']}", support, _TABLE, unit="share"),
        ]
    named = itertools.groupby(rows.to_dict("records"), key=lambda row: str(row["label"]))
    labels = ", then ".join(f"{label} from {step(next(group)['first_step'])}" for label, group in named)
    sentence = (
        f"On log steps, with {_MODELS[first['model']]} as segments, {plural(n - 1, 'boundary')}: {'; '.join(texts)}. "
        f"Evidence: {sure}. BIC gain over no boundary: {number(gain, 1)}. Labels by rule: {labels}."
    )
    found = stable and gain > STRONG_BIC and p_holm < SIGNIFICANT
    return Finding(
        key, "phases", claim, "found" if found else "undecidable", sentence, tuple(statistics), (_TABLE,), _CAVEAT
    )


_CAVEAT = (
    "A boundary is no finer than the spacing of snapshots, and is one of this clock: see the finding over all clocks. Early "
    "boundaries move with the learning-rate warm-up."
)


def _all_clocks(segments: pd.DataFrame) -> Finding:
    """Every clock must reject one continuous process, and bounds must overlap: no correction is due for that."""
    key, claim = "boundary_all_clocks", "A phase boundary survives all clocks"
    told: dict[str, dict[str, pd.DataFrame]] = {}
    for name, clock in itertools.product(_SETS, CLOCKS):
        rows = preferred_segments(segments, name, clock)
        if len(rows):
            told.setdefault(name, {})[clock] = rows
    if not told or min(len(clocks) for clocks in told.values()) < 3:
        why = "Fewer than three clocks can be told for these snapshots."
        return undecidable(key, "phases", claim, why, _TABLE)
    texts, statistics, surviving = [], [], []
    for name, clocks in told.items():
        having = [clock for clock, rows in clocks.items() if supported(rows)]
        p_values = ", ".join(
            f"{CLOCKS[clock]} {p_text(float(rows['p_perm'].iloc[0]))}" for clock, rows in clocks.items()
        )
        shared = _shared(clocks) if len(having) == len(clocks) else []
        on = "all clocks" if len(having) == len(clocks) else " and ".join(CLOCKS[c] for c in having) or "no clock"
        same = f", at the same place around {step(shared[0])}" if shared else ""
        texts.append(f"{_SETS[name]}: on {on}{same} ({p_values})")
        statistics += [
            Statistic(f"p_perm, {_SETS[name]}, {CLOCKS[clock]}", float(rows["p_perm"].iloc[0]), _TABLE)
            for clock, rows in clocks.items()
        ]
        surviving += [name] if shared else []
    sentence = f"Boundaries that one continuous process does not explain: {'; '.join(texts)}."
    caveat = (
        "Tokens are steps in another unit at a constant batch size. On linear steps a handful of late snapshots holds most of "
        "the weight, so that little can be found there; absence of evidence, not evidence of absence."
    )
    verdict: Verdict = "found" if surviving else "not_found"
    return Finding(key, "phases", claim, verdict, sentence, tuple(statistics), (_TABLE,), caveat)


def _shared(clocks: dict[str, pd.DataFrame]) -> list[float]:
    """Boundaries of the first clock whose interval meets one on every other clock."""
    first, *others = ([(r["break_lo"], r["break_hi"], r["break_step"]) for r in rows.to_dict("records")[1:]]
                      for rows in clocks.values())  # fmt: skip
    return [
        float(place)
        for low, high, place in first
        if all(any(low < other_high and other_low < high for other_low, other_high, _ in other) for other in others)
    ]


def _warmup(segments: pd.DataFrame) -> Finding:
    """The boundary of the first metric set, joint first, that has one on log steps."""
    key, claim = "boundary_after_warmup", "The first phase boundary comes after the learning-rate warm-up"
    cuts = [(name, preferred_segments(segments, name, "log_step")) for name in ("joint", "ngram", "features")]
    name, rows = next(((name, rows) for name, rows in cuts if supported(rows)), ("", pd.DataFrame()))
    if rows.empty:
        return undecidable(key, "phases", claim, "No boundary is supported on log steps.", _TABLE)
    records = rows.to_dict("records")[1:]
    ratio, place = float(records[0]["break_over_warmup"]), float(records[0]["break_step"])
    if not ratio > 0:
        return undecidable(key, "phases", claim, "The length of the warm-up is not known, or there was none.", _TABLE)
    warmup = place / ratio
    low, high = (float(records[0][bound]) / warmup for bound in ("break_lo", "break_hi"))
    verdict: Verdict = "found" if low >= 1 else "not_found" if high <= 1 else "undecidable"
    later = ", ".join(number(float(record["break_over_warmup"])) for record in records[1:])
    sentence = (
        f"In {_SETS[name]} on log steps, the first boundary lies at {number(ratio)} {between(low, high)} of the warm-up's "
        f"{warmup:,.0f} steps ({p_text(float(rows['p_perm'].iloc[0]))} against one continuous process)"
        f"{f'; later ones at {later}' if later else ''}."
    )
    statistics = tuple(
        Statistic(f"boundary {r['segment']} / warm-up", float(r["break_over_warmup"]), _TABLE,
                  float(r["break_lo"]) / warmup, float(r["break_hi"]) / warmup)
        for r in records
    )  # fmt: skip
    caveat = "One schedule cannot tell a boundary that warm-up makes from one that only coincides with it."
    return Finding(key, "phases", claim, verdict, sentence, statistics, (_TABLE,), caveat)
