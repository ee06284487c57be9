"""Which units are ablated together: the first k of a ranking, k at random, or k that are like the first k."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

DECILES = 10


@dataclass(frozen=True)
class Ranking:
    """A set of units for each size: `sets[j]` [ks[j]] belongs to `ks[j]`. `draw` counts repetitions of a random one."""

    name: str
    ks: tuple[int, ...]
    sets: tuple[np.ndarray, ...]
    draw: int = 0


def ablation_sizes(k_grid: Sequence[int], shares: Sequence[float], n_units: int) -> tuple[int, ...]:
    """Return the numbers of units to ablate, ascending: 0, what the grids ask for and can be, and all.

    shares: sizes as shares of all units, rounded, at least 1. One within a tenth of a size of k_grid is left out: it
    would cost a pass and show the same.
    """
    absolute = {k for k in k_grid if 0 < k < n_units}
    relative = {max(1, round(share * n_units)) for share in shares}
    added = {k for k in relative if k < n_units and all(abs(k - other) > other / 10 for other in absolute)}
    return (0, *sorted(absolute | added), n_units)


def by_order(name: str, order: np.ndarray, ks: Sequence[int], *, draw: int = 0) -> Ranking:
    """Return the ranking whose set of size k is the first k of `order` [unit]."""
    return Ranking(name, tuple(ks), tuple(order[:k] for k in ks), draw)


def norm_order(norm: np.ndarray, changing: np.ndarray) -> np.ndarray:
    """Return all features, the largest decoder norm first; changing [feature] bool: those come before all others.

    A control of features that are the same on any clean and patch prompt would be too easy to beat.
    """
    return np.lexsort((-norm, ~changing))


def random_rankings(
    changing: np.ndarray, sizes: Sequence[int], *, draws: int, rng: np.random.Generator
) -> list[Ranking]:
    """Return random orders of all features, those that are `changing` [feature] first (see `norm_order`)."""
    found = []
    for draw in range(draws):
        shuffled = rng.permutation(len(changing))
        found.append(by_order("random", shuffled[np.argsort(~changing[shuffled], kind="stable")], sizes, draw=draw))
    return found


def decile_cells(norm: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Return each feature's decile of decoder norm and of firing rate, from 0, [feature, 2] int16.

    Deciles are taken among the features that fire; others get −1. Equal values share a decile.
    """
    cells = np.full((len(norm), 2), -1, dtype=np.int16)
    fires = rate > 0
    for column, values in enumerate((norm[fires], rate[fires])):
        position = (rankdata(values) - 0.5) / max(len(values), 1)  # average ranks, in (0, 1)
        cells[fires, column] = np.minimum(position * DECILES, DECILES - 1).astype(np.int16)
    return cells


def matched_rankings(
    order: np.ndarray, cells: np.ndarray, sizes: Sequence[int], *, draws: int, seed: Sequence[int]
) -> tuple[list[Ranking], dict[int, float]]:
    """Return controls for the first k of `order`: as many features of the same `decile_cells`, none of the first k.

    Each is drawn without replacement, so a cell can run out; then the nearest cell serves, by the number of deciles
    apart. The second value says, for each size, which share came from the very cell. A size is left out when one of
    the first k never fires or too few others do. seed: of the draws; each size has its own stream, so adding one
    changes no other.
    """
    fires = cells[:, 0] >= 0
    kept = [k for k in sizes if fires[order[:k]].all() and int(fires.sum()) >= 2 * k]
    sets: list[list[np.ndarray]] = [[] for _ in range(draws)]
    exact: dict[int, float] = {}
    for k in kept:
        rng, top = np.random.default_rng([*seed, k]), order[:k]
        pool = np.setdiff1d(np.flatnonzero(fires), top)
        apart = np.abs(cells[top][:, None] - cells[pool][None]).sum(axis=2)  # [top, pool]
        picked = [_draw(apart, rng) for _ in range(draws)]
        exact[k] = float(np.mean([apart[np.arange(k), columns] == 0 for columns in picked])) if draws else np.nan
        for draw, columns in enumerate(picked):
            sets[draw].append(pool[columns])
    return [Ranking("matched", tuple(kept), tuple(chosen), draw) for draw, chosen in enumerate(sets)], exact


def _draw(apart: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a column for each row of `apart` [top, pool], all different: distance 0 first, else the smallest left."""
    chosen = np.full(len(apart), -1)
    free = np.ones(apart.shape[1], dtype=bool)
    for only_exact in (True, False):
        for row in rng.permutation(np.flatnonzero(chosen < 0)):
            score = np.where(free, apart[row] + rng.random(apart.shape[1]), np.inf)  # a random one of the nearest
            best = int(score.argmin())
            if score[best] < 1 or not only_exact:
                chosen[row], free[best] = best, False
    return chosen
