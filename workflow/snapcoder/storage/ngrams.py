"""The n-gram models as one HDF5 file: raw counts and discounts, from which every probability follows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from snapcoder.ngrams import KINDS, Counts, NgramModel
from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import array_sha256, canonical_json

_ORDERS = ("unigram", "bigram", "trigram")


def write_ngrams(path: str | Path, model: NgramModel, provenance: Mapping[str, Any]) -> None:
    """Write the n-gram models atomically."""
    with atomic_path(path) as part, h5py.File(part, "w") as file:
        for order in _ORDERS:
            counts: Counts = getattr(model, f"{order}_counts")
            group = file.create_group(order)
            for name, values in (("key", counts.key), ("count", counts.count)):
                group.create_dataset(
                    name, data=values.astype(np.int64), compression="gzip", compression_opts=1, shuffle=True
                )
            group["key"].attrs["meaning"] = "Σ_j token_j · vocab_size^(n−1−j), ascending"
        for kind in KINDS:
            data = file.create_dataset(f"discounts/{kind}", data=model.discounts[kind].astype(np.float64))
            data.attrs["meaning"] = "subtracted from n-grams counted once, twice, more often"
        file.attrs["vocab_size"] = model.vocab_size
        file.attrs["content_sha256"] = _content_sha256(model)
        file.attrs["provenance"] = canonical_json(provenance)


def read_ngrams(path: str | Path) -> NgramModel:
    """Read the n-gram models; raise ValueError when the content is not what its hash says."""
    with h5py.File(path, "r") as file:
        counts = {order: Counts(file[f"{order}/key"][:], file[f"{order}/count"][:]) for order in _ORDERS}
        model = NgramModel(
            vocab_size=int(file.attrs["vocab_size"]),
            unigram_counts=counts["unigram"],
            bigram_counts=counts["bigram"],
            trigram_counts=counts["trigram"],
            discounts={kind: file[f"discounts/{kind}"][:] for kind in KINDS},
        )
        stored = str(file.attrs["content_sha256"])
    if _content_sha256(model) != stored:
        raise ValueError(
            f"{path}: the n-gram counts are not those that were written (hash differs); delete the file and rerun"
        )
    return model


def _content_sha256(model: NgramModel) -> str:
    counts = [getattr(model, f"{order}_counts") for order in _ORDERS]
    arrays = [values.astype(np.int64) for each in counts for values in (each.key, each.count)]
    discounts = [model.discounts[kind].astype(np.float64) for kind in KINDS]
    return array_sha256(np.array([model.vocab_size], dtype=np.int64), *arrays, *discounts)
