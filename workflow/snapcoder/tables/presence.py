"""Tables about the presence of features by evidence beside the decoder norm (SCIENCE 6.2, 6.12)."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import FEATURE, LAYER, SNAPSHOT, STEP
from snapcoder.tables.evolution import CLASSES

STATES = ("absent", "present", "unknown")
AT_SNAPSHOT = ("present", "unsupported", "shrinkage", "decoupled", "confirmed", "unclear")
VERDICTS = (
    "dead", "absent", "present_from_start", "confirmed", "unclear", "shrinkage", "decoupled", "silent", "unsupported",
)  # fmt: skip
EVIDENCE = ("norm", "firing", "regression", "probe", "scaling")
_PER_CODE = "normalised units"


def _slope(name: str, unit: str, definition: str) -> tuple[Column, Column]:
    return (
        Column(name, "float32", unit, f"{definition}; missing below presence.min_active activations", nullable=True),
        Column(
            f"{name}_se",
            "float32",
            unit,
            f"standard error of {name} over stretches of documents",
            nullable=True,
            minimum=0,
        ),
    )


_MEASURED = (
    Column("added", "bool", "–", "the snapshot is shown through an extension"),
    Column(
        "n_active",
        "int64",
        "tokens",
        "cached tokens on which the feature is active by its reference gate (that of its largest norm)",
        minimum=0,
    ),
    Column(
        "regress_r2",
        "float32",
        "–",
        "share of the activation variance that the rank-1 regression of x on the shared code explains",
        nullable=True,
        minimum=0,
    ),
    Column(
        "regress_null",
        "float32",
        "–",
        "its expectation under permutations of the tokens within documents",
        nullable=True,
        minimum=0,
    ),
    Column("regress_excess", "float32", "–", "regress_r2 − regress_null", nullable=True),
    Column(
        "p_present",
        "float64",
        "–",
        "p of the regression within documents against the permutations of its decile of firing rate; missing below presence.min_positives",
        nullable=True,
        minimum=0,
        maximum=1,
    ),
    Column(
        "q_present",
        "float64",
        "–",
        "Benjamini–Hochberg adjusted p_present within the snapshot",
        nullable=True,
        minimum=0,
        maximum=1,
    ),
    Column(
        "single_corr",
        "float32",
        "–",
        "correlation of the shared code with the snapshot's own term of the encoder, x·W_enc; missing when that term is zero",
        nullable=True,
        minimum=-1,
        maximum=1,
    ),
    Column(
        "single_p",
        "float64",
        "–",
        "one-sided p of that correlation within documents, same permutations",
        nullable=True,
        minimum=0,
        maximum=1,
    ),
    Column(
        "probe_auroc",
        "float32",
        "–",
        "AUROC of a linear probe for the tokens on which the feature is active, fitted on one half of the documents and scored on the other",
        nullable=True,
        minimum=0,
        maximum=1,
    ),
    Column("probe_ci_lo", "float32", "–", "2.5% bound of the AUROC (DeLong)", nullable=True, minimum=0, maximum=1),
    Column("probe_ci_hi", "float32", "–", "97.5% bound of the AUROC (DeLong)", nullable=True, minimum=0, maximum=1),
    Column("probe_n", "int64", "tokens", "active tokens scored", minimum=0),
    *_slope(
        "beta_eps",
        "–",
        "latent scaling of error + own contribution along the decoder of the base snapshot with the largest norm",
    ),
    *_slope("beta_r", "–", "the same for the reconstruction without the own contribution"),
    *_slope(
        "beta_own",
        "–",
        "latent scaling of error + own contribution along the decoder of this snapshot: 1 unless the decoder is shrunken or inflated",
    ),
    *_slope(
        "free_eps",
        _PER_CODE,
        "amplitude of the code in error + own contribution along its own best direction, fitted on one half of the documents and measured on the other; comparable with the norm",
    ),
    *_slope("free_rest", _PER_CODE, "the same for the reconstruction without the own contribution"),
)

PRESENCE = TableSchema(
    "presence", "one feature at one snapshot (one file each)", ("feature",), (LAYER, FEATURE, STEP, *_MEASURED)
)

FEATURE_PRESENCE = TableSchema(
    "feature_presence",
    "one feature × one snapshot (base and added)",
    ("feature", "step"),
    (
        LAYER,
        FEATURE,
        SNAPSHOT,
        STEP,
        Column(
            "norm_rel",
            "float32",
            "–",
            "norm / its maximum over snapshots; missing for a zero decoder",
            nullable=True,
            minimum=0,
            maximum=1.0001,
        ),
        Column("alive", "bool", "–", "firing rate at or above evolution.rate_floor"),
        *_MEASURED,
        Column("peak", "bool", "–", "the base snapshot of the feature's largest norm"),
        Column("nu_ref", "float32", "–", "beta_eps / its value at the peak", nullable=True),
        Column("nu_eps", "float32", "–", "free_eps / its value at the peak", nullable=True),
        Column(
            "nu_r",
            "float32",
            "–",
            "√(free_rest² − free_rest² at the peak) / free_eps at the peak: what other features cover beyond what they do at the peak",
            nullable=True,
            minimum=0,
        ),
        Column("by_norm", "bool", "–", "norm_rel ≥ evolution.alpha, and the feature fires somewhere"),
        Column(
            "by_regression",
            "string",
            "–",
            "q_present ≤ presence.fdr and √regress_excess ≥ alpha · its maximum over snapshots",
            categories=STATES,
        ),
        Column(
            "by_probe",
            "string",
            "–",
            "AUROC interval above presence.probe_auroc, below it, or across",
            categories=STATES,
        ),
        Column("by_scaling", "string", "–", "interval of nu_eps above alpha, below it, or across", categories=STATES),
        Column("combined", "string", "–", "all evidence together (docs/definitions.md)", categories=STATES),
        Column(
            "verdict",
            "string",
            "–",
            "what the evidence makes of the dictionary's own claim at this snapshot (docs/definitions.md)",
            categories=AT_SNAPSHOT,
        ),
    ),
)


def _interval(name: str, what: str) -> tuple[Column, Column]:
    return (
        Column(
            f"{name}_lo",
            "int64",
            "training steps",
            f"onset by {what}: last snapshot absent; missing when possibly present from the first snapshot, or not measured",
            nullable=True,
        ),
        Column(
            f"{name}_hi",
            "int64",
            "training steps",
            f"onset by {what}: first snapshot of lasting presence; missing when never",
            nullable=True,
        ),
    )


FEATURE_ONSETS = TableSchema(
    "feature_onsets",
    "one feature",
    ("feature",),
    (
        LAYER,
        FEATURE,
        Column("class", "string", "–", "as in feature_timing", categories=CLASSES),
        *_interval("onset", "all evidence together"),
        Column(
            "onset_censoring",
            "string",
            "–",
            "left: onset_lo missing; interval: both ends known; right: onset_hi missing",
            categories=("left", "interval", "right"),
        ),
        Column("evidence", "string", "–", "which evidence set the combined onset", categories=(*EVIDENCE, "none")),
        Column(
            "verdict",
            "string",
            "–",
            "what became of the onset that the decoder norm gives (docs/definitions.md)",
            categories=VERDICTS,
        ),
        Column(
            "agreement",
            "float32",
            "share",
            "share of the measured evidences whose own onset lies within one snapshot of the combined one",
            minimum=0,
            maximum=1,
        ),
        *_interval("norm", "the decoder norm"),
        *_interval("firing", "firing above the early baseline"),
        *_interval("regression", "the regression on the code"),
        *_interval("probe", "the linear probe"),
        *_interval("scaling", "latent scaling"),
    ),
)

ALL = (PRESENCE, FEATURE_PRESENCE, FEATURE_ONSETS)
