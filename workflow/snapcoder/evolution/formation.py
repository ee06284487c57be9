"""How far features have formed in one snapshot's activations: no decoder, no norm, only the activations of chosen rows.

Activations are centred on the mean of the training rows and scaled to length 1. A feature's similarity is the mean cosine
between its strongest rows in one half of the documents and those in the other,

    similarity_i = ū_A · ū_B,        ū_H: mean unit activation of the feature's rows in half H,

which estimates the squared length of the common direction without bias from pairing a row with itself or with its own
document. Two controls go through the same formula: `random`, other rows of the same halves (SAE-Track, arXiv 2412.17626,
subtracts these), and `matched`, other rows with the same tokens. `formation` = similarity − matched: what the rows share
beyond their tokens, which a model tells apart before any training.

Exchanging a row with its matched control changes the statistic linearly: with u the row, c the control, n rows in its half,

    formation = Σ_rows (u − c)·(ū_other + c̄_other) / 2n,

and exchanging flips the sign of that row's term. So p comes from random signs per document, one product for all features.
Row vectors are never held: one pass over the cache sums them per feature, a second takes the products.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.evolution.formation_rows import Partners
from snapcoder.evolution.multiplicity import benjamini_hochberg
from snapcoder.evolution.row_sums import RowSums
from snapcoder.evolution.selection import StrongestAlong

FEW = 5  # rows per half below which nothing is said
CHUNK_FEATURES = 4096
NORMAL = 1.959964
COLUMNS = ["feature", "similarity", "random", "matched", "formation", "ci_lo", "ci_hi", "p", "q", "selection_median",
           "selection_p95", "n_rows", "n_docs"]  # fmt: skip
Blocks = Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True)
class Chosen:
    """The strongest rows of all features, one entry each: feature (dense, 0 … F−1), half, row, doc, all [entry]."""

    n_features: int
    feature: np.ndarray
    half: np.ndarray
    row: np.ndarray
    doc: np.ndarray

    @property
    def group(self) -> np.ndarray:
        """Feature and half as one number, [entry]."""
        return self.feature * 2 + self.half

    def sizes(self) -> np.ndarray:
        """Return the number of rows, [feature, half]."""
        return np.bincount(self.group, minlength=2 * self.n_features).reshape(-1, 2)


def formation(
    table: pd.DataFrame,
    controls: Partners,
    blocks: Blocks,
    *,
    mean: np.ndarray,
    permutations: int,
    directions: int,
    seed: int,
) -> pd.DataFrame:
    """Return the rows of the table formation at one snapshot, without layer and step.

    table: formation_rows; blocks(): the snapshot's raw activations in row order, float32 [n, model], read twice;
    mean [model]: their mean over train rows. Random `directions` show what choosing the strongest rows along any
    direction gives: `selection_median` and `selection_p95` are of their formation.
    """
    if table.empty:
        return pd.DataFrame(columns=COLUMNS)
    features, dense = np.unique(table["feature"].to_numpy(), return_inverse=True)
    chosen = Chosen(
        len(features), np.ravel(dense), *(table[name].to_numpy(np.int64) for name in ("half", "row", "doc"))
    )
    rows = {"active": chosen.row, "random": controls.any_row[chosen.row], "matched": controls.same_token[chosen.row]}
    shape = {"n_groups": 2 * len(features), "n_rows": len(controls.half), "d_model": len(mean)}
    sums = {kind: RowSums(row, chosen.group, **shape) for kind, row in rows.items()}
    strongest = StrongestAlong(controls, len(mean), directions=directions, top=int(table["rank"].max()) + 1, seed=seed)
    for start, x, unit in _units(blocks, mean):
        for total in sums.values():
            total.add(start, unit)
        strongest.look(start, x)
    sizes = np.maximum(chosen.sizes(), 1).reshape(-1, 1)
    means = {kind: total.sum / sizes for kind, total in sums.items()}  # [feature and half, model]
    products, along = Products(rows, chosen.group, means), strongest.sums()
    for start, _, unit in _units(blocks, mean):
        products.add(start, unit)
        for total in along:
            total.add(start, unit)
    result = _summary(chosen, means, products.values, permutations=permutations, seed=seed)
    floor = strongest.formation(*along)
    floor = floor[~np.isnan(floor)]
    bounds = np.quantile(floor, [0.5, 0.95]) if len(floor) else (np.nan, np.nan)
    return result.assign(feature=features, selection_median=bounds[0], selection_p95=bounds[1])[COLUMNS]


def _units(blocks: Blocks, mean: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the first row, the centred activations and the unit vectors of each block; a zero vector stays zero."""
    start = 0
    for block in blocks():
        x = block - mean.astype(np.float32)
        length = np.linalg.norm(x, axis=1, keepdims=True)
        yield start, x, np.divide(x, length, out=np.zeros_like(x), where=length > 0)
        start += len(block)


class Products:
    """Products of each row with the mean directions of its feature in the other half, gathered block by block.

    values[kind, of] [entry]: the row of `kind` times the mean of the rows `of`.
    """

    _PAIRS = (("active", "active"), ("active", "matched"), ("matched", "active"), ("matched", "matched"))

    def __init__(self, partner: dict[str, np.ndarray], group: np.ndarray, means: dict[str, np.ndarray]) -> None:
        self._other, self._means = group ^ 1, means
        self._order = {kind: np.argsort(partner[kind], kind="stable") for kind in ("active", "matched")}
        self._sorted = {kind: partner[kind][order] for kind, order in self._order.items()}
        self.values = {pair: np.empty(len(group)) for pair in self._PAIRS}

    def add(self, start: int, unit: np.ndarray) -> None:
        """Take the products of the rows of one block, unit [n, model], that begins at row `start`."""
        for kind, ordered in self._sorted.items():
            first, last = np.searchsorted(ordered, [start, start + len(unit)])
            entry = self._order[kind][first:last]
            vectors = unit[ordered[first:last] - start]
            for of in ("active", "matched"):
                self.values[kind, of][entry] = np.einsum("ed,ed->e", vectors, self._means[of][self._other[entry]])


def _summary(
    chosen: Chosen,
    means: dict[str, np.ndarray],
    products: dict[tuple[str, str], np.ndarray],
    *,
    permutations: int,
    seed: int,
) -> pd.DataFrame:
    similarity = {
        kind: np.einsum("fd,fd->f", mean[0::2], mean[1::2]).astype(np.float64) for kind, mean in means.items()
    }
    sizes = chosen.sizes()
    share = 1.0 / sizes.ravel()[chosen.group]  # of each entry in its half
    influence = share * (products["active", "active"] - products["matched", "matched"])
    cross = products["active", "matched"] - products["matched", "active"]
    term = (influence + share * cross) / 2  # of formation, each entry's, sign-flipped by an exchange
    _, cluster, feature_of = _documents(chosen)
    scored = (sizes >= FEW).all(axis=1)
    formed = similarity["active"] - similarity["matched"]
    error = _standard_error(chosen, influence, cluster, feature_of)
    p = _exchange_p(np.bincount(cluster, term), feature_of, chosen.n_features, permutations, seed)
    columns = {
        **similarity,
        "formation": formed,
        "ci_lo": formed - NORMAL * error,
        "ci_hi": formed + NORMAL * error,
        "p": p,
    }
    table = pd.DataFrame({name: np.where(scored, values, np.nan) for name, values in columns.items()})
    table = table.rename(columns={"active": "similarity"})
    table["q"] = benjamini_hochberg(table["p"].to_numpy())
    table["n_rows"], table["n_docs"] = sizes.sum(axis=1), np.bincount(feature_of, minlength=chosen.n_features)
    return table


def _documents(chosen: Chosen) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct (feature, document) pairs, which one each entry is in, and the feature of each pair."""
    key = chosen.feature * (int(chosen.doc.max()) + 1) + chosen.doc
    distinct, first, cluster = np.unique(key, return_index=True, return_inverse=True)
    return distinct, np.ravel(cluster), chosen.feature[first]


def _standard_error(chosen: Chosen, influence: np.ndarray, cluster: np.ndarray, feature_of: np.ndarray) -> np.ndarray:
    """Return the standard error of formation, clustered by document, [feature]; NaN with one document in a half.

    influence [entry]: share of each row in formation, to first order; the halves are independent samples. What varies
    from pair to pair alone counts in both halves: near zero the error is too large by up to √2, never too small.
    """
    group, sizes = chosen.group, chosen.sizes().ravel()
    average = np.bincount(group, influence, minlength=len(sizes)) / np.maximum(sizes, 1)
    total = np.bincount(cluster, influence - average[group])  # [document of feature]
    half = np.zeros(len(total), dtype=np.int64)
    half[cluster] = chosen.half  # a document lies in one half
    of_group = feature_of * 2 + half
    square = np.bincount(of_group, total**2, minlength=len(sizes))
    n = np.bincount(of_group, minlength=len(sizes)).astype(np.float64)
    variance = np.divide(square * n, n - 1, out=np.full(len(sizes), np.nan), where=n > 1)
    return np.sqrt(variance.reshape(-1, 2).sum(axis=1))


def _exchange_p(terms: np.ndarray, feature_of: np.ndarray, n_features: int, permutations: int, seed: int) -> np.ndarray:
    """Return the one-sided p of Σ terms under random signs, [feature]; terms [document of feature], ordered by feature."""
    starts = np.searchsorted(feature_of, np.arange(n_features + 1))
    widest = int(np.diff(starts).max())
    signs = np.random.default_rng(seed).integers(0, 2, size=(widest, permutations)).astype(np.float32) * 2 - 1
    p = np.empty(n_features)
    for first in range(0, n_features, CHUNK_FEATURES):
        last = min(first + CHUNK_FEATURES, n_features)
        here = slice(starts[first], starts[last])
        padded = np.zeros((last - first, widest), dtype=np.float32)
        padded[feature_of[here] - first, np.arange(here.start, here.stop) - starts[feature_of[here]]] = terms[here]
        observed = padded.sum(axis=1, keepdims=True)
        exceed = (padded @ signs >= observed - 1e-6 * np.abs(padded).sum(axis=1, keepdims=True)).sum(axis=1)
        p[first:last] = (1 + exceed) / (1 + permutations)
    return p
