"""The rows that make a feature fire most, in their context, and when in training it starts to fire on them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.sparse import csc_array

from snapcoder.storage.activations import RowTable
from snapcoder.storage.dictionaries import Gates
from snapcoder.storage.tokens import TokenTable

PER_BAND = 2  # examples shown of each lower band
FEATURES_AT_A_TIME = 512

BYTES_PER_ROW = 70  # row table, tokens and what finds a row by its place
BYTES_PER_ENTRY = 80  # of a chunk of codes, while it is ranked
BYTES_PER_EXAMPLE, BYTES_PER_PLACE = 1000, 100  # one row of the table, and each token that it shows


@dataclass(frozen=True)
class Chosen:
    """The examples chosen for all features.

    feature, row [example]; kind [example]: "top" or "quantile"; rank [example] within the kind; act [example]: z.
    """

    feature: np.ndarray
    row: np.ndarray
    kind: np.ndarray
    rank: np.ndarray
    act: np.ndarray


def choose_examples(z: csc_array, *, top: int, quantiles: int) -> Chosen:
    """Choose the strongest rows of every feature that fires, and the strongest of lower activation bands.

    z [row, feature] sparse, with sorted indices. Rows are ranked by z, the earlier row first among equals. The rows
    below the `top` strongest are cut at `quantiles` evenly spaced ranks; each band shows its `PER_BAND` strongest
    rows, or none where bands are too narrow to differ.
    """
    feature, row, act, start = _ranked(z)  # one entry per activation, strongest first within its feature
    count = np.diff(start)
    picked = _positions(count, top=top, quantiles=quantiles)  # [feature, slot], −1 for none
    is_top = np.arange(picked.shape[1]) < top
    order, slot = np.nonzero(picked >= 0)
    entry = start[order] + picked[order, slot]
    rank = np.where(is_top, np.arange(len(is_top)), np.arange(len(is_top)) - top)
    return Chosen(
        feature=feature[entry],
        row=row[entry],
        kind=np.where(is_top[slot], "top", "quantile"),
        rank=rank[slot],
        act=act[entry],
    )


def _ranked(z: csc_array) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    feature = np.repeat(np.arange(z.shape[1], dtype=np.uint64), np.diff(z.indptr))
    positive = z.data > 0
    feature, row, act = feature[positive], z.indices[positive], z.data[positive].astype(np.float32)
    # The bits of a positive float grow with it, so one integer orders by feature, then falling activation.
    key = (feature << np.uint64(32)) | (np.uint64(0x7FFFFFFF) - act.view(np.uint32))
    order = np.argsort(key, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(feature.astype(np.int64), minlength=z.shape[1]))])
    return feature[order].astype(np.int64), row[order], act[order], start


def _positions(count: np.ndarray, *, top: int, quantiles: int) -> np.ndarray:
    """Return which ranks are shown of features that fire `count` times, [feature, top + quantiles · PER_BAND]."""
    strongest = np.where(np.arange(top) < count[:, None], np.arange(top), -1)
    left = np.maximum(count - top, 0)[:, None]
    edges = top + left * np.arange(1, quantiles + 2) // (quantiles + 1)  # [feature, band + 1]
    lower = edges[:, :-1, None] + np.arange(PER_BAND)  # [feature, band, example]
    lower = np.where((lower < edges[:, 1:, None]) & (lower < count[:, None, None]), lower, -1)
    return np.concatenate([strongest, lower.reshape(len(count), -1)], axis=1)


def values_at(z: csc_array, feature: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return z at pairs of feature and row, 0 where nothing is stored or the row is negative.

    z [row, feature] with sorted indices; feature and row have one shape, feature ascending along the first axis.
    """
    result = np.zeros(feature.shape, dtype=np.float32)
    flat_feature, flat_row, flat = feature.ravel(), row.ravel(), result.reshape(-1)
    for first in range(0, z.shape[1], FEATURES_AT_A_TIME):
        last = min(first + FEATURES_AT_A_TIME, z.shape[1])
        inside = slice(*np.searchsorted(flat_feature, [first, last]))
        low, high = z.indptr[first], z.indptr[last]
        if high == low:
            continue
        owner = np.repeat(np.arange(last - first, dtype=np.int64), np.diff(z.indptr[first : last + 1]))
        keys = owner * z.shape[0] + z.indices[low:high]  # ascending
        wanted = (flat_feature[inside] - first) * z.shape[0] + flat_row[inside]
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found = (keys[place] == wanted) & (flat_row[inside] >= 0)
        flat[inside] = np.where(found, z.data[low:high][place], 0)
    return result


def gated_by_snapshot(chosen: Chosen, gates: Gates) -> np.ndarray:
    """Return the gated code of each example at each base snapshot, [example, snapshot].

    With gate `per_snapshot` the code is z where z · ‖decoder[s, i]‖ passes the threshold; with gate `shared` it is
    the same at every snapshot.
    """
    if gates.gate == "shared":
        return np.repeat(chosen.act[:, None], len(gates.steps), axis=1)
    norms = gates.norms.T[chosen.feature]  # [example, snapshot]
    on = chosen.act[:, None] * norms > gates.threshold[chosen.feature][:, None]
    return np.where(on, chosen.act[:, None], 0).astype(np.float32)


@dataclass(frozen=True)
class Contexts:
    """The tokens around each example.

    sequence, position [example]; offset [place]: −context … context; inside [example, place]: within the sequence.
    """

    sequence: np.ndarray
    position: np.ndarray
    offset: np.ndarray
    inside: np.ndarray


def contexts(chosen: Chosen, rows: RowTable, *, context: int, length: int) -> Contexts:
    """Return which tokens lie up to `context` before and after each example, in sequences of `length`."""
    sequence, position = rows.sequence[chosen.row], rows.position[chosen.row]
    offset = np.arange(-context, context + 1)
    place = position[:, None] + offset
    return Contexts(sequence, position, offset, (place >= 0) & (place < length))


class RowFinder:
    """Which cached row a place in a sequence is: 12 bytes per row, made once for all features."""

    def __init__(self, rows: RowTable, *, length: int) -> None:
        keys = rows.sequence.astype(np.int64) * length + rows.position
        self._order = np.argsort(keys, kind="stable").astype(np.int32)
        self._keys, self._length = keys[self._order], length

    def around(self, shown: Contexts) -> np.ndarray:
        """Return the cached row of every token around the examples, [example, place]; −1 where none was cached."""
        wanted = shown.sequence[:, None].astype(np.int64) * self._length + shown.position[:, None] + shown.offset
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(shown.inside & (self._keys[place] == wanted), self._order[place], -1)


@dataclass(frozen=True)
class Source:
    """Where examples come from, the same for all features.

    rows: of the codes; texts: text of each token id; gates: of the base snapshots; added: per added snapshot its step
    and a reader of its gated code [row, feature of a slice], over the same rows.
    """

    rows: RowTable
    tokens: TokenTable
    texts: Sequence[str]
    gates: Gates
    added: Sequence[tuple[int, Callable[[slice], csc_array]]]
    layer: int


def feature_examples(
    chunks: Iterable[tuple[int, csc_array]], source: Source, *, top: int, quantiles: int, context: int
) -> Iterator[pd.DataFrame]:
    """Yield the rows of the table `feature_examples`, features ascending, one frame per chunk.

    chunks: the first feature of each chunk of neighbours, and their shared code [row, feature of the chunk]. Tokens of
    neighbouring documents in the sequence are shown: the model saw them.
    """
    finder = RowFinder(source.rows, length=source.tokens.context_length)
    vocabulary = np.array(source.texts, dtype=object)
    for start, z in chunks:
        z = _sorted(z)
        features = slice(start, start + z.shape[1])
        chosen = choose_examples(z, top=top, quantiles=quantiles)
        shown = contexts(chosen, source.rows, context=context, length=source.tokens.context_length)
        around = finder.around(shown)
        acts = values_at(z, np.broadcast_to(chosen.feature[:, None], around.shape), around)
        place = np.clip(shown.position[:, None] + shown.offset, 0, source.tokens.context_length - 1)
        words = vocabulary[source.tokens.tokens[shown.sequence[:, None], place]]
        own = [values_at(_sorted(read(features)), chosen.feature, chosen.row)[:, None] for _, read in source.added]
        named = replace(chosen, feature=chosen.feature + start)
        by_snapshot = np.concatenate([gated_by_snapshot(named, source.gates), *own], axis=1)
        in_order = np.argsort([*source.gates.steps, *(step for step, _ in source.added)], kind="stable")
        yield pd.DataFrame(
            {
                "layer": source.layer,
                "feature": named.feature,
                "kind": chosen.kind,
                "rank": chosen.rank,
                "doc": source.rows.doc[chosen.row],
                "sequence": shown.sequence,
                "position": shown.position,
                "act": chosen.act,
                "tokens": _lists(words, shown.inside),
                "acts": _lists(acts, shown.inside),
                "focus": np.minimum(shown.position, context),
                "act_by_snapshot": pd.Series(list(by_snapshot[:, in_order]), dtype=object),
            }
        )


def bytes_per_feature(*, top: int, quantiles: int, context: int) -> int:
    """Return about how much memory the examples of one feature take."""
    return (top + quantiles * PER_BAND) * (BYTES_PER_EXAMPLE + BYTES_PER_PLACE * (2 * context + 1))


def _sorted(z: csc_array) -> csc_array:
    return z if z.has_sorted_indices else z.sorted_indices()


def _lists(values: np.ndarray, inside: np.ndarray) -> pd.Series:
    """Split a padded [example, place] array into one array per example, of its entries inside."""
    flat, bounds = values[inside], np.cumsum([0, *inside.sum(axis=1)]).tolist()
    return pd.Series([flat[first:last] for first, last in pairwise(bounds)], dtype=object)
