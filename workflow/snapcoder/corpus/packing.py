"""Documents to a token table: a fixed order, a held-out split by document, and windows of equal length."""

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from snapcoder.corpus.sources import Document
from snapcoder.storage.tokens import HELDOUT, TRAIN, TokenTable

_SPLITS = {TRAIN: "train", HELDOUT: "heldout"}


def order_documents(documents: Iterable[Document], *, limit: int | None = None) -> list[Document]:
    """Return the documents interleaved by the hash of their id, the first `limit` of them.

    Raises ValueError when two documents share an id.
    """
    ordered = sorted(documents, key=lambda document: (_hash(f"order:{document.id}"), document.id))
    ids = [document.id for document in ordered]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ValueError(f"{twice}: two documents have this id; list each file once in corpus.files")
    return ordered[:limit]


def is_held_out(document: Document, share: float) -> bool:
    """Decide the split by the document's id alone, so that adding text never moves a document to the other side."""
    return _hash(f"split:{document.id}") / 2**64 < share


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def pack(
    documents: list[Document], tokenizer: Tokenizer, *, context_length: int, held_out: float, end_of_text: str
) -> tuple[TokenTable, pd.DataFrame]:
    """Return the token table and the documents table.

    Documents of one split follow each other, each ended by the end-of-text token, and are cut into windows of
    `context_length`; what is left at the end of a split is dropped. Raises ValueError when a split has no window.
    """
    end = tokenizer.token_to_id(end_of_text)
    encoded = [np.array(item.ids, dtype=np.int64) for item in tokenizer.encode_batch([d.text for d in documents])]
    split_of = [HELDOUT if is_held_out(document, held_out) else TRAIN for document in documents]
    tokens, docs, splits = [], [], []
    for split in (TRAIN, HELDOUT):
        chosen = [number for number, of in enumerate(split_of) if of == split]
        flat = [np.append(encoded[number], end) for number in chosen]
        stream = np.concatenate(flat) if flat else np.zeros(0, dtype=np.int64)
        owner = np.repeat(np.array(chosen, dtype=np.int32), [len(part) for part in flat])
        n_windows = len(stream) // context_length
        if n_windows == 0:
            raise ValueError(
                f"corpus: only {len(stream)} {_SPLITS[split]} tokens in {len(chosen)} documents, fewer than one sequence of "
                f"{context_length}; add text or change corpus.held_out"
            )
        tokens.append(stream[: n_windows * context_length].reshape(n_windows, context_length))
        docs.append(owner[: n_windows * context_length].reshape(n_windows, context_length))
        splits.append(np.full(n_windows, split, dtype=np.uint8))
    vocab_size = tokenizer.get_vocab_size(with_added_tokens=True)
    stored = np.uint16 if vocab_size <= 65_536 else np.uint32
    table = TokenTable(
        tokens=np.concatenate(tokens).astype(stored),
        doc=np.concatenate(docs).astype(np.int32),
        split=np.concatenate(splits),
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
