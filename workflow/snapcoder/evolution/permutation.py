"""Is a feature's code related to the activations at all: permutations of the tokens within documents (SCIENCE 6.12).

Permuting tokens within documents leaves what documents as a whole share, and breaks what tokens share. Split the sum
Σ (z − z̄)(x − x̄) into a part between documents, which no such permutation changes, and the part within them, w. Under the
permutations w has mean zero, and E‖w‖² has a closed form, Σ_u SS_z,u · SS_x,u / (n_u − 1) over documents u. The statistic
is T = ‖w‖² / E‖w‖²: 1 under the null for every feature, however often and however clumped it fires. Its spread depends
on the spectrum of x, which all features share, and for rare features on how often they fire, so drawn T of a few features
stand for all features of the same decile of firing rate.

A document cut by the end of a block counts as two: a finer permutation is as valid a null.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from snapcoder.evolution.document_segments import document_runs

DECILES = 10
FEW_PER_BIN = 5  # features that a decile holds at least; tiny dictionaries get fewer, wider bins


@dataclass(frozen=True)
class RateBins:
    """Features that can be tested, binned by how often they fire, and the ones that are permuted for each bin.

    bin [feature] int, −1 for features that are not tested; sampled [sample]: features, ascending.
    """

    bin: np.ndarray
    sampled: np.ndarray


def rate_bins(count: np.ndarray, square: np.ndarray, *, min_count: int, per_bin: int) -> RateBins:
    """Bin the features by count and choose `per_bin` of each bin, evenly spaced in it.

    count, square [feature]: active rows and Σz²; the latter breaks ties, so that numbering does not matter.
    """
    tested = np.flatnonzero(count >= max(min_count, 1))
    bins = np.full(len(count), -1)
    order = tested[np.lexsort((square[tested], count[tested]))]
    sampled = []
    n_bins = min(DECILES, max(1, len(order) // FEW_PER_BIN))
    for number, members in enumerate(np.array_split(order, n_bins)):
        bins[members] = number
        if len(members):
            sampled.append(members[np.unique(np.linspace(0, len(members) - 1, per_bin).round().astype(int))])
    return RateBins(bins, np.sort(np.concatenate(sampled)) if sampled else tested)


class WithinDocuments:
    """What the code and the activations share within documents, and the same under permutations; one pass of blocks.

    between [feature, model]: Σ_u n_u z̄_u x̄_u; expected [feature]: E‖w‖² under permutations;
    drawn [draw, sample, model]: w of the sampled features under each permutation.
    """

    def __init__(
        self, n_features: int, d_model: int, *, bins: RateBins, permutations: int, generator: np.random.Generator
    ) -> None:
        self.between = np.zeros((n_features, d_model), dtype=np.float32)
        self.expected = np.zeros(n_features)
        self.drawn = np.zeros((permutations, len(bins.sampled), d_model), dtype=np.float32)
        self._place = np.full(n_features, -1)
        self._place[bins.sampled] = np.arange(len(bins.sampled))
        self._generator = generator

    def add(self, z: csr_array, x: np.ndarray, doc: np.ndarray) -> None:
        """Add a block of rows: code z [row, feature], activations x [row, model], documents [row]."""
        run = document_runs(doc)
        size = np.bincount(run)
        into = csr_array((np.ones(len(run), dtype=np.float32), np.arange(len(run)), np.r_[0, np.cumsum(size)]))
        mean = (into @ x) / size[:, None].astype(np.float32)  # [run, model]
        centred = x - mean[run]
        spread = np.bincount(run, np.einsum("bd,bd->b", centred, centred)) / np.maximum(size - 1, 1)  # SS_x / (n − 1)
        sums = into @ z  # [run, feature]
        self.between += sums.T @ mean
        n_features = len(self.expected)
        weight = np.repeat(spread[run], np.diff(z.indptr))
        self.expected += np.bincount(z.indices, z.data.astype(np.float64) ** 2 * weight, minlength=n_features)
        weight = np.repeat(spread / size, np.diff(sums.indptr))
        self.expected -= np.bincount(sums.indices, sums.data.astype(np.float64) ** 2 * weight, minlength=n_features)
        sample = self._columns(z)
        for draw in range(len(self.drawn)):
            shuffled = np.argsort(run + self._generator.random(len(run)))  # keeps every run in its place
            self.drawn[draw] += sample[shuffled].T @ centred

    def _columns(self, z: csr_array) -> csr_array:
        place = self._place[z.indices]
        keep = place >= 0
        indptr = np.r_[0, np.cumsum(keep)][z.indptr]
        return csr_array((z.data[keep], place[keep], indptr), shape=(z.shape[0], self.drawn.shape[1]))


def pooled_p(observed: np.ndarray, drawn: np.ndarray, bins: RateBins) -> np.ndarray:
    """Return p = (1 + #{drawn ≥ observed}) / (1 + n) with the draws of the feature's bin; NaN where not tested.

    observed [feature]; drawn [draw, sample]: the statistic of the sampled features under each permutation.
    """
    p = np.full(len(observed), np.nan)
    for number in np.unique(bins.bin[bins.bin >= 0]):
        members = np.flatnonzero(bins.bin == number)
        null = np.sort(drawn[:, bins.bin[bins.sampled] == number].ravel())
        null = null[~np.isnan(null)]
        at_least = len(null) - np.searchsorted(null, observed[members], side="left")
        p[members] = np.where(np.isnan(observed[members]), np.nan, (1 + at_least) / (1 + len(null)))
    return p
