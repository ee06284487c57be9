"""The study's tokenizer: a byte-level BPE trained on the training documents, or one that is given."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, end_of_text: str) -> Tokenizer:
    """Train a byte-level BPE; the end-of-text token gets id 0.

    Every byte is in the vocabulary, so every text can be encoded and decoded exactly.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[end_of_text],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(path: Path, *, end_of_text: str) -> Tokenizer:
    """Load a tokenizer.json; raises ValueError when it is not one or lacks the end-of-text token."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: not a tokenizer.json ({reason}); correct corpus.tokenizer.path") from error
    if tokenizer.token_to_id(end_of_text) is None:
        raise ValueError(f"{path}: has no token {end_of_text!r}; set corpus.tokenizer.end_of_text")
    tokenizer.no_truncation()  # documents are cut into windows here, not by the tokenizer
    tokenizer.no_padding()
    return tokenizer


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Return the number of rows that an embedding needs: one more than the largest id (a vocabulary may have gaps)."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
