"""A finding: a claim, whether the study bears it out, the sentence that says so, and the numbers that it rests on."""

import math
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["found", "not_found", "undecidable"]


@dataclass(frozen=True)
class Statistic:
    """One number behind a finding, with its 95% interval where there is one, and the table that it comes from."""

    name: str
    value: float
    table: str
    low: float = math.nan
    high: float = math.nan
    unit: str = ""


@dataclass(frozen=True)
class Finding:
    """What the study says about one claim.

    `verdict` is of the claim as worded; `sentence` gives the numbers; `caveat` says what could make it misleading.
    """

    key: str
    section: str
    claim: str
    verdict: Verdict
    sentence: str
    statistics: tuple[Statistic, ...] = ()
    tables: tuple[str, ...] = ()
    caveat: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the finding as JSON values; undefined numbers become null."""
        return {
            "key": self.key,
            "section": self.section,
            "claim": self.claim,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "caveat": self.caveat,
            "tables": sorted({*self.tables, *(statistic.table for statistic in self.statistics)}),
            "statistics": [
                {
                    "name": statistic.name,
                    "value": defined(statistic.value),
                    "low": defined(statistic.low),
                    "high": defined(statistic.high),
                    "unit": statistic.unit,
                    "table": statistic.table,
                }
                for statistic in self.statistics
            ],
        }


def defined(value: float | int | None) -> float | int | None:
    """Return a plain number, or None when it is missing or not finite."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(value)


def undecidable(key: str, section: str, claim: str, why: str, *tables: str) -> Finding:
    """Return a finding about which nothing can be said, and why."""
    return Finding(key, section, claim, "undecidable", why, (), tables)


def number(value: float, digits: int = 2) -> str:
    """Return a number for a sentence; a dash when it is undefined."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.{digits + 1 if digits and abs(value) < 0.1 else digits}f}".replace("-", "−")


def percent(value: float) -> str:
    """Return a share as per cent, with a decimal where it matters."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.1%}" if value > 0.895 or value < 0.095 else f"{value:.0%}"
    return text.replace(".0%", "%")


def between(low: float, high: float, digits: int = 2, *, as_percent: bool = False) -> str:
    """Return an interval in brackets, or a note that there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "[no interval]"
    return f"[{percent(low)}, {percent(high)}]" if as_percent else f"[{number(low, digits)}, {number(high, digits)}]"


def step(value: float) -> str:
    """Return a training step for a sentence."""
    return f"step {value:,.0f}"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: 1 feature, 2 features, 3 boundaries."""
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else many}"
