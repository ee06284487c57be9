"""Tables that test what directions and dimensions do over training: speed, turning points, compression."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import LAYER

TURN = Column(
    "turn",
    "string",
    "–",
    "plain: of the decoder directions; procrustes: what remains after the best (cross-fitted) orthogonal map common to all features",
    categories=("plain", "procrustes"),
)


def _with_interval(name: str, unit: str, definition: str) -> tuple[Column, Column, Column]:
    return (
        Column(name, "float64", unit, definition, nullable=True),
        Column(f"{name}_ci_lo", "float64", unit, "2.5% bound, bootstrap over features", nullable=True),
        Column(f"{name}_ci_hi", "float64", unit, "97.5% bound, likewise", nullable=True),
    )


ROTATION_INTERVALS = TableSchema(
    "rotation_intervals",
    "one interval between neighbouring snapshots × one kind of turn",
    ("turn", "step_a"),
    (
        LAYER,
        TURN,
        Column("step_a", "int64", "training steps", "earlier snapshot", minimum=0),
        Column("step_b", "int64", "training steps", "later snapshot", minimum=0),
        Column("decades", "float64", "decades", "Δlog10 step (step 0 placed at 0.5)", minimum=0),
        Column("n", "int32", "features", "features alive at both", minimum=0),
        Column(
            "noise_deg",
            "float64",
            "degrees",
            "angle between the two snapshots' decoders that estimation alone makes (docs/definitions.md)",
            nullable=True,
            minimum=0,
        ),
        *_with_interval("angle_deg", "degrees", "median angle as it is"),
        *_with_interval("angle_per_decade", "degrees/decade", "median angle as it is / decades"),
        *_with_interval("turn_deg", "degrees", "median angle without estimation noise"),
        *_with_interval("turn_per_decade", "degrees/decade", "turn_deg / decades"),
        *_with_interval("spread_per_decade", "degrees²/decade", "−2 ln cos turn_deg, in degrees², / decades"),
        *_with_interval(
            "common_share",
            "share",
            "1 − turn_deg of procrustes / turn_deg of plain: share of the turn that the common map explains; plain rows only",
        ),
    ),
)

TURNING_POINTS = TableSchema(
    "turning_points",
    "one kind of turn × clock × law × statistic",
    ("turn", "clock", "law", "statistic"),
    (
        LAYER,
        TURN,
        Column(
            "clock",
            "string",
            "–",
            "what the speed is per unit of: log10 step, step, or tokens seen",
            categories=("log_step", "step", "tokens"),
        ),
        Column(
            "law",
            "string",
            "–",
            "what adds up over a smooth process. steady: the angle (a direction keeps turning the same way); wandering: −2 ln cos (independent small turns)",
            categories=("steady", "wandering"),
        ),
        Column(
            "statistic",
            "string",
            "–",
            "peak_median, peak_mean: largest speed of the median or mean direction; cusum: largest lead or lag of turning over the clock; burst: largest lead gained within one stretch; blocks: contrast of cosines within and across the best two blocks",
            categories=("peak_median", "peak_mean", "cusum", "burst", "blocks"),
        ),
        Column("unit", "string", "–", "unit of value"),
        Column("n_intervals", "int32", "intervals", "intervals with features alive at both ends", minimum=0),
        Column("step_a", "int64", "training steps", "place: last snapshot before it", nullable=True),
        Column(
            "step_b",
            "int64",
            "training steps",
            "place: first snapshot after it (cusum: the snapshot itself)",
            nullable=True,
        ),
        Column("ci_lo", "int64", "training steps", "2.5% bound of step_a, bootstrap over features", nullable=True),
        Column("ci_hi", "int64", "training steps", "97.5% bound of step_b, likewise", nullable=True),
        *_with_interval(
            "value", "as in unit", "the statistic, without estimation noise (blocks: of the cosines as they are)"
        ),
        Column(
            "constant_p95",
            "float64",
            "as in unit",
            "95th percentile of the statistic at constant speed, with the scatter of features and of the noise estimate",
            nullable=True,
        ),
        Column(
            "p_constant",
            "float64",
            "p",
            "p-value against constant speed: centred bootstrap over features; peaks: each interval in its standard errors",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "order_p95",
            "float64",
            "as in unit",
            "95th percentile of the statistic when the intervals' speeds come in random order",
            nullable=True,
        ),
        Column(
            "p_order",
            "float64",
            "p",
            "p-value against exchangeable increments per unit clock (permutation); missing for peaks, which do not depend on the order",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        *_with_interval("cos_before", "–", "blocks: mean cosine between snapshots before the split"),
        *_with_interval("cos_after", "–", "blocks: mean cosine between snapshots after the split"),
        *_with_interval("cos_across", "–", "blocks: mean cosine between snapshots on different sides"),
    ),
)

DIMENSIONALITY_TESTS = TableSchema(
    "dimensionality_tests",
    "one measure of dimensionality over snapshots",
    ("measure",),
    (
        LAYER,
        Column(
            "measure",
            "string",
            "–",
            "rate: total_dim_rate; minus_norms, minus_spectrum: less the mean of that null; over_norms, over_spectrum: ln of the ratio to it; alive, without_*: the rate over alive features or without a direction",
            categories=(
                "rate", "minus_norms", "minus_spectrum", "over_norms", "over_spectrum", "alive", "without_mean", "without_top", "without_shared",
            ),
        ),
        Column("step_early", "int64", "training steps", "snapshot of the largest value before the minimum", minimum=0),
        Column("step_min", "int64", "training steps", "snapshot of the smallest value", minimum=0),
        Column("step_late", "int64", "training steps", "last snapshot", minimum=0),
        Column("early", "float64", "–", "largest value before the minimum"),
        Column("minimum", "float64", "–", "smallest value"),
        Column("late", "float64", "–", "value at the last snapshot"),
        *(
            Column(f"{name}{end}", "float64", "–", what, nullable=end != "")
            for name, told in (("compression", "early − minimum"), ("expansion", "late − minimum"))
            for end, what in (
                ("", told),
                ("_ci_lo", "2.5% bound at these snapshots, bootstrap over features (linearised) and draws of the null"),
                ("_ci_hi", "97.5% bound, likewise"),
            )
        ),
        Column("depth", "float64", "–", "the smaller of compression and expansion; 0 when the minimum lies at an end", minimum=0),
        Column(
            "p_null",
            "float64",
            "p",
            "share of the null's own draws, less their mean, that are as deep at a minimum of their own; missing without a null",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
    ),
)  # fmt: skip

ALL = (ROTATION_INTERVALS, TURNING_POINTS, DIMENSIONALITY_TESTS)
