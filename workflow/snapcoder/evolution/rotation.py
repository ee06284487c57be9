"""How feature directions turn over training, and how much of that is the whole basis turning."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from snapcoder.evolution.direction_pairs import PairRotation, compare, median_interval
from snapcoder.evolution.log_steps import log_steps
from snapcoder.evolution.resampling import weighted_means
from snapcoder.evolution.snapshot_decoders import SnapshotDecoders
from snapcoder.evolution.turning import Turns


@dataclass(frozen=True)
class PairCosines:
    """Cosines of some pairs of snapshots, [pair, feature], filled in pair by pair; NaN and False until then."""

    cos: np.ndarray
    procrustes_cos: np.ndarray
    both_alive: np.ndarray

    @classmethod
    def empty(cls, n_pairs: int, n_features: int) -> "PairCosines":
        """Return cosines of pairs not compared yet."""
        shape = (max(n_pairs, 0), n_features)
        cos, mapped = np.full((2, *shape), np.nan, dtype=np.float32)
        return cls(cos, mapped, np.zeros(shape, dtype=bool))

    def put(self, row: int, pair: PairRotation, features: np.ndarray | slice = slice(None)) -> None:
        """Store a compared pair, or only some of its features."""
        self.cos[row, features] = pair.cos[features]
        self.procrustes_cos[row, features] = pair.procrustes_cos[features]
        self.both_alive[row, features] = pair.both_alive[features]

    def seen(self, name: str) -> np.ndarray:
        """Return cos or procrustes_cos with NaN where the feature is not alive at both snapshots."""
        return np.where(self.both_alive, getattr(self, name), np.float32(np.nan))


@dataclass(frozen=True)
class Rotations:
    """All snapshots compared with each other.

    first_alive [feature]: position of the first snapshot at which the feature is alive, S when never. adjacent, skipping
    (two apart), to_final: by earlier snapshot; from_onset: by later snapshot, against the feature's first_alive.
    plain, mapped [1 + draw, snapshot, snapshot]: mean cosines under bootstrap weights; summary: rows of rotation_summary.
    """

    decoders: SnapshotDecoders
    first_alive: np.ndarray
    adjacent: PairCosines
    skipping: PairCosines
    to_final: PairCosines
    from_onset: PairCosines
    plain: np.ndarray
    mapped: np.ndarray
    summary: list[dict[str, float]] = field(default_factory=list)

    def turns(self) -> dict[str, Turns]:
        """Return what the search for turning points needs, as decoders turn and beyond the map common to all features."""
        return {
            "plain": Turns(self.adjacent.seen("cos"), self.skipping.seen("cos"), self.plain),
            "procrustes": Turns(
                self.adjacent.seen("procrustes_cos"), self.skipping.seen("procrustes_cos"), self.mapped
            ),
        }


def pairs(n_snapshots: int) -> Iterator[tuple[int, int]]:
    """Yield every pair of snapshots (a, b) with a < b."""
    return ((a, b) for a in range(n_snapshots) for b in range(a + 1, n_snapshots))


def compare_snapshots(
    decoders: SnapshotDecoders, *, alive: np.ndarray, cka: np.ndarray, weights: np.ndarray | None = None
) -> Rotations:
    """Compare every pair of snapshots, two decoders at a time.

    alive [snapshot, feature] bool; cka [snapshot, snapshot]: linear CKA of the activations; weights
    [1 + draw, feature]: bootstrap over features (none: the data only).
    """
    n, n_features = alive.shape
    weights = np.ones((1, n_features), dtype=np.float32) if weights is None else weights
    first_alive = np.where(alive.any(axis=0), alive.argmax(axis=0), n)
    kept = [PairCosines.empty(rows, n_features) for rows in (n - 1, n - 2, n - 1, n)]
    adjacent, skipping, to_final, from_onset = kept
    plain, mapped = (np.tile(np.eye(n), (len(weights), 1, 1)) for _ in range(2))
    found = Rotations(decoders, first_alive, adjacent, skipping, to_final, from_onset, plain, mapped)
    norms = decoders.norms()
    found.summary.extend(_same(decoders.steps[s], int(alive[s].sum()), cka[s, s]) for s in range(n))
    for a in range(n):
        directions = decoders.directions(a)
        for b in range(a + 1, n):
            pair = compare(
                directions, decoders.directions(b), alive_a=alive[a], alive_b=alive[b], norm_b=norms[b]
            )  # fmt: skip
            _keep(found, a, b, pair, weights)
            row = _summarise(pair, cka[a, b])
            steps = decoders.steps[a], decoders.steps[b]
            found.summary.extend({"step_a": x, "step_b": y, **row} for x, y in (steps, steps[::-1]))
    return found


def _keep(found: Rotations, a: int, b: int, pair: PairRotation, weights: np.ndarray) -> None:
    if b == a + 1:
        found.adjacent.put(a, pair)
    if b == a + 2:
        found.skipping.put(a, pair)
    if b == len(found.decoders.steps) - 1:
        found.to_final.put(a, pair)
    found.from_onset.put(b, pair, found.first_alive == a)
    for matrix, cos in ((found.plain, pair.cos), (found.mapped, pair.procrustes_cos)):
        means = weighted_means(np.where(pair.both_alive, cos, np.nan), weights)
        matrix[:, a, b] = matrix[:, b, a] = means


def summary_table(found: Rotations) -> pd.DataFrame:
    """Return the table rotation_summary."""
    table = pd.DataFrame(found.summary).sort_values(["step_a", "step_b"], ignore_index=True)
    return table.assign(layer=found.decoders.layer)


def direction_parts(found: Rotations) -> Iterator[pd.DataFrame]:
    """Yield the table direction_rotation by pair of snapshots, in the order of its key."""
    n = len(found.decoders.steps)
    everyone = np.arange(found.decoders.n_features)
    for a in range(n - 1):
        yield _features(found, found.adjacent, a, everyone, "adjacent", (a, a + 1))
    for a, b in pairs(n):
        since = np.flatnonzero(found.first_alive == a)
        yield _features(found, found.from_onset, b, since, "from_onset", (a, b))
    for a in range(n - 1):
        yield _features(found, found.to_final, a, everyone, "to_final", (a, n - 1))


def rotation(decoders: SnapshotDecoders, *, alive: np.ndarray, cka: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables direction_rotation and rotation_summary in memory; arguments as in `compare_snapshots`."""
    found = compare_snapshots(decoders, alive=alive, cka=cka)
    return pd.concat(direction_parts(found), ignore_index=True), summary_table(found)


def _features(
    found: Rotations, cosines: PairCosines, row: int, features: np.ndarray, kind: str, pair: tuple[int, int]
) -> pd.DataFrame:
    steps = [found.decoders.steps[s] for s in pair]
    cos = cosines.cos[row, features]
    angle = np.degrees(np.arccos(cos))
    return pd.DataFrame(
        {
            "layer": found.decoders.layer,
            "feature": features,
            "kind": kind,
            "step_a": steps[0],
            "step_b": steps[1],
            "cos": cos,
            "angle_deg": angle,
            "angle_per_decade": angle / float(np.diff(log_steps(steps))[0]),
            "both_alive": cosines.both_alive[row, features],
            "procrustes_cos": cosines.procrustes_cos[row, features],
        }
    )


def _summarise(pair: PairRotation, cka: float) -> dict[str, float]:
    cos, mapped = pair.cos[pair.both_alive], pair.procrustes_cos[pair.both_alive]
    mapped = mapped[~np.isnan(mapped)]
    (lo, hi), (mapped_lo, mapped_hi) = median_interval(cos), median_interval(mapped)
    median, mapped_median = (float(np.median(x)) if len(x) else float("nan") for x in (cos, mapped))
    angle, remains = np.arccos(median), np.arccos(mapped_median)
    return {
        "n": len(cos),
        "cos_mean": float(cos.mean()) if len(cos) else float("nan"),
        "cos_median": median,
        "cos_ci_lo": lo,
        "cos_ci_hi": hi,
        "procrustes_cos_median": mapped_median,
        "procrustes_ci_lo": mapped_lo,
        "procrustes_ci_hi": mapped_hi,
        "common_share": float(1 - remains / angle) if angle > 0 else float("nan"),
        "cos_null_p95": pair.null_p95,
        "procrustes_null_p95": pair.procrustes_null_p95,
        "cka": cka,
    }


def _same(step: int, n_alive: int, cka: float) -> dict[str, float]:
    one = 1.0 if n_alive else float("nan")
    names = ("cos_mean", "cos_median", "cos_ci_lo", "cos_ci_hi", "procrustes_cos_median", "procrustes_ci_lo")
    cosines = dict.fromkeys((*names, "procrustes_ci_hi"), one)
    undefined = dict.fromkeys(("common_share", "cos_null_p95", "procrustes_null_p95"), float("nan"))
    return {"step_a": step, "step_b": step, "n": n_alive, **cosines, **undefined, "cka": cka}
