"""Everything that one snapshot's activations say about the presence of each feature, beside its decoder norm.

Two passes over the rows, each over half of the documents (every second stretch of them): the first fits directions,
the second measures along them, so that nothing is tested on what chose it. Sums over all rows are complete after both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from snapcoder.evolution.document_segments import pieces, segment_bounds
from snapcoder.evolution.latent_scaling import CodeSums, DirectionSums, Slope, scaling_slopes, unit
from snapcoder.evolution.multiplicity import benjamini_hochberg
from snapcoder.evolution.permutation import RateBins, WithinDocuments, pooled_p, rate_bins
from snapcoder.evolution.probe import Auroc, ProbeScores, discriminants
from snapcoder.study.presence import PresenceSettings

_COVARIANCE_ROWS = 50  # rows per dimension behind the covariance; more would not change it, and cost d² each


@dataclass(frozen=True)
class Side:
    """One snapshot's share of the dictionary.

    decoder, reference [feature, model]: here and at the base snapshot of the largest norm; bias [model];
    encoder [model, feature]; threshold [feature] on z·norm; shared_gate: every entry of the code is on at every snapshot.
    """

    decoder: np.ndarray
    bias: np.ndarray
    encoder: np.ndarray
    threshold: np.ndarray
    reference: np.ndarray
    shared_gate: bool

    def gated(self, z: csr_array) -> csr_array:
        """Return the entries of the shared code that are on at this snapshot."""
        if self.shared_gate:
            return z
        norm = np.linalg.norm(self.decoder, axis=1).astype(np.float32)
        keep = z.data * norm[z.indices] > self.threshold[z.indices]
        return csr_array((z.data[keep], z.indices[keep], np.r_[0, np.cumsum(keep)][z.indptr]), shape=z.shape)


@dataclass(frozen=True)
class Block:
    """Consecutive rows: shared code z, the snapshot's own gated code (None: the gate of the side applied to z), x."""

    z: csr_array
    own: csr_array | None
    x: np.ndarray


Blocks = Callable[[], Iterator[Block]]
Codes = Callable[[], Iterator[csr_array]]


def measure_presence(
    side: Side, *, codes: Codes, blocks: Blocks, doc: np.ndarray, settings: PresenceSettings, stream: int
) -> pd.DataFrame:
    """Return one row per feature with all evidence at one snapshot.

    codes(): the shared code in blocks of rows; blocks(): the same rows with normalised activations; doc [row]; stream:
    number of the random stream, different for every snapshot. Memory: a block, and a few arrays [feature, model].
    """
    n_features, d_model = side.decoder.shape
    bounds = segment_bounds(doc, at_most=settings.segments)
    sums = CodeSums(len(bounds) - 1, n_features, d_model)
    start = 0
    for z in codes():
        for segment, part in pieces(start, start + z.shape[0], bounds):
            sums.add_code(segment, z[part])
        start += z.shape[0]
    if start != len(doc):
        raise ValueError(f"{start} rows of codes for {len(doc)} rows of activations; rerun the step codes")
    bins = rate_bins(
        sums.count.sum(axis=0),
        sums.zz.sum(axis=0),
        min_count=settings.min_positives,
        per_bin=settings.null_features,
    )
    generator = np.random.default_rng([settings.seed, stream])
    within = WithinDocuments(n_features, d_model, bins=bins, permutations=settings.permutations, generator=generator)
    passes = _Passes(side, sums, within, bounds, doc)
    fit = passes.run(blocks, half=0, along={"reference": unit(side.reference), "own": unit(side.decoder)}, probe=None)
    free_error, free_rest = _free_directions(fit, sums, side.decoder)
    probe = _probe(fit, sums, bounds, settings)
    test = passes.run(
        blocks,
        half=1,
        along={"reference": unit(side.reference), "own": unit(side.decoder), "error": free_error, "rest": free_rest},
        probe=probe,
    )
    columns = {"feature": np.arange(n_features), "n_active": sums.count.sum(axis=0).astype(np.int64)}
    columns |= _regression(fit, test, sums, within, bins, side)
    columns |= _probe_columns(probe, sums, settings)
    columns |= _scaling_columns(fit, test, sums, side, settings)
    return pd.DataFrame(columns)


@dataclass
class _Half:
    """Sums over the rows of one half: Σ z x, Σ z x̂, Σ 1[active] x [feature, model]; Σ ‖x‖²; Σ x, Σ x xᵀ of every so-manieth."""

    zx: np.ndarray
    zxhat: np.ndarray
    active_x: np.ndarray | None
    square: float
    thinned_rows: int
    thinned_x: np.ndarray
    thinned_xx: np.ndarray
    along: dict[str, DirectionSums]

    def covariance(self) -> np.ndarray:
        """Covariance of the activations [model, model]."""
        mean = self.thinned_x / max(self.thinned_rows, 1)
        return self.thinned_xx / max(self.thinned_rows, 1) - np.outer(mean, mean)


class _Passes:
    """Runs over the rows of one half of the segments and adds them up."""

    def __init__(
        self, side: Side, sums: CodeSums, within: WithinDocuments, bounds: np.ndarray, doc: np.ndarray
    ) -> None:
        self._side, self._sums, self._within, self._bounds, self._doc = side, sums, within, bounds, doc
        self._every = max(1, len(doc) // (_COVARIANCE_ROWS * side.decoder.shape[1]))

    def run(self, blocks: Blocks, *, half: int, along: dict[str, np.ndarray], probe: ProbeScores | None) -> _Half:
        n_features, d = self._side.decoder.shape
        n_segments = len(self._bounds) - 1
        zx, zxhat = (np.zeros((n_features, d), dtype=np.float32) for _ in range(2))
        total = _Half(
            zx, zxhat, np.zeros_like(zx) if probe is None else None, 0.0, 0, np.zeros(d), np.zeros((d, d)),
            {name: DirectionSums(direction, n_segments) for name, direction in along.items()},
        )  # fmt: skip
        start = 0
        for block in blocks():
            for segment, part in pieces(start, start + len(block.x), self._bounds):
                if segment % 2 == half:
                    own = None if block.own is None else block.own[part]
                    self._add(total, segment, block.z[part], own, block.x[part], start + part.start, probe)
            start += len(block.x)
        if start != len(self._doc):
            raise ValueError(f"{start} activations for {len(self._doc)} rows of the codes; rerun the step codes")
        return total

    def _add(
        self,
        total: _Half,
        segment: int,
        z: csr_array,
        own: csr_array | None,
        x: np.ndarray,
        start: int,
        probe: ProbeScores | None,
    ) -> None:
        f = self._side.gated(z) if own is None else own
        xhat = f @ self._side.decoder + self._side.bias
        self._sums.add_snapshot(segment, z, f, x, xhat)
        zx, zxhat = z.T @ x, z.T @ xhat
        total.zx += zx
        total.zxhat += zxhat
        for direction in total.along.values():
            direction.add(segment, zx, zxhat)
        if total.active_x is not None:
            total.active_x += csr_array((np.ones_like(z.data), z.indices, z.indptr), shape=z.shape).T @ x
        if probe is not None:
            probe.add(z, x, start)
        total.square += float(np.einsum("bd,bd->", x, x, dtype=np.float64))
        thinned = x[-start % self._every :: self._every]
        total.thinned_rows += len(thinned)
        total.thinned_x += thinned.sum(axis=0, dtype=np.float64)
        total.thinned_xx += thinned.T @ thinned
        self._within.add(z, x, self._doc[start : start + len(x)])


def _free_directions(fit: _Half, sums: CodeSums, decoder: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit directions of cov(z, y) on the first half, for the error and for the rest, [feature, model]."""
    fitted = np.arange(0, len(sums.n), 2)
    n, z, f = max(sums.n[fitted].sum(), 1.0), sums.z[fitted].sum(axis=0), sums.f[fitted].sum(axis=0)
    own = (sums.zf[fitted].sum(axis=0) - z * f / n)[:, None] * decoder
    of_x = fit.zx - np.outer(z, sums.x[fitted].sum(axis=0) / n)
    of_xhat = fit.zxhat - np.outer(z, sums.xhat[fitted].sum(axis=0) / n)
    return unit((of_x - of_xhat + own).astype(np.float32)), unit((of_xhat - own).astype(np.float32))


def _probe(fit: _Half, sums: CodeSums, bounds: np.ndarray, settings: PresenceSettings) -> ProbeScores:
    fitted = np.arange(0, len(sums.n), 2)
    held = np.arange(1, len(sums.n), 2)
    count = sums.count[fitted].sum(axis=0)
    overall = sums.x[fitted].sum(axis=0) / max(sums.n[fitted].sum(), 1.0)
    assert fit.active_x is not None
    mean = np.divide(fit.active_x, count[:, None], out=np.zeros_like(fit.active_x), where=count[:, None] > 0)
    difference = np.where(count[:, None] > 0, mean - overall, 0.0)
    direction = discriminants(difference, fit.covariance(), ridge=settings.probe_ridge)
    rows = np.concatenate([np.arange(bounds[s], bounds[s + 1]) for s in held]) if len(held) else np.zeros(0, int)
    wanted = min(settings.probe_negatives, len(rows))
    pool = rows[np.unique(np.linspace(0, len(rows) - 1, wanted).astype(int))] if len(rows) else rows
    return ProbeScores(
        direction, sums.count[held].sum(axis=0).astype(np.int64), pool, n_positives=settings.probe_positives
    )


def _regression(
    fit: _Half, test: _Half, sums: CodeSums, within: WithinDocuments, bins: RateBins, side: Side
) -> dict[str, np.ndarray]:
    n, z, zz = max(sums.n.sum(), 1.0), sums.z.sum(axis=0), sums.zz.sum(axis=0)
    product = fit.zx + test.zx
    center = sums.x.sum(axis=0) / n
    total = (fit.square + test.square) / n - float(center @ center)
    covariance = (product - np.outer(z, center)) / n  # cov(z, x) [feature, model]
    inside = (product - within.between) / n  # the part within documents
    outside = covariance - inside
    rows = max(fit.thinned_rows + test.thinned_rows, 1)
    mean = (fit.thinned_x + test.thinned_x) / rows
    spectrum = (fit.thinned_xx + test.thinned_xx) / rows - np.outer(mean, mean)
    variance = np.maximum(zz / n - (z / n) ** 2, 0.0)
    expected = within.expected / n**2
    bound = variance * total
    r2 = _ratio(_square(covariance), bound)
    null = _ratio(_square(outside) + expected, bound)
    p = pooled_p(_ratio(_square(inside), expected), _ratio(_square(within.drawn / n), expected[bins.sampled]), bins)
    # The snapshot's own term of the encoder, u = x · encoder: var u, and the share of E‖w‖² that falls along it.
    variance_u = np.einsum("df,df->f", side.encoder, spectrum @ side.encoder)
    scale = np.sqrt(np.maximum(expected * variance_u / max(float(np.trace(spectrum)), np.finfo(float).tiny), 0.0))
    along = np.einsum("fd,df->f", inside, side.encoder)
    drawn = np.einsum("psd,ds->ps", within.drawn / n, side.encoder[:, bins.sampled])
    single = _ratio(np.einsum("fd,df->f", covariance, side.encoder), np.sqrt(variance * np.maximum(variance_u, 0.0)))
    return {
        "regress_r2": r2,
        "regress_null": null,
        "regress_excess": r2 - null,
        "p_present": p,
        "q_present": benjamini_hochberg(p),
        "single_corr": np.clip(single, -1.0, 1.0),
        "single_p": pooled_p(_ratio(along, scale), _ratio(drawn, scale[bins.sampled]), bins),
    }


def _probe_columns(probe: ProbeScores, sums: CodeSums, settings: PresenceSettings) -> dict[str, np.ndarray]:
    enough = [sums.count[half::2].sum(axis=0) >= settings.min_positives for half in (0, 1)]
    found: Auroc = probe.auroc(defined=enough[0] & enough[1])
    return {
        "probe_auroc": found.value,
        "probe_ci_lo": found.ci_lo,
        "probe_ci_hi": found.ci_hi,
        "probe_n": found.n.astype(np.int64),
    }


def _scaling_columns(
    fit: _Half, test: _Half, sums: CodeSums, side: Side, settings: PresenceSettings
) -> dict[str, np.ndarray]:
    everything, held = np.arange(len(sums.n)), np.arange(1, len(sums.n), 2)

    def slopes(name: str, segments: np.ndarray) -> tuple[Slope, Slope]:
        along = test.along[name]
        if name in fit.along:
            along.of_x += fit.along[name].of_x
            along.of_xhat += fit.along[name].of_xhat
        return scaling_slopes(sums, along, side.decoder, segments=segments, min_active=settings.min_active)

    reference, own = slopes("reference", everything), slopes("own", everything)
    error, rest = slopes("error", held)[0], slopes("rest", held)[1]
    of_reference, of_own = (np.linalg.norm(vectors, axis=1) for vectors in (side.reference, side.decoder))
    return {
        "beta_eps": _ratio(reference[0].value, of_reference),
        "beta_eps_se": _ratio(reference[0].se, of_reference),
        "beta_r": _ratio(reference[1].value, of_reference),
        "beta_r_se": _ratio(reference[1].se, of_reference),
        "beta_own": _ratio(own[0].value, of_own),
        "beta_own_se": _ratio(own[0].se, of_own),
        "free_eps": error.value,
        "free_eps_se": error.se,
        "free_rest": rest.value,
        "free_rest_se": rest.se,
    }


def _square(vectors: np.ndarray) -> np.ndarray:
    return np.einsum("...d,...d->...", vectors, vectors, dtype=np.float64)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    below = np.broadcast_to(below, above.shape)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
