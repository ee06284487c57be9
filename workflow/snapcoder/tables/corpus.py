"""Tables about the text: its documents and the entropies of its n-gram models."""

from snapcoder.storage.tables import Column, TableSchema

DOCUMENTS = TableSchema(
    "documents",
    "one document of the corpus",
    ("doc",),
    (
        Column("doc", "int32", "index", "document number; the order of the corpus", minimum=0),
        Column("id", "string", "–", "stable name: source and place in it"),
        Column("source", "string", "–", "package or file that the text comes from"),
        Column("split", "string", "–", "held-out documents are never trained on", categories=("train", "heldout")),
        Column("n_characters", "int64", "characters", "length of the text", minimum=1),
        Column("n_tokens", "int64", "tokens", "length in tokens, without the end-of-text token", minimum=0),
        Column("sha256", "string", "–", "hash of the text"),
    ),
)

NGRAM_ENTROPY = TableSchema(
    "ngram_entropy",
    "one n-gram model × smoothing",
    ("order", "smoothing"),
    (
        Column("order", "int8", "tokens", "n: 1 unigram, 2 bigram, 3 trigram", minimum=1),
        Column(
            "smoothing",
            "string",
            "–",
            "how counts become probabilities: kneser_ney (interpolated, modified) is what everything is measured against; "
            "the others show whether that matters (docs/definitions.md)",
            categories=("kneser_ney", "jelinek_mercer", "add_k"),
        ),
        Column(
            "cross_entropy",
            "float64",
            "nats/token",
            "of the smoothed model (counts from train) on held-out text",
            minimum=0,
        ),
        Column("ci_lo", "float64", "nats/token", "2.5% bound, bootstrap over held-out documents", minimum=0),
        Column("ci_hi", "float64", "nats/token", "97.5% bound, bootstrap over held-out documents", minimum=0),
        Column(
            "train_entropy",
            "float64",
            "nats/token",
            "in-sample conditional entropy of the raw counts (biased low)",
            minimum=0,
        ),
        Column("n_tokens", "int64", "tokens", "held-out tokens predicted", minimum=1),
        Column("n_distinct", "int64", "n-grams", "distinct n-grams counted in train", minimum=1),
        Column(
            "interpolation",
            "float64",
            "–",
            "mean weight of this order's own counts against lower orders (add_k: against added counts), fitted on a part of train",
            minimum=0,
            maximum=1,
        ),
    ),
)

ALL = (DOCUMENTS, NGRAM_ENTROPY)
