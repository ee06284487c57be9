"""Activations without what the current token alone says: each token's mean activation subtracted.

Most features of a small model are token identities. What is left is what context adds; which features emerge there, and
when, is another question than which emerge at all.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

Blocks = Callable[[], Iterable[np.ndarray]]


def token_sums(blocks: Iterable[np.ndarray], token: np.ndarray, is_train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Σ a over the train rows of each token [token, model] float64, and their number [token].

    blocks: float32 [n, model] in row order; token, is_train [row].
    """
    size = int(token.max(initial=-1)) + 1
    count = np.bincount(token[is_train], minlength=size)
    total, start = np.zeros((size, 0)), 0
    for block in blocks:
        if total.shape[1] == 0:
            total = np.zeros((size, block.shape[1]))
        part = slice(start, start + len(block))
        train = is_train[part]
        order = np.argsort(token[part][train], kind="stable")
        ordered, rows = token[part][train][order], block[train][order].astype(np.float64)
        if len(ordered):
            found, first = np.unique(ordered, return_index=True)
            total[found] += np.add.reduceat(rows, first, axis=0)
        start += len(block)
    return total, count


def token_centred(blocks: Blocks, token: np.ndarray, is_train: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a − mean of the *other* train rows with the same token, float32 [n, model], block by block.

    Leaving out the row itself keeps rare tokens from vanishing: their own activation would be most of their mean. A token
    that no other train row has gets the mean of all train rows. `blocks` is read twice.
    """
    total, count = token_sums(blocks(), token, is_train)
    overall = total.sum(axis=0) / max(int(count.sum()), 1)
    start = 0
    for block in blocks():
        part = slice(start, start + len(block))
        own, train = token[part], is_train[part]
        others = count[own] - train
        rest = total[own] - np.where(train[:, None], block, 0.0)
        mean = np.where(others[:, None] > 0, rest / np.maximum(others, 1)[:, None], overall)
        yield (block - mean).astype(np.float32)
        start += len(block)
