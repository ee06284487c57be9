"""Tables about classes of predicted tokens: sums of one snapshot, loss curves, when each class is learnt."""

from snapcoder.storage.tables import Column, TableSchema
from snapcoder.tables.common import STEP

_FAMILY = Column("family", "string", "–", "family of classes (docs/definitions.md); its classes share no token")
_CLASS = Column("class", "string", "–", "class of the target token, by rule")
_ORDERS = {1: "unigram", 2: "bigram", 3: "trigram"}

TOKEN_CLASS_SUMS = TableSchema(
    "token_class_sums",
    "one snapshot × class × document, over the scored held-out tokens",
    ("step", "family", "class", "doc"),
    (
        STEP,
        _FAMILY,
        _CLASS,
        Column("doc", "int64", "index", "document of the tokens", minimum=0),
        Column("n", "int64", "tokens", "tokens of the class", minimum=1),
        Column("loss", "float64", "nats", "Σ −log q(token) of the model", minimum=0),
        *(Column(f"h{n}", "float64", "nats", f"Σ −log p(token) of the {name} model", minimum=0) for n, name in _ORDERS.items()),
    ),
)  # fmt: skip


def _gap(order: int) -> tuple[Column, Column, Column]:
    name = _ORDERS[order]
    return (
        Column(f"gap_h{order}", "float64", "nats/token", f"loss of the {name} model on the same tokens − loss"),
        Column(f"gap_h{order}_ci_lo", "float64", "nats/token", "2.5% bound, paired within documents", nullable=True),
        Column(f"gap_h{order}_ci_hi", "float64", "nats/token", "97.5% bound", nullable=True),
    )


TOKEN_CLASS_LOSS = TableSchema(
    "token_class_loss",
    "one snapshot × class of predicted tokens",
    ("family", "class", "step"),
    (
        STEP,
        _FAMILY,
        _CLASS,
        Column("loss", "float64", "nats/token", "mean loss of the model on the tokens of the class", minimum=0),
        Column("ci_lo", "float64", "nats/token", "2.5% bound, bootstrap over documents", nullable=True),
        Column("ci_hi", "float64", "nats/token", "97.5% bound", nullable=True),
        Column("n", "int64", "tokens", "tokens of the class", minimum=1),
        *(Column(f"h{n}", "float64", "nats/token", f"mean loss of the {name} model on the same tokens", minimum=0) for n, name in _ORDERS.items()),
        *(column for order in _ORDERS for column in _gap(order)),
    ),
)  # fmt: skip

TOKEN_CLASSES = TableSchema(
    "token_classes",
    "one class of predicted tokens",
    ("family", "class"),
    (
        _FAMILY,
        _CLASS,
        Column("n", "int64", "tokens", "tokens of the class", minimum=1),
        Column("share", "float64", "share", "of all scored tokens", minimum=0, maximum=1),
        Column("loss_first", "float64", "nats/token", "loss at the first snapshot", minimum=0),
        Column("loss_best", "float64", "nats/token", "lowest loss of all snapshots", minimum=0),
        Column("best_step", "int64", "training steps", "snapshot of the lowest loss", minimum=0),
        Column(
            "aoa_step",
            "float64",
            "training steps",
            "where the loss first comes halfway from loss_first to loss_best, linear in log step between snapshots; "
            "missing when the documents do not agree on a fall",
            nullable=True,
            minimum=0,
        ),
        Column("aoa_lo", "float64", "training steps", "2.5% bound, bootstrap over documents", nullable=True),
        Column("aoa_hi", "float64", "training steps", "97.5% bound", nullable=True),
        *(
            Column(
                f"below_h{n}_step",
                "float64",
                "training steps",
                f"first snapshot from which gap_h{n}_ci_lo stays above 0 to the end: clearly below the {name} model; "
                "missing when it is not at the end",
                nullable=True,
                minimum=0,
            )
            for n, name in _ORDERS.items()
        ),
    ),
)

TOKEN_CLASS_CONTRASTS = TableSchema(
    "token_class_contrasts",
    "one snapshot × pair of classes",
    ("contrast", "step"),
    (
        STEP,
        Column(
            "contrast",
            "string",
            "–",
            "copying, repeating: tokens that repeat against first occurrences; novelty: trigrams that training never "
            "showed against those it did; context: late positions against early ones",
            categories=("copying", "repeating", "novelty", "context"),
        ),
        Column("class_a", "string", "–", "first class"),
        Column("class_b", "string", "–", "second class, of the same family"),
        Column("value", "float64", "nats/token", "gap_h3 of class_a − gap_h3 of class_b"),
        Column("ci_lo", "float64", "nats/token", "2.5% bound, bootstrap over documents", nullable=True),
        Column("ci_hi", "float64", "nats/token", "97.5% bound", nullable=True),
    ),
)

ALL = (TOKEN_CLASS_SUMS, TOKEN_CLASS_LOSS, TOKEN_CLASSES, TOKEN_CLASS_CONTRASTS)
