"""How many tokens of context a feature needs: the shortest suffix of its strongest contexts that keeps it active."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csc_array

from snapcoder.features.examples import choose_examples
from snapcoder.storage.activations import RowTable
from snapcoder.storage.dictionaries import Gates
from snapcoder.storage.tokens import TokenTable

CANDIDATES = 4  # times as many strongest rows are looked through for ones with a long context
QUARTILES = (0.25, 0.5, 0.75)

Encode = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""tokens and positions [context, place], context and feature [pair] → shared code z [pair] at each context's last token."""


@dataclass(frozen=True)
class Ends:
    """Rows whose contexts are cut, a few per feature; feature, sequence, position, act (z on the whole context) [end]."""

    feature: np.ndarray
    sequence: np.ndarray
    position: np.ndarray
    act: np.ndarray

    def __len__(self) -> int:
        return len(self.feature)

    def of(self, chosen: np.ndarray) -> "Ends":
        """Return some of the ends, by mask or index."""
        return Ends(self.feature[chosen], self.sequence[chosen], self.position[chosen], self.act[chosen])


def choose_ends(
    chunks: Iterable[tuple[int, csc_array]], rows: RowTable, *, features: np.ndarray, examples: int, longest: int
) -> Ends:
    """Return the strongest rows of each of `features`, those with more than `longest` tokens of context first.

    chunks: the first feature of each chunk of neighbours, and their shared code [row, feature of the chunk].
    """
    parts = []
    for start, z in chunks:
        z.sort_indices()
        top = choose_examples(z, top=CANDIDATES * examples, quantiles=0)
        short = rows.position[top.row] + 1 <= longest
        order = np.lexsort((top.rank, short, top.feature))
        feature = top.feature[order]
        begins = np.searchsorted(feature, feature)  # first of each feature's own
        kept = order[np.arange(len(order)) - begins < examples]
        row = top.row[kept]
        parts.append(Ends(top.feature[kept] + start, rows.sequence[row], rows.position[row], top.act[kept]))
    joined = Ends(*(np.concatenate([getattr(part, name) for part in parts]) for name in Ends.__annotations__))
    return joined.of(np.isin(joined.feature, features))


def measured_features(n_active: np.ndarray, *, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return the live features, or `most` of them drawn at random, ascending; n_active [feature]: rows they fire on."""
    live = np.flatnonzero(n_active > 0)
    return live if not most or len(live) <= most else np.sort(rng.choice(live, most, replace=False))


def activity_floor(gates: Gates) -> np.ndarray:
    """Return the code above which each feature is on at some snapshot, [feature]; inf for features without a norm."""
    norms = np.sqrt((gates.norms**2).mean(axis=0)) if gates.gate == "shared" else gates.norms.max(axis=0)
    return np.where(norms > 0, gates.threshold / np.where(norms > 0, norms, 1), np.inf)


@dataclass(frozen=True)
class Windows:
    """window [end] tokens; kept [end]: share of the activation that it keeps; cut [end]: shorter than the context."""

    window: np.ndarray
    kept: np.ndarray
    cut: np.ndarray


def context_windows(
    ends: Ends,
    tokens: TokenTable,
    encode: Encode,
    floor: np.ndarray,
    *,
    suffixes: Sequence[int],
    share: float,
    front: str,
    positions_matter: bool,
) -> Windows:
    """Return the shortest suffix of each context that keeps `share` of the activation and leaves the feature on.

    Suffixes are tried from the shortest; contexts that kept enough are not run again, equal ones run once. A context
    that no suffix of the grid holds for needs all of its tokens: the whole context keeps everything. floor [feature]:
    see `activity_floor`.
    """
    window, kept = ends.position.astype(np.int64) + 1, np.ones(len(ends))
    cut = np.zeros(len(ends), dtype=bool)
    enough = np.maximum(share * ends.act, floor[ends.feature])
    waiting = np.arange(len(ends))
    for length in sorted(suffixes):
        waiting = waiting[ends.position[waiting] + 1 > length]
        if not len(waiting):
            break
        cut_tokens, places = cut_contexts(ends.of(waiting), tokens, length=length, front=front)
        keys = np.concatenate([cut_tokens, places], axis=1) if positions_matter else cut_tokens
        _, first, context = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        z = encode(cut_tokens[first], places[first], np.ravel(context), ends.feature[waiting])
        holds = z >= enough[waiting]
        done = waiting[holds]
        window[done], cut[done], kept[done] = length, True, z[holds] / ends.act[done]
        waiting = waiting[~holds]
    return Windows(window, kept, cut)


def cut_contexts(ends: Ends, tokens: TokenTable, *, length: int, front: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the last `length` tokens up to each end, behind the front token if any, and their positions, [end, place].

    front: `end_of_text`, as if a document began here; `sequence_start`: the sequence's own first token at its own place; `none`.
    Contexts must be longer than `length`. Positions are those in the sequence.
    """
    places = ends.position[:, None].astype(np.int64) + np.arange(1 - length, 1)
    cut = tokens.tokens[ends.sequence[:, None], places].astype(np.int64)
    if front == "none":
        return cut, places
    if front == "end_of_text":
        first, place = np.full(len(ends), tokens.end_of_text, dtype=np.int64), places[:, 0] - 1
    else:
        first, place = tokens.tokens[ends.sequence, 0].astype(np.int64), np.zeros(len(ends), dtype=np.int64)
    return np.column_stack([first, cut]), np.column_stack([place, places])


def rerun_error(ends: Ends, tokens: TokenTable, encode: Encode) -> float:
    """Return the median relative difference between the code of whole contexts, run again, and the stored code."""
    differences = []
    for position in np.unique(ends.position):
        here = ends.of(ends.position == position)
        whole = tokens.tokens[here.sequence, : position + 1].astype(np.int64)
        places = np.broadcast_to(np.arange(position + 1), whole.shape)
        z = encode(whole, places, np.arange(len(here)), here.feature)
        differences.append(np.abs(z / here.act - 1))
    return float(np.median(np.concatenate(differences))) if differences else 0.0


def context_length_table(ends: Ends, found: Windows, *, layer: int) -> pd.DataFrame:
    """Return the rows of the table `context_length`: median and quartiles of the windows of each feature's examples."""
    frame = pd.DataFrame({"feature": ends.feature, "window": found.window, "kept": found.kept, "cut": found.cut})
    grouped = frame.groupby("feature", sort=True)
    # Quartiles are windows that occur: no interpolation between suffixes that were never run.
    low, middle, high = (grouped["window"].quantile(level, interpolation="lower") for level in QUARTILES)
    return pd.DataFrame(
        {
            "layer": layer,
            "feature": low.index,
            "window": middle.to_numpy(),
            "window_q1": low.to_numpy(),
            "window_q3": high.to_numpy(),
            "n_examples": grouped.size().to_numpy(),
            "share_reached": grouped["cut"].mean().to_numpy(),
            "kept": grouped["kept"].median().to_numpy(),
        }
    )
