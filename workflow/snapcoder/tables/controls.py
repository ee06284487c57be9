"""Tables of a study's controls: other seeds, warm-ups, untrained models, autoencoders of single snapshots."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import FEATURE, LAYER, STEP

KINDS = ("study", "crosscoder_seed", "model_seed", "warmup", "token_centred", "untrained")
_CONTROL = Column("control", "string", "–", "name of the control; study: the study itself")
_KIND = Column("kind", "string", "–", "what the control changes", categories=KINDS)


def _cosine(name: str, definition: str) -> Column:
    return Column(name, "float64", "–", definition, nullable=True, minimum=-1.0001, maximum=1.0001)


def _share(name: str, definition: str, *, nullable: bool = True) -> Column:
    return Column(name, "float64", "share", definition, nullable=nullable, minimum=0, maximum=1)


SEED_STABILITY = TableSchema(
    "seed_stability",
    "the study's dictionary against one of another seed",
    ("other_seed",),
    (
        LAYER,
        Column("other_seed", "int32", "–", "seed of the other dictionary", minimum=0),
        Column("n_live", "int32", "features", "live features of the study's dictionary", minimum=0),
        Column("n_live_other", "int32", "features", "live features of the other", minimum=0),
        _share("shared_05", "live features whose match has a decoder cosine of at least 0.5"),
        _share("shared_07", "the same at 0.7"),
        _share("shared_09", "the same at 0.9"),
        _share(
            "shared_both",
            "live features that are one feature in both: decoders and encoders agree on the pair, both cosines ≥ 0.7",
        ),
        _share("shared_both_ci_lo", "2.5% bound, bootstrap over features"),
        _share("shared_both_ci_hi", "97.5% bound"),
        _cosine("match_cos_median", "median decoder cosine of matched pairs"),
        _cosine("cos_null_p95", "95th percentile of the best cosine after turning the other dictionary at random"),
        _cosine("activation_corr_median", "median correlation of matched pairs' codes on the same rows"),
        Column("n_onsets", "int32", "features", "shared pairs with an onset in both", minimum=0),
        _cosine("onset_spearman", "Spearman correlation of their onsets by norm"),
        _cosine("onset_concordance", "Lin's concordance of their onsets in log steps"),
        _share("onset_near_share", "shared pairs with onsets at most one snapshot apart (none in both counts)"),
        Column(
            "onset_distance",
            "float64",
            "decades",
            "earth mover's distance of the two distributions of onsets over all live features",
            nullable=True,
            minimum=0,
        ),
        _share("emergent_share", "emergent among live features, study"),
        _share("emergent_share_other", "the same, other seed"),
    ),
)

FEATURE_STABILITY = TableSchema(
    "feature_stability",
    "one feature of the study's dictionary",
    ("feature",),
    (
        LAYER,
        FEATURE,
        Column("n_seeds", "int16", "dictionaries", "dictionaries of other seeds", minimum=0),
        _cosine("seed_match_cos", "mean decoder cosine with its match over seeds; missing without a match"),
        _cosine("seed_match_corr", "mean correlation of the codes with those of its match"),
        _share("seed_shared_share", "seeds in which it is found again (decoders and encoders agree, cosines ≥ 0.7)"),
        _share("onset_near_share", "of these, seeds whose onset is at most one snapshot away"),
    ),
)

CONTROL_STATISTICS = TableSchema(
    "control_statistics",
    "one study or control × quantity",
    ("control", "quantity"),
    (
        LAYER,
        _CONTROL,
        _KIND,
        Column("quantity", "string", "–", "what is measured (docs/controls.md)"),
        Column("unit", "string", "–", "unit of value"),
        Column("value", "float64", "see unit", "estimate", nullable=True),
        Column("ci_lo", "float64", "see unit", "2.5% bound where an interval is defined", nullable=True),
        Column("ci_hi", "float64", "see unit", "97.5% bound", nullable=True),
        Column("study_value", "float64", "see unit", "the same quantity in the study itself", nullable=True),
    ),
)

WARMUP_CONTROL = TableSchema(
    "warmup_control",
    "one model × landmark of training",
    ("control", "landmark"),
    (
        LAYER,
        _CONTROL,
        _KIND,
        Column(
            "warmup_steps",
            "float64",
            "training steps",
            "length of the learning-rate warm-up; missing if unknown",
            nullable=True,
        ),
        Column("landmark", "string", "–", "what happens at the step (docs/controls.md)"),
        Column("step", "float64", "training steps", "when; missing when it does not happen", nullable=True),
        Column("over_warmup", "float64", "warm-ups", "step / warmup_steps", nullable=True),
        Column(
            "shift_decades", "float64", "decades", "log10 of step over the same landmark in the study", nullable=True
        ),
    ),
)

SAE_SERIES_MATCH = TableSchema(
    "sae_series_match",
    "one feature × base snapshot",
    ("feature", "step"),
    (
        LAYER,
        FEATURE,
        STEP,
        Column("present", "bool", "–", "present by norm in the shared dictionary"),
        Column("alive", "bool", "–", "fires there"),
        _cosine("sae_cos", "cosine with the nearest direction of an autoencoder that saw this snapshot alone"),
        _cosine("cos_final", "cosine of the feature's direction with its final one"),
        _cosine("sae_cos_final", "the same between the autoencoders' nearest directions"),
    ),
)

SAE_SERIES_CHECK = TableSchema(
    "sae_series_check",
    "one base snapshot",
    ("step",),
    (
        LAYER,
        STEP,
        Column("n_present", "int32", "features", "features present by norm and alive", minimum=0),
        Column("n_absent", "int32", "features", "all others", minimum=0),
        _cosine("sae_cos_median", "median of sae_cos over present features"),
        _cosine("cos_null_p95", "95th percentile of the best cosine after turning the autoencoder at random"),
        _share("matched_present", "present features with sae_cos ≥ 0.7"),
        _share("matched_absent", "absent features with sae_cos ≥ 0.7"),
        _share("auroc", "how well sae_cos tells present from absent features"),
        _cosine("kappa", "Cohen's κ between presence and sae_cos ≥ 0.7"),
        _cosine("turn_spearman", "Spearman correlation over present features of cos_final and sae_cos_final"),
        _cosine("cos_final_median", "median cos_final of present features"),
        _cosine("sae_cos_final_median", "median sae_cos_final of present features"),
    ),
)

ALL = (SEED_STABILITY, FEATURE_STABILITY, CONTROL_STATISTICS, WARMUP_CONTROL, SAE_SERIES_MATCH, SAE_SERIES_CHECK)
