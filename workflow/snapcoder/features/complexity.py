"""What kind of detector a feature is, and how much context it needs, by rules alone (no language model judges)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csc_array, csr_array

from snapcoder.features.lookups import Lookup, document_folds, group_sums, lookup_r2
from snapcoder.storage.activations import RowTable
from snapcoder.storage.tokens import TokenTable

# The rules. A lookup explains a feature when its cross-fitted R² reaches EXPLAINED. How well they recover planted
# detectors under noise: benchmarks/feature_types.md.
EXPLAINED = 0.5
EXPLAINED_BY_PAIRS = 0.3  # less for pairs: their means are fitted on few rows each, so that R² stays below the truth
CLEARLY_MORE = 0.2  # by how much the bigram must beat the best single lookup for a feature to need both tokens
REPEATS = 0.3  # excess share of activation on repeated bigrams that makes an induction feature
ONE_TOKEN = 0.8  # share of activation on one token that makes a feature "one token"
SOME = 0.2  # best lookup below this: wide context
FEW = 20  # rows; features that fire on fewer are left unclear

BYTES_PER_ROW = 130  # row table, tokens, and the keys of all lookups while they are made
BYTES_PER_ENTRY = 80  # of a chunk of codes, with all sums by key that are made of it


def complexity_table(
    chunks: Iterable[tuple[int, csc_array]],
    rows: RowTable,
    tokens: TokenTable,
    texts: Sequence[str],
    *,
    layer: int,
) -> pd.DataFrame:
    """Return the rows of the table `complexity`, one per feature that fires.

    chunks: the first feature of each chunk of neighbours, and their shared code [row, feature of the chunk]; texts:
    text of each token id. Memory: one chunk at a time (`BYTES_PER_ENTRY`), and `BYTES_PER_ROW`.
    """
    keys = RowKeys.of(rows, tokens)
    vocabulary = np.array(texts, dtype=object)
    measured = []
    for start, z in chunks:
        part = _lookups(z, keys, vocabulary)
        measured.append(part.assign(feature=np.arange(start, start + len(part))))
    table = pd.concat(measured).assign(layer=layer)
    table = table[table["n_active"] > 0].reset_index(drop=True)
    table["context_need"] = (1 - table["token_r2"]).clip(0, 1)
    table["bigram_need"] = (1 - table[["token_r2", "bigram_r2"]].max(axis=1, skipna=False)).clip(0, 1)
    table["type"] = detector_types(table)
    table["complexity"] = complexity_levels(table)
    return table


@dataclass(frozen=True)
class RowKeys:
    """What the lookups group rows by; the same for all features. token, repeated [row]."""

    token: np.ndarray
    n_tokens: int
    repeated: np.ndarray
    by_token: Lookup
    by_prev: Lookup
    by_bigram: Lookup
    by_position: Lookup

    @classmethod
    def of(cls, rows: RowTable, tokens: TokenTable) -> "RowKeys":
        """Group the rows by token, previous token, both, and position."""
        fold = document_folds(rows.doc)
        prev = previous_tokens(rows, tokens)
        bigram = prev.astype(np.int64) * tokens.vocab_size + rows.token
        return cls(
            token=rows.token,
            n_tokens=tokens.vocab_size,
            repeated=repeated_bigrams(rows, tokens),
            by_token=Lookup.of(rows.token, fold),
            by_prev=Lookup.of(prev, fold),
            by_bigram=Lookup.of(bigram, fold, coarse=rows.token),
            by_position=Lookup.of(rows.position, fold),
        )


def _lookups(z: csc_array, keys: RowKeys, vocabulary: np.ndarray) -> pd.DataFrame:
    """Return everything measured of the features of one chunk, in their order."""
    n_active = np.diff(z.indptr)
    code = csr_array(z.astype(np.float64))
    fires = csr_array((np.ones(len(code.data)), code.indices, code.indptr), shape=code.shape)
    token_r2, prev_r2 = lookup_r2(code, keys.by_token), lookup_r2(code, keys.by_prev)
    entropy, top_token, top_share = token_concentration(group_sums(code, keys.token, keys.n_tokens))
    return pd.DataFrame(
        {
            "n_active": n_active,
            "token_entropy": entropy,
            "top_token": vocabulary[top_token],
            "top_token_share": top_share,
            "token_r2": token_r2,
            "prev_r2": prev_r2,
            "bigram_r2": lookup_r2(code, keys.by_bigram),
            "position_r2": lookup_r2(code, keys.by_position),
            "token_fires_r2": lookup_r2(fires, keys.by_token),
            "prev_fires_r2": lookup_r2(fires, keys.by_prev),
            "bigram_fires_r2": lookup_r2(fires, keys.by_bigram),
            "position_fires_r2": lookup_r2(fires, keys.by_position),
            "prev_token_score": prev_r2 - token_r2,
            "repeat_score": repeat_scores(code, keys.repeated, keys.token),
        }
    )


def previous_tokens(rows: RowTable, tokens: TokenTable) -> np.ndarray:
    """Return the token before each row in its sequence, [row] int64; vocab_size where the sequence starts."""
    before = tokens.tokens[rows.sequence, np.maximum(rows.position - 1, 0)].astype(np.int64)
    return np.where(rows.position > 0, before, tokens.vocab_size)


def repeated_bigrams(rows: RowTable, tokens: TokenTable) -> np.ndarray:
    """Return whether each row's previous and current token stood side by side earlier in its sequence, [row] bool."""
    sequences, place = np.unique(rows.sequence, return_inverse=True)
    window = tokens.tokens[sequences].astype(np.int64)  # [sequence, position]
    pair = window[:, :-1] * tokens.vocab_size + window[:, 1:]  # ends at position + 1
    pair += np.arange(len(pair))[:, None] * tokens.vocab_size**2
    _, first = np.unique(pair, return_index=True)
    seen = np.ones(pair.size, dtype=bool)
    seen[first] = False  # the first occurrence of a pair in a sequence repeats nothing
    repeated = np.concatenate([np.zeros((len(pair), 1), dtype=bool), seen.reshape(pair.shape)], axis=1)
    return repeated[place, rows.position]


def repeat_scores(z: csr_array, repeated: np.ndarray, token: np.ndarray) -> np.ndarray:
    """Return the share of each feature's activation on repeated bigrams, minus what its tokens alone give, [feature].

    repeated [row] bool; token [row]: ids. Frequent tokens stand in repeated bigrams more often than others; a feature
    of such tokens repeats nothing by itself.
    """
    total = z.T @ np.ones(z.shape[0])
    n_rows = np.bincount(token)
    usual = np.bincount(token, weights=repeated) / np.maximum(n_rows, 1)  # share of repeated rows of each token
    return z.T @ (repeated - usual[token]) / np.where(total > 0, total, np.nan)


def token_concentration(by_token: csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return entropy in bits, the strongest token and its share of each feature's activation over tokens, [feature].

    by_token [token, feature]: summed activation. Features without activation have NaN, token 0 and NaN.
    """
    columns = by_token.tocsc()
    columns.sort_indices()
    n_features = columns.shape[1]
    feature = np.repeat(np.arange(n_features), np.diff(columns.indptr))
    total = np.bincount(feature, weights=columns.data, minlength=n_features)
    kept = columns.data > 0
    feature, token, share = feature[kept], columns.indices[kept], columns.data[kept]
    share = share / total[feature]
    entropy = np.bincount(feature, weights=-share * np.log2(share), minlength=n_features)
    strongest = np.lexsort((token, -share, feature))  # the lower token id first among equals
    live, first = np.unique(feature[strongest], return_index=True)
    top_token = np.zeros(n_features, dtype=np.int64)
    top_share = np.full(n_features, np.nan)
    top_token[live], top_share[live] = token[strongest[first]], share[strongest[first]]
    return np.where(total > 0, np.maximum(entropy, 0), np.nan), top_token, top_share


def detector_types(table: pd.DataFrame) -> np.ndarray:
    """Return the rule-based type of each row of lookup scores.

    A lookup counts by how well it predicts the code or whether the feature fires, whichever it does better: strengths
    may vary for other reasons than what is detected. The first rule that holds decides: too few rows or undefined
    scores: unclear; pairs explain it, and clearly more than the best of token, previous token and position: bigram; one
    of these three explains it: that one (in this order among equals); pairs explain it as well as a single lookup
    must: bigram; it fires on repeated bigrams: induction; else contextual.
    """
    kinds = ("token", "prev", "position", "bigram")
    measured = [table[[f"{kind}_r2", f"{kind}_fires_r2"]].to_numpy(dtype=np.float64) for kind in kinds]
    scores = np.stack([np.fmax(of_code, fires) for of_code, fires in (both.T for both in measured)], axis=1)
    unclear = (table["n_active"].to_numpy() < FEW) | np.isnan(scores).any(axis=1)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    single, bigram = scores[:, :3], scores[:, 3]
    best, which = single.max(axis=1), single.argmax(axis=1)
    rules = {
        "unclear": unclear,
        "bigram": (bigram >= EXPLAINED_BY_PAIRS) & (bigram - np.maximum(best, 0) >= CLEARLY_MORE),
        "token": (best >= EXPLAINED) & (which == 0),
        "prev_token": (best >= EXPLAINED) & (which == 1),
        "positional": (best >= EXPLAINED) & (which == 2),
    }
    later = {"bigram": bigram >= EXPLAINED, "induction": table["repeat_score"].to_numpy() >= REPEATS}
    return np.select([*rules.values(), *later.values()], [*rules, *later], default="contextual")


def complexity_levels(table: pd.DataFrame) -> pd.Series:
    """Return the rule-based complexity, 1 to 5, missing where the type is unclear.

    1: the current token explains it, and one token carries `ONE_TOKEN` of its activation; 2: the current token, the
    previous token or the position explains it; 3: previous and current token together do; 4: the best of these
    lookups explains some (`SOME`) of it; 5: less, so it needs wider context.
    """
    lookups = table[["token_r2", "prev_r2", "position_r2", "bigram_r2"]].max(axis=1)
    kind = table["type"]
    level = np.select(
        [
            (kind == "token") & (table["top_token_share"] >= ONE_TOKEN),
            kind.isin(["token", "prev_token", "positional"]),
            kind == "bigram",
            lookups >= SOME,
        ],
        [1, 2, 3, 4],
        default=5,
    )
    return pd.Series(level, index=table.index, dtype="Int8").mask(kind == "unclear")
