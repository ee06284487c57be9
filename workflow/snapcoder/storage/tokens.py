"""The token table: the study's clockwork. Its row order is what every activation and code aligns to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import array_sha256, canonical_json

TRAIN, HELDOUT = 0, 1


@dataclass(frozen=True)
class TokenTable:
    """Sequences of tokens, packed from documents of one split.

    tokens [sequence, position] (uint16 or uint32); doc [sequence, position] int32: document of each token;
    split [sequence] uint8: TRAIN or HELDOUT.
    """

    tokens: np.ndarray
    doc: np.ndarray
    split: np.ndarray
    vocab_size: int
    end_of_text: int
    tokenizer_sha256: str

    @property
    def context_length(self) -> int:
        """Number of positions of a sequence."""
        return int(self.tokens.shape[1])

    @property
    def sha256(self) -> str:
        """Hash of the table's arrays: what caches store to prove that they saw the same tokens."""
        return array_sha256(self.tokens, self.doc, self.split)

    def sequences(self, split: int) -> np.ndarray:
        """Return the indices of the sequences of one split, in order."""
        return np.flatnonzero(self.split == split)


def write_tokens(path: str | Path, table: TokenTable, provenance: Mapping[str, Any]) -> None:
    """Write the token table as HDF5."""
    with atomic_path(path) as part, h5py.File(part, "w") as file:
        file.create_dataset("tokens", data=table.tokens, chunks=True, compression="gzip", compression_opts=4)
        file.create_dataset("doc", data=table.doc, chunks=True, compression="gzip", compression_opts=4)
        file.create_dataset("split", data=table.split)
        file["tokens"].attrs["axes"] = "sequence, position"
        file["doc"].attrs["axes"] = "sequence, position"
        file["split"].attrs["values"] = "0 train, 1 heldout"
        file.attrs["vocab_size"] = table.vocab_size
        file.attrs["end_of_text"] = table.end_of_text
        file.attrs["tokenizer_sha256"] = table.tokenizer_sha256
        file.attrs["token_table_sha256"] = table.sha256
        file.attrs["provenance"] = canonical_json(provenance)


def read_tokens(path: str | Path) -> TokenTable:
    """Read a token table; raise ValueError when its content is not what its hash says."""
    with h5py.File(path, "r") as file:
        table = TokenTable(
            tokens=file["tokens"][:],
            doc=file["doc"][:],
            split=file["split"][:],
            vocab_size=int(file.attrs["vocab_size"]),
            end_of_text=int(file.attrs["end_of_text"]),
            tokenizer_sha256=str(file.attrs["tokenizer_sha256"]),
        )
        stored = str(file.attrs["token_table_sha256"])
    if table.sha256 != stored:
        raise ValueError(
            f"{path}: the tokens are not those that were written (hash differs); delete the file and rerun"
        )
    return table
