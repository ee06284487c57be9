"""The claims of the paper, each with the finding that decides it: statistic, interval, null, verdict and reason.

A claim is supported when every finding that it rests on is found, not supported when one of them is not found, and
otherwise undecidable here, with the reason. Controls that a study has run, and that contradict, are named beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from textwrap import shorten

import pandas as pd

from snapcoder.report.finding import Finding, Statistic

_LONGEST = 280  # characters of a reason that quotes a finding; the finding itself is a click away

SUPPORTED, NOT_SUPPORTED, UNDECIDABLE = "supported", "not supported", "undecidable here"
_WORD = {"found": SUPPORTED, "not_found": NOT_SUPPORTED, "undecidable": UNDECIDABLE}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: its wording, the findings that decide it (all of them), and the null that they are held against.

    keys may hold patterns (`disrupt_*`: one finding per task); the first finding is quoted. robust: findings that
    say whether the verdict survives other choices; absent: why nothing can be said when the findings do not exist.
    """

    number: int
    text: str
    keys: tuple[str, ...]
    null: str
    robust: tuple[str, ...] = ()
    absent: str = "The study has no table for it."


_NO_SWEEP = "The study has no sweep of dictionaries: add config/sweep.yaml."
_NO_TASK = "No snapshot can do a task clearly better than chance, so nothing was attributed or ablated."

CLAIMS: tuple[Claim, ...] = (
    Claim(
        1, "Features emerge at one early time", ("onsets",), "onsets at a constant rate or hazard, per decade and per step",
        ("threshold_onsets", "snapshot_onsets", "seed_onsets", "untrained"),
    ),
    Claim(
        2, "Some features are there from initialisation, others emerge", ("classes",), "none: both classes are counted",
        ("threshold_classes", "onset_verdicts", "shuffled_order", "untrained"),
    ),
    Claim(3, "Features are long-lived", ("lifetimes",), "half of the features"),
    Claim(
        4, "Directions turn at one time, to nearly orthogonal ones, and drift slowly afterwards",
        ("turning_point", "orthogonal_turn", "two_blocks"), "constant speed, and the same movements in any order",
        ("own_rotation", "warmup_fastest_turn", "sae_series"),
    ),
    Claim(5, "Later features are more complex", ("complexity",), "onsets permuted over features"),
    Claim(
        6, "Previous-token features come before induction features, and these before contextual ones", ("type_order",),
        "types permuted over features",
    ),
    Claim(
        7, "Tens of features suffice to disrupt and to restore an ability", ("disrupt_*", "restore_*"),
        "as many features of the same norm and firing rate", absent=_NO_TASK,
    ),
    Claim(8, "Different features dominate an ability at different times", ("dominance_*",), "none: leaders are counted",
          absent=_NO_TASK),
    Claim(
        9, "Predictions reach n-gram statistics before features form", ("ngram_before_features",),
        "no difference in time (paired bootstrap)", ("warmup_bigram_nearest",),
    ),
    Claim(
        10, "The dimensions that features fill shrink, then grow",
        ("dimensionality", "dimensionality_beyond_random", "dimensionality_beyond_spectrum"),
        "random directions with the same norms, and with the activations' spectrum",
    ),
    Claim(11, "The decoder norm tells how linearly separable a feature is", ("norm_validity",), "no correlation",
          ("onset_verdicts",)),
    Claim(12, "One dictionary for all snapshots explains as much as one of its own", ("sharing",),
          "autoencoders of single snapshots at equal L0", absent=_NO_SWEEP),
    Claim(13, "A larger dictionary is better", ("dictionary_size",), "the smaller dictionary at equal L0", absent=_NO_SWEEP),
)  # fmt: skip


def judge(findings: Sequence[Finding]) -> pd.DataFrame:
    """Return the claims table: one row per claim, judged from the findings of a study."""
    return pd.DataFrame([_row(claim, findings) for claim in CLAIMS])


def _row(claim: Claim, findings: Sequence[Finding]) -> dict[str, object]:
    decisive = [finding for key in claim.keys for finding in findings if fnmatch(finding.key, key)]
    missing = [key for key in claim.keys if not any(fnmatch(finding.key, key) for finding in findings)]
    verdict, reason = _verdict(claim, decisive, missing)
    lead = _lead(decisive, verdict)
    statistic = lead.statistics[0] if lead and lead.statistics else None
    against = [
        finding.claim
        for finding in findings
        if any(fnmatch(finding.key, key) for key in claim.robust) and finding.verdict == "not_found"
    ]
    return {
        "claim": claim.number,
        "text": claim.text,
        "verdict": verdict,
        "reason": reason,
        "statistic": statistic.name if statistic else None,
        "value": statistic.value if statistic else float("nan"),
        "ci_lo": statistic.low if statistic else float("nan"),
        "ci_hi": statistic.high if statistic else float("nan"),
        "unit": statistic.unit if statistic else None,
        "null": claim.null,
        "p": _p([statistic for finding in decisive for statistic in finding.statistics]),
        "findings": [finding.key for finding in decisive],
        "tables": sorted({statistic.table for finding in decisive for statistic in finding.statistics}),
        "not_robust": against,
    }


def _verdict(claim: Claim, decisive: Sequence[Finding], missing: Sequence[str]) -> tuple[str, str]:
    if not decisive:
        return UNDECIDABLE, claim.absent
    failed = [finding for finding in decisive if finding.verdict == "not_found"]
    if failed:
        some = f"{len(failed)} of {len(decisive)} parts: " if len(decisive) > 1 else ""
        return NOT_SUPPORTED, f"{some}not found: {'; '.join(finding.claim for finding in failed)}."
    unclear = [finding for finding in decisive if finding.verdict == "undecidable"]
    if unclear:
        return UNDECIDABLE, shorten(unclear[0].sentence, width=_LONGEST, placeholder=" …")
    if missing:
        return UNDECIDABLE, claim.absent
    return SUPPORTED, "; ".join(finding.claim for finding in decisive) + "."


def _lead(decisive: Sequence[Finding], verdict: str) -> Finding | None:
    """Return the finding that is quoted: the first one that decides, or the first."""
    telling = [finding for finding in decisive if _WORD[finding.verdict] == verdict]
    return next(iter([*telling, *decisive]), None)


def _p(statistics: Sequence[Statistic]) -> float:
    """Return the largest p-value: every null has to be rejected. NaN without one."""
    values = [one.value for one in statistics if one.name == "p" or one.name.startswith(("p ", "p,"))]
    return max((value for value in values if math.isfinite(value)), default=float("nan"))
