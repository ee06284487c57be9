"""Cutting the cached rows into stretches of whole documents, and into runs of one document."""

from collections.abc import Iterator

import numpy as np


def segment_bounds(doc: np.ndarray, *, at_most: int) -> np.ndarray:
    """Return the bounds [segment + 1] of stretches of whole documents of about equal length.

    doc [row]: the document of each row, rows of a document next to each other. There are at most `at_most` stretches,
    and fewer when there are fewer documents.
    """
    starts = np.r_[0, np.flatnonzero(np.diff(doc)) + 1]  # where a document begins
    wanted = np.linspace(0, len(doc), at_most + 1)[1:-1]
    nearest = starts[np.abs(starts[None, :] - wanted[:, None]).argmin(axis=1)] if len(wanted) else starts[:0]
    return np.unique(np.r_[0, nearest, len(doc)])


def pieces(start: int, stop: int, bounds: np.ndarray) -> Iterator[tuple[int, slice]]:
    """Yield (segment, slice relative to `start`) for every segment that the rows start … stop reach into."""
    first = int(np.searchsorted(bounds, start, side="right")) - 1
    while start < stop and first + 1 < len(bounds) and bounds[first] < stop:
        low, high = max(start, int(bounds[first])), min(stop, int(bounds[first + 1]))
        if low < high:
            yield first, slice(low - start, high - start)
        first += 1


def document_runs(doc: np.ndarray) -> np.ndarray:
    """Return for each row the number of its run of equal documents, [row] int64 from 0."""
    return np.r_[0, np.cumsum(np.diff(doc) != 0)] if len(doc) else np.zeros(0, dtype=np.int64)
