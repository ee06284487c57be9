"""The sparse code of all cached rows, written once: what extension and analysis read instead of re-encoding.

Only entries that are on at some snapshot are kept; because gates are nested by decoder norm (or shared), this one
list with the norms and thresholds reproduces every snapshot's activations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.sparse import csc_array, csr_array

from snapcoder.storage.activations import RowTable
from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import array_sha256, canonical_json


@dataclass(frozen=True)
class Codes:
    """Shared pre-activations z of the rows, sparse.

    z: csr_array [row, feature] float32; rows: which token each row is.
    """

    z: csr_array
    rows: RowTable

    def by_feature(self) -> csc_array:
        """Return the same entries with one column per feature, for per-feature statistics."""
        return self.z.tocsc()


def write_codes(path: str | Path, codes: Codes, provenance: Mapping[str, Any]) -> None:
    """Write the codes as CSR arrays in HDF5."""
    with atomic_path(path) as part, h5py.File(part, "w") as file:
        arrays = {
            "indptr": codes.z.indptr.astype(np.int64),
            "feature": codes.z.indices.astype(np.int32),
            "z": codes.z.data.astype(np.float32),
        }
        for name, values in arrays.items():
            file.create_dataset(name, data=values, chunks=True, compression="gzip", compression_opts=1, shuffle=True)
        for name in ("sequence", "position", "token", "doc", "split"):
            file.create_dataset(f"row/{name}", data=getattr(codes.rows, name), compression="gzip", compression_opts=4)
        file.attrs["n_features"] = codes.z.shape[1]
        file.attrs["content_sha256"] = array_sha256(*arrays.values())
        file.attrs["provenance"] = canonical_json(provenance)


def read_codes(path: str | Path) -> Codes:
    """Read the codes; raise ValueError when the content is not what its hash says."""
    with h5py.File(path, "r") as file:
        indptr, feature, z = (file[name][:] for name in ("indptr", "feature", "z"))
        rows = RowTable(**{name: file[f"row/{name}"][:] for name in ("sequence", "position", "token", "doc", "split")})
        n_features, stored = int(file.attrs["n_features"]), str(file.attrs["content_sha256"])
    if array_sha256(indptr, feature, z) != stored:
        raise ValueError(f"{path}: the codes are not those that were written (hash differs); delete the file and rerun")
    return Codes(z=csr_array((z, feature, indptr), shape=(len(rows), n_features)), rows=rows)
