"""The entries (token, feature) of a batch that may be on, listed by token and by feature, on a CPU."""

from dataclasses import dataclass

import numpy as np

from snapcoder.crosscoder import entry_kernels as kernels


@dataclass(frozen=True)
class Entries:
    """Candidates for being on, by token: indptr [token + 1] int64, feature [entry] int32, value [entry] their z."""

    indptr: np.ndarray
    feature: np.ndarray
    value: np.ndarray

    def by_feature(self, n_features: int) -> "EntriesByFeature":
        """Return the same entries by feature."""
        pointer, n = np.zeros(n_features + 1, dtype=np.int64), len(self.feature)
        listed = EntriesByFeature(pointer, np.empty(n, np.int32), np.empty(n, np.int32), np.empty_like(self.value))
        kernels.list_by_feature(
            self.indptr, self.feature, self.value, pointer, listed.token, listed.entry, listed.value
        )  # fmt: skip
        return listed


@dataclass(frozen=True)
class EntriesByFeature:
    """Entries by feature: pointer [feature + 1], each entry's token and z, and its place in the list by token."""

    pointer: np.ndarray
    token: np.ndarray
    entry: np.ndarray
    value: np.ndarray

    def sums(self, d_code: np.ndarray, felt: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return d_code [entry, by token] in the order of this list, and its sums and those of felt, [feature]."""
        n_features, gradient = len(self.pointer) - 1, np.empty_like(d_code)
        d_bias, d_theta = np.empty(n_features, d_code.dtype), np.empty(n_features, d_code.dtype)
        kernels.sum_by_feature(self.pointer, self.entry, d_code, felt, gradient, d_bias, d_theta)
        return gradient, d_bias, d_theta

    def busy_and_idle(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the features that have entries, and those that have none."""
        counts = np.diff(self.pointer)
        return np.flatnonzero(counts), np.flatnonzero(counts == 0)


def select(z: np.ndarray, largest: np.ndarray, low: np.ndarray) -> Entries:
    """Return the entries of z [token, feature] with z · largest > low; largest and low are [feature]."""
    counts = np.empty((len(z), -(-z.shape[1] // kernels.SPAN)), dtype=np.uint8)
    kernels.count_entries(z, largest, low, counts)
    indptr = np.concatenate([[0], np.cumsum(counts.sum(axis=1, dtype=np.int64))])
    feature, value = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], z.dtype)
    kernels.fill_entries(z, largest, low, counts, indptr, feature, value)
    return Entries(indptr, feature, value)


def candidate_scores(z: np.ndarray, norms: np.ndarray, floor: float) -> np.ndarray:
    """Return z · norm at every gate [entry, gate] of the entries that exceed `floor` at one; norms [gate, feature]."""
    entries = select(np.ascontiguousarray(z), norms.max(axis=0), np.full(z.shape[1], floor, z.dtype))
    scores = np.empty((len(entries.feature), len(norms)), z.dtype)
    kernels.score_entries(entries.feature, entries.value, np.ascontiguousarray(norms.T), scores)
    return scores
