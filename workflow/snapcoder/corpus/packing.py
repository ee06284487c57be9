"""Documents to a token table: a fixed order, a held-out split by document, and windows of equal length."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from snapcoder.corpus.sources import Document
from snapcoder.corpus.tokenizer import vocabulary_size
from snapcoder.storage.tokens import HELDOUT, TRAIN, TokenTable

_SPLITS = {TRAIN: "train", HELDOUT: "heldout"}
_CHARACTERS_AT_ONCE = 1 << 22  # the tokenizer keeps about a hundred bytes per token while it works


def order_documents(documents: Iterable[Document], *, limit: int | None = None) -> list[Document]:
    """Return the documents interleaved by the hash of their id, the first `limit` of them.

    Raises ValueError when two documents share an id, and when there are none.
    """
    ordered = sorted(documents, key=lambda document: (_hash(f"order:{document.id}"), document.id))
    if not ordered:
        raise ValueError("corpus: no document holds any text; check corpus.files and corpus.packages")
    name, count = Counter(document.id for document in ordered).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{name}: two documents have this id; list each file once in corpus.files")
    return ordered[:limit]


def is_held_out(document: Document, share: float) -> bool:
    """Decide the split by the document's id alone, so that adding text never moves a document to the other side."""
    return _hash(f"split:{document.id}") / 2**64 < share


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def pack(
    documents: Sequence[Document], tokenizer: Tokenizer, *, context_length: int, held_out: float, end_of_text: str
) -> tuple[TokenTable, pd.DataFrame]:
    """Return the token table and the documents table (`tables.corpus.DOCUMENTS`).

    Documents of one split follow each other, each ended by the end-of-text token, and are cut into windows of
    `context_length`; what is left at the end of a split is dropped. Train windows come first. Raises ValueError when a
    split has no window.
    """
    end = tokenizer.token_to_id(end_of_text)
    if end is None:
        raise ValueError(f"the tokenizer has no token {end_of_text!r}; set corpus.tokenizer.end_of_text")
    encoded = list(_encode(documents, tokenizer))  # per document [token], without the end
    split_of = [HELDOUT if is_held_out(document, held_out) else TRAIN for document in documents]
    windows = {split: _windows(encoded, split_of, split, end, context_length) for split in (TRAIN, HELDOUT)}
    vocab_size = vocabulary_size(tokenizer)
    stored = np.uint16 if vocab_size <= 65_536 else np.uint32
    table = TokenTable(
        tokens=np.concatenate([tokens for tokens, _ in windows.values()]).astype(stored),
        doc=np.concatenate([doc for _, doc in windows.values()]),
        split=np.concatenate([np.full(len(doc), split, dtype=np.uint8) for split, (_, doc) in windows.items()]),
        vocab_size=vocab_size,
        end_of_text=end,
        tokenizer_sha256=hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
    )
    frame = pd.DataFrame(
        {
            "doc": np.arange(len(documents)),
            "id": [document.id for document in documents],
            "source": [document.source for document in documents],
            "split": [_SPLITS[split] for split in split_of],
            "n_characters": [len(document.text) for document in documents],
            "n_tokens": [len(ids) for ids in encoded],
            "sha256": [document.sha256 for document in documents],
        }
    )
    return table, frame


def _encode(documents: Sequence[Document], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    # A document that writes out "<|endoftext|>" must not end itself, and no template adds its own special tokens.
    tokenizer.encode_special_tokens = True
    start = 0
    while start < len(documents):
        stop, characters = start, 0
        while stop < len(documents) and characters < _CHARACTERS_AT_ONCE:
            characters += len(documents[stop].text)
            stop += 1
        texts = [document.text for document in documents[start:stop]]
        for item in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            yield np.array(item.ids, dtype=np.uint32)
        start = stop


def _windows(
    encoded: Sequence[np.ndarray], split_of: Sequence[int], split: int, end: int, context_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (tokens, doc), both [sequence, position], of one split."""
    chosen = [number for number, of in enumerate(split_of) if of == split]
    parts = [np.append(encoded[number], np.uint32(end)) for number in chosen]
    lengths = [len(part) for part in parts]
    n_windows = sum(lengths) // context_length
    if n_windows == 0:
        raise ValueError(
            f"corpus: only {sum(lengths)} {_SPLITS[split]} tokens in {len(chosen)} documents, fewer than one sequence of "
            f"{context_length}; add text or change corpus.held_out"
        )
    kept = n_windows * context_length
    tokens = np.concatenate(parts)[:kept].reshape(n_windows, context_length)
    doc = np.repeat(np.array(chosen, dtype=np.int32), lengths)[:kept].reshape(n_windows, context_length)
    return tokens, doc
