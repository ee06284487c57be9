"""Whether one feature hands a task over to another, or close rivals merely swap places by noise.

The leader of a snapshot is the feature with the largest |attribution|. Leaders of different snapshots are compared at
every snapshot, z = (|a_i| − |a_j|) / √(se_i² + se_j²), two-sided, Holm-corrected over all pairs and snapshots of a task. Two
features of one task are mostly right on the same examples, so that taking their errors as independent is cautious.

A hand-over from A to B needs both: A clearly ahead of B at some snapshot since A leads, and B clearly ahead of A later on.
A leader stays until another feature is clearly ahead of it, so that a tie is nobody's victory.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from snapcoder.evolution.multiplicity import holm


@dataclass(frozen=True)
class Handovers:
    """What became of the lead, snapshot by snapshot.

    leader [snapshot]: index of the feature with the largest |attr|; p_runner_up [snapshot]: of its lead over the second
    largest, corrected over snapshots; holder [snapshot]: the feature that holds the lead by the rule; candidates: the
    features that lead anywhere; ahead [snapshot, i, j]: 1 where candidate i is clearly ahead of candidate j, −1 where it
    is behind, 0 where they cannot be told apart; events: (snapshot where the former holder was last clearly ahead,
    snapshot of the hand-over, from, to); tests: comparisons made between candidates.
    """

    leader: np.ndarray
    holder: np.ndarray
    p_runner_up: np.ndarray
    candidates: np.ndarray
    ahead: np.ndarray
    events: tuple[tuple[int, int, int, int], ...]
    tests: int
    level: float

    @property
    def n_leaders(self) -> int:
        """Number of different features that held the lead."""
        return len(set(self.holder.tolist()))

    @property
    def clearly_ahead(self) -> np.ndarray:
        """Whether the holder is clearly ahead of the runner-up or another leader [snapshot]; without any, nothing is shown."""
        place = np.searchsorted(self.candidates, self.holder)
        of_leaders = np.array([(self.ahead[s, i] == 1).any() for s, i in enumerate(place)])
        return of_leaders | ((self.leader == self.holder) & (np.nan_to_num(self.p_runner_up, nan=1.0) < self.level))


def handovers(attr: np.ndarray, se: np.ndarray, *, level: float = 0.05) -> Handovers:
    """Return hand-overs of one task from attributions and their standard errors [snapshot, feature], in step order.

    A missing standard error makes its comparisons undefined, and so no evidence. Raises ValueError without a snapshot.
    """
    if not attr.size:
        raise ValueError("hand-overs need at least one attributed snapshot")
    size = np.abs(attr)
    leader = size.argmax(axis=1)
    candidates = np.unique(leader)
    p, sign = _comparisons(size[:, candidates], se[:, candidates])
    ahead = np.where(np.nan_to_num(p, nan=1.0) < level, sign, 0).astype(np.int8)
    holder, events = _follow(np.searchsorted(candidates, leader), ahead, size[:, candidates])
    return Handovers(
        leader=leader,
        holder=candidates[holder],
        p_runner_up=_p_runner_up(size, se),
        candidates=candidates,
        ahead=ahead,
        events=tuple((a, b, int(candidates[i]), int(candidates[j])) for a, b, i, j in events),
        tests=int((~np.isnan(p)).sum()) // 2,
        level=level,
    )


def _p_equal(difference: np.ndarray, se_a: np.ndarray, se_b: np.ndarray) -> np.ndarray:
    """Return two-sided p of z = difference / √(se_a² + se_b²); NaN where a standard error is missing."""
    error = np.sqrt(se_a**2 + se_b**2)
    z = np.divide(np.abs(difference), error, out=np.where(difference != 0, np.inf, 0.0), where=error > 0)
    return np.asarray(2 * stats.norm.sf(np.where(np.isnan(error), np.nan, z)))


def _comparisons(size: np.ndarray, se: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return corrected p [snapshot, i, j] (NaN on the diagonal) and the sign of size_i − size_j."""
    difference = size[:, :, None] - size[:, None, :]
    p = _p_equal(difference, se[:, :, None], se[:, None, :])
    first, second = np.triu_indices(size.shape[1], k=1)
    corrected = np.full(p.shape, np.nan)
    corrected[:, first, second] = holm(p[:, first, second].ravel()).reshape(len(size), -1)
    corrected[:, second, first] = corrected[:, first, second]
    return corrected, np.sign(difference)


def _p_runner_up(size: np.ndarray, se: np.ndarray) -> np.ndarray:
    """Return corrected p of the largest against the second largest, [snapshot]."""
    if size.shape[1] < 2:
        return np.full(len(size), np.nan)
    row, order = np.arange(len(size)), np.argsort(-size, axis=1, kind="stable")
    first, second = order[:, 0], order[:, 1]
    return holm(_p_equal(size[row, first] - size[row, second], se[row, first], se[row, second]))


def _follow(
    leader: np.ndarray, ahead: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Follow the lead through the snapshots; see the module's docstring for the rule."""
    holder = np.zeros(len(leader), dtype=np.int64)
    held, since, events = int(leader[0]), 0, []
    for s in range(len(leader)):
        rivals = np.flatnonzero(ahead[s, :, held] == 1)
        if len(rivals):
            taker = int(rivals[size[s, rivals].argmax()])
            proven = np.flatnonzero(ahead[since:s, held, taker] == 1)
            if len(proven):
                events.append((since + int(proven[-1]), s, held, taker))
                since = s
            else:  # a tie until now: the lead was never clearly the other's, and counts for the one that won it
                holder[since:s] = taker
            held = taker
        holder[s] = held
    return holder, events
