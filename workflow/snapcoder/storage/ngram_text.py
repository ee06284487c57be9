"""Text sampled from the n-gram models as one HDF5 file: the same sequences for every snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import array_sha256, canonical_json

_TYPES = {"tokens": np.uint32, "doc": np.int64, "log_prob": np.float64}


@dataclass(frozen=True)
class NgramText:
    """Sequences sampled from the unigram, the bigram and the trigram model, in this order.

    tokens, doc [order, sequence, position]: the tokens, and a number for each document, as in the token table;
    log_prob [order, sequence, position]: of each token by the model that it was sampled from, in nats.
    """

    tokens: np.ndarray
    doc: np.ndarray
    log_prob: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, in the types in which they are stored."""
        return {name: getattr(self, name).astype(dtype) for name, dtype in _TYPES.items()}


def write_ngram_text(path: str | Path, text: NgramText, provenance: Mapping[str, Any]) -> None:
    """Write sampled text atomically."""
    arrays = text.arrays()
    with atomic_path(path) as part, h5py.File(part, "w") as file:
        for name, values in arrays.items():
            data = file.create_dataset(name, data=values, compression="gzip", compression_opts=4, shuffle=True)
            data.attrs["axes"] = "order (unigram, bigram, trigram), sequence, position"
        file["log_prob"].attrs["unit"] = "nats"
        file.attrs["content_sha256"] = array_sha256(*arrays.values())
        file.attrs["provenance"] = canonical_json(provenance)


def read_ngram_text(path: str | Path) -> NgramText:
    """Read sampled text; raise ValueError when the content is not what its hash says."""
    with h5py.File(path, "r") as file:
        arrays = {name: file[name][:] for name in _TYPES}
        stored = str(file.attrs["content_sha256"])
    if array_sha256(*arrays.values()) != stored:
        raise ValueError(f"{path}: the text is not what was written (hash differs); delete the file and rerun")
    return NgramText(arrays["tokens"].astype(np.int64), arrays["doc"], arrays["log_prob"])
