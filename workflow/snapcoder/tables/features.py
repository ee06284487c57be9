"""Tables that say what a feature is about: examples, complexity and type, logits (SCIENCE 6.9, 6.10)."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import FEATURE, LAYER, STEP

TYPES = ("token", "prev_token", "bigram", "induction", "positional", "contextual", "unclear")

FEATURE_EXAMPLES = TableSchema(
    "feature_examples",
    "one example of one feature",
    ("feature", "kind", "rank"),
    (
        LAYER,
        FEATURE,
        Column(
            "kind",
            "string",
            "–",
            "top: strongest rows; quantile: strongest rows of lower activation bands",
            categories=("top", "quantile"),
        ),
        Column("rank", "int16", "–", "order within the kind, from 0", minimum=0),
        Column("doc", "int32", "index", "document", minimum=0),
        Column("sequence", "int32", "index", "row of the token table", minimum=0),
        Column("position", "int32", "tokens", "place in the sequence", minimum=0),
        Column("act", "float32", "code units", "shared code z", minimum=0),
        Column("tokens", "list<string>", "–", "the context, token by token"),
        Column(
            "acts", "list<float32>", "code units", "shared code on each of these tokens; 0 where silent or not cached"
        ),
        Column("focus", "int32", "index", "place of the example's token within `tokens`", minimum=0),
        Column(
            "act_by_snapshot",
            "list<float32>",
            "code units",
            "gated code on this row per snapshot, in step order: when it starts to fire on this very context",
        ),
    ),
)

COMPLEXITY = TableSchema(
    "complexity",
    "one live feature",
    ("feature",),
    (
        LAYER,
        FEATURE,
        Column("n_active", "int64", "tokens", "cached rows on which it fires", minimum=0),
        Column(
            "token_entropy",
            "float32",
            "bits",
            "entropy of the current token, weighted by activation",
            nullable=True,
            minimum=0,
        ),
        Column("top_token", "string", "–", "token that carries most activation", nullable=True),
        Column(
            "top_token_share",
            "float32",
            "share",
            "its share of the activation",
            nullable=True,
            minimum=0,
            maximum=1.0001,
        ),
        Column(
            "token_r2",
            "float32",
            "–",
            "R² of predicting z from the current token alone (cross-fitted)",
            nullable=True,
            maximum=1.0001,
        ),
        Column(
            "prev_r2",
            "float32",
            "–",
            "R² of predicting z from the previous token alone (cross-fitted)",
            nullable=True,
            maximum=1.0001,
        ),
        Column(
            "bigram_r2",
            "float32",
            "–",
            "R² of predicting z from previous and current token (cross-fitted)",
            nullable=True,
            maximum=1.0001,
        ),
        Column(
            "position_r2",
            "float32",
            "–",
            "R² of predicting z from the position alone (cross-fitted)",
            nullable=True,
            maximum=1.0001,
        ),
        Column(
            "token_fires_r2",
            "float32",
            "–",
            "R² of predicting whether it fires from the current token alone (cross-fitted)",
            nullable=True,
            maximum=1.0001,
        ),
        Column(
            "prev_fires_r2",
            "float32",
            "–",
            "R² of predicting whether it fires from the previous token alone (cross-fitted)",
            nullable=True,
            maximum=1.0001,
        ),
        Column(
            "bigram_fires_r2",
            "float32",
            "–",
            "R² of predicting whether it fires from the previous and current token (cross-fitted)",
            nullable=True,
            maximum=1.0001,
        ),
        Column(
            "position_fires_r2",
            "float32",
            "–",
            "R² of predicting whether it fires from the position alone (cross-fitted)",
            nullable=True,
            maximum=1.0001,
        ),
        Column("prev_token_score", "float32", "–", "prev_r2 − token_r2", nullable=True),
        Column(
            "context_need",
            "float32",
            "–",
            "1 − token_r2, clipped to 0..1: what the current token does not explain",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "bigram_need",
            "float32",
            "–",
            "1 − best of token_r2 and bigram_r2, clipped to 0..1",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "repeat_score",
            "float32",
            "–",
            "share of activation where the current bigram stood earlier in the sequence, minus the share that its tokens have of themselves",
            nullable=True,
        ),
        Column(
            "complexity",
            "int8",
            "1..5",
            "rule-based: 1 one token … 5 wide context (docs/definitions.md)",
            nullable=True,
            minimum=1,
            maximum=5,
        ),
        Column(
            "context_window",
            "float32",
            "tokens",
            "median suffix that keeps the activation (table context_length); missing where not measured",
            nullable=True,
            minimum=1,
        ),
        Column("type", "string", "–", "rule-based type of detector", categories=TYPES),
    ),
)

CONTEXT_LENGTH = TableSchema(
    "context_length",
    "one measured feature",
    ("feature",),
    (
        LAYER,
        FEATURE,
        Column(
            "window",
            "int32",
            "tokens",
            "shortest suffix of a context that keeps the feature's activation, the current token counted; median over examples (whole context where no suffix of the grid does)",
            minimum=1,
        ),
        Column("window_q1", "int32", "tokens", "its first quartile", minimum=1),
        Column("window_q3", "int32", "tokens", "its third quartile", minimum=1),
        Column("n_examples", "int32", "examples", "contexts that were cut", minimum=1),
        Column(
            "share_reached",
            "float32",
            "share",
            "examples for which a suffix shorter than the context keeps enough",
            minimum=0,
            maximum=1,
        ),
        Column(
            "kept", "float32", "share", "activation kept by the window, of that on the whole context; median", minimum=0
        ),
    ),
)

FEATURE_LOGITS = TableSchema(
    "feature_logits",
    "one feature × moment × sign × rank",
    ("feature", "moment", "sign", "rank"),
    (
        LAYER,
        FEATURE,
        Column("moment", "string", "–", "snapshot at which the decoder is read", categories=("onset", "final")),
        STEP,
        Column("sign", "string", "–", "tokens that it promotes or suppresses", categories=("promotes", "suppresses")),
        Column("rank", "int16", "–", "order, from 0", minimum=0),
        Column("token", "string", "–", "token, decoded"),
        Column(
            "logit", "float32", "logits per unit code", "W_U · LayerNorm scale · W_dec, centred over the vocabulary"
        ),
    ),
)

FEATURE_EXPLANATIONS = TableSchema(
    "feature_explanations",
    "one feature shown to a language model",
    ("feature",),
    (
        LAYER,
        FEATURE,
        Column("explanation", "string", "–", "what the model says that the feature detects; empty where it failed"),
        Column("complexity_llm", "int8", "1..5", "how complex the model judges that to be", nullable=True, minimum=1, maximum=5),
        Column("consistency_llm", "int8", "1..5", "how well the model finds that the active contexts fit", nullable=True, minimum=1, maximum=5),
        Column("detection_score", "float32", "–", "balanced accuracy of telling held-back active contexts from silent ones by the explanation alone; chance is 0.5; missing where not asked", nullable=True, minimum=0, maximum=1),
        Column("llm_name", "string", "–", "model that was asked"),
        Column("prompt_hash", "string", "–", "hash of model, messages and parameters, the name of the kept answer; empty where it failed"),
        Column("n_examples", "int16", "contexts", "contexts shown, silent ones counted", minimum=0),
        Column("n_held_out", "int16", "contexts", "contexts held back", minimum=0),
        Column("status", "string", "–", "whether a readable answer came", categories=("explained", "failed")),
        Column("reason", "string", "–", "why there is no explanation, or no detection score"),
    ),
)  # fmt: skip

ALL = (FEATURE_EXAMPLES, COMPLEXITY, CONTEXT_LENGTH, FEATURE_LOGITS, FEATURE_EXPLANATIONS)
