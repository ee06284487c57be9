"""Loss curves of classes of tokens: what a model learns first, and where it goes beyond the n-gram models.

Every snapshot is scored on the same tokens, so its part is a table of sums over each document; curves, intervals and
the moments read off them come from one bootstrap over documents that all snapshots and classes share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.evolution.log_steps import log_steps
from snapcoder.phases.predictions import Scores
from snapcoder.phases.resampling import document_weights, interval, sums_by
from snapcoder.phases.token_classes import TokenClasses

VALUES = ("loss", "h1", "h2", "h3")
CONTRASTS: Mapping[str, tuple[str, str, str]] = {
    "copying": ("repetition", "repeated_bigram", "first_occurrence"),
    "repeating": ("repetition", "repeated_token", "first_occurrence"),
    "novelty": ("novelty", "new_trigram", "seen_trigram"),
}
"""Family and two classes: what the model gains over the trigram model on the first class, beyond its gain on the second."""


def class_sums(scores: Scores, families: Sequence[TokenClasses]) -> pd.DataFrame:
    """Sum the losses of the model and of the n-gram models over the tokens of each class and document.

    Returns family, class, doc, n, and Σ loss, h1, h2, h3 in nats; classes without a token have no rows.
    """
    doc, place = np.unique(scores.row("doc"), return_inverse=True)
    loss = scores.row("loss")
    values = {"loss": loss} | {f"h{n}": loss + scores.row(f"gap_h{n}") for n in (1, 2, 3)}
    parts = []
    for family in families:
        inside = family.label >= 0
        group = family.label[inside] * len(doc) + place[inside]
        size = len(family.names) * len(doc)
        count = np.bincount(group, minlength=size)
        kept = np.flatnonzero(count)
        part = pd.DataFrame({"class": np.array(family.names)[kept // len(doc)], "doc": doc[kept % len(doc)]})
        part = part.assign(family=family.family, n=count[kept])
        parts.append(part.assign(**{name: sums_by(group, row[inside], size)[kept] for name, row in values.items()}))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class _Curves:
    """Mean loss of one class under each draw: model [1 + draw, snapshot], n-gram models [1 + draw, order]; n tokens."""

    model: np.ndarray
    ngrams: np.ndarray
    n: int

    def gap(self, order: int) -> np.ndarray:
        """Loss of an n-gram model − loss of the model on the same tokens, [1 + draw, snapshot]."""
        return self.ngrams[:, [order - 1]] - self.model


def class_losses(sums: pd.DataFrame, *, bootstrap: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the tables token_class_loss, token_classes and token_class_contrasts from the sums of all snapshots.

    sums: `class_sums` of every snapshot, with its step.
    """
    steps, documents = np.sort(sums["step"].unique()), np.sort(sums["doc"].unique())
    weights = document_weights(len(documents), draws=bootstrap if len(documents) > 1 else 0, seed=seed)
    curves = {
        (str(family), str(name)): _curves(part, steps, documents, weights)
        for (family, name), part in sums.groupby(["family", "class"], sort=True)
    }
    total = curves["all", "all"].n
    losses = [_loss_rows(curve, steps).assign(family=key[0], **{"class": key[1]}) for key, curve in curves.items()]
    moments = [
        {"family": key[0], "class": key[1], "share": curve.n / total, **_moments(curve, steps)}
        for key, curve in curves.items()
    ]
    return pd.concat(losses, ignore_index=True), pd.DataFrame(moments), _contrasts(curves, steps)


def _curves(part: pd.DataFrame, steps: np.ndarray, documents: np.ndarray, weights: np.ndarray) -> _Curves:
    step, doc = np.searchsorted(steps, part["step"]), np.searchsorted(documents, part["doc"])
    model = np.zeros((len(documents), len(steps)))
    model[doc, step] = part["loss"]
    first = step == 0  # tokens and n-gram models are the same at every snapshot
    fixed = np.zeros((len(documents), len(VALUES)))  # n, h1, h2, h3
    fixed[doc[first]] = part.loc[first, ["n", *VALUES[1:]]]
    count = weights @ fixed[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold no token of a rare class
        return _Curves(
            weights @ model / count[:, None], weights @ fixed[:, 1:] / count[:, None], int(fixed[:, 0].sum())
        )


def _bounds(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95% bounds of [1 + draw, snapshot] values; the first row is the estimate."""
    if len(draws) > 1 and not np.isnan(draws[1:]).any():
        low, high = np.percentile(draws[1:], [2.5, 97.5], axis=0)
        return low, high
    found = np.array([interval(column) for column in draws[1:].T]).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _loss_rows(curve: _Curves, steps: np.ndarray) -> pd.DataFrame:
    low, high = _bounds(curve.model)
    rows = pd.DataFrame({"step": steps, "loss": curve.model[0], "ci_lo": low, "ci_hi": high, "n": curve.n})
    for order in (1, 2, 3):
        gap = curve.gap(order)
        low, high = _bounds(gap)
        named = {"": gap[0], "_ci_lo": low, "_ci_hi": high}
        rows[f"h{order}"] = curve.ngrams[0, order - 1]
        rows = rows.assign(**{f"gap_h{order}{end}": value for end, value in named.items()})
    return rows


def _moments(curve: _Curves, steps: np.ndarray) -> dict[str, float]:
    """Return when a class is learnt: halfway down, and below each n-gram model to the end."""
    best = int(np.argmin(curve.model[0]))
    fall_low, _ = interval(curve.model[1:, 0] - curve.model[1:, best])
    aoa = halfway_step(curve.model, steps)
    if fall_low <= 0:  # nothing learnt that the documents agree on
        aoa[:] = np.nan
    low, high = interval(aoa[1:])
    found = {"n": curve.n, "loss_first": curve.model[0, 0], "loss_best": curve.model[0, best]}
    found |= {"best_step": int(steps[best]), "aoa_step": aoa[0], "aoa_lo": low, "aoa_hi": high}
    for order in (1, 2, 3):
        short = np.flatnonzero(~(_bounds(curve.gap(order))[0] > 0))  # snapshots not clearly below
        since = int(short[-1]) + 1 if len(short) else 0
        found[f"below_h{order}_step"] = float(steps[since]) if since < len(steps) else np.nan
    return found


def halfway_step(curves: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return where curves [n, snapshot] first come halfway from their first value to their lowest, in steps [n].

    Linear between snapshots in log step. NaN where a curve never falls below its first value.
    """
    place = log_steps(steps)
    half = 0.5 * (curves[:, 0] + curves.min(axis=1))
    reached = curves <= half[:, None]
    after = reached.argmax(axis=1)
    row = np.arange(len(curves))
    falls = reached.any(axis=1) & (after > 0)
    before = np.maximum(after - 1, 0)
    high, low = curves[row, before], curves[row, after]
    share = np.divide(high - half, high - low, out=np.zeros(len(curves)), where=falls & (high > low))
    return np.where(falls, 10 ** (place[before] + share * (place[after] - place[before])), np.nan)


def _contrasts(curves: Mapping[tuple[str, str], _Curves], steps: np.ndarray) -> pd.DataFrame:
    bands = sorted((name for family, name in curves if family == "position"), key=lambda name: int(name.split("_")[1]))
    chosen = dict(CONTRASTS)
    if len(bands) > 2:  # from the first band in which the trigram model has its two tokens of context
        chosen["context"] = ("position", bands[-1], bands[1])
    parts = [pd.DataFrame({"step": steps[:0], "contrast": "", "class_a": "", "class_b": "", "value": 0.0,
                           "ci_lo": 0.0, "ci_hi": 0.0})]  # fmt: skip
    for name, (family, upper, lower) in chosen.items():
        if (family, upper) in curves and (family, lower) in curves:
            difference = curves[family, upper].gap(3) - curves[family, lower].gap(3)
            low, high = _bounds(difference)
            rows = pd.DataFrame({"step": steps, "value": difference[0], "ci_lo": low, "ci_hi": high})
            parts.append(rows.assign(contrast=name, class_a=upper, class_b=lower))
    return pd.concat(parts, ignore_index=True)
