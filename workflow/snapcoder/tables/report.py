"""The table that the report opens with."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import LAYER

VERDICTS = ("supported", "not supported", "undecidable here")

CLAIMS = TableSchema(
    "claims",
    "one claim of the paper",
    ("claim",),
    (
        LAYER,
        Column("claim", "int8", "number", "number of the claim", minimum=1),
        Column("text", "string", "–", "the claim"),
        Column(
            "verdict",
            "string",
            "–",
            "supported: every finding that it rests on is found; not supported: one of them is not; else undecidable here",
            categories=VERDICTS,
        ),
        Column("reason", "string", "–", "the findings that decide, or why nothing can be decided"),
        Column("statistic", "string", "–", "what value is", nullable=True),
        Column("value", "float64", "see unit", "first statistic of the finding that decides", nullable=True),
        Column("ci_lo", "float64", "see unit", "lower 95% bound where there is one", nullable=True),
        Column("ci_hi", "float64", "see unit", "upper 95% bound", nullable=True),
        Column("unit", "string", "–", "unit of value", nullable=True),
        Column("null", "string", "–", "what the finding is held against"),
        Column(
            "p",
            "float64",
            "–",
            "largest p-value of the findings that the claim rests on, corrected where they are",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column("findings", "list<string>", "–", "keys of the findings that the claim rests on (findings.json)"),
        Column("tables", "list<string>", "–", "tables that their statistics come from"),
        Column(
            "not_robust",
            "list<string>",
            "–",
            "controls and sensitivity checks, of those that bear on the claim, that came out against it",
        ),
    ),
)

ALL = (CLAIMS,)
