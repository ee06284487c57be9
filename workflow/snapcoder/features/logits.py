"""Which tokens a feature writes towards: its decoder read through the final norm and the output embedding."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from snapcoder.storage.dictionaries import Dictionary

# Names of the output embedding, its own first, then those of models that tie it to the input embedding.
OUTPUT_EMBEDDINGS = (
    "embed_out.weight",
    "lm_head.weight",
    "transformer.wte.weight",
    "wte.weight",
    "model.embed_tokens.weight",
    "gpt_neox.embed_in.weight",
    "model.decoder.embed_tokens.weight",
)
FINAL_NORMS = (
    "gpt_neox.final_layer_norm",
    "model.norm",
    "transformer.ln_f",
    "ln_f",
    "model.final_layernorm",
    "model.decoder.final_layer_norm",
)
ENTRIES_AT_A_TIME = 1 << 24  # logits held at once


@dataclass(frozen=True)
class Readout:
    """What turns a direction of the residual stream into logits.

    embedding [vocab, model]; norm_weight [model] or None; centres: the final norm subtracts the mean over the model
    axis (a LayerNorm; an RMSNorm does not).
    """

    embedding: np.ndarray
    norm_weight: np.ndarray | None
    centres: bool


def read_out(names: Container[str], read: Callable[[str], np.ndarray], *, where: str) -> Readout:
    """Find a checkpoint's output embedding and final norm by their known names.

    names: the checkpoint's tensors; read: returns one as float32. Raises ValueError naming `where` when there is
    no output embedding.
    """
    embedding = next((name for name in OUTPUT_EMBEDDINGS if name in names), None)
    if embedding is None:
        raise ValueError(
            f"{where}: no output embedding found; expected a tensor named one of {', '.join(OUTPUT_EMBEDDINGS)}"
        )
    norm = next((name for name in FINAL_NORMS if f"{name}.weight" in names), None)
    return Readout(
        embedding=read(embedding),
        norm_weight=read(f"{norm}.weight") if norm else None,
        centres=norm is not None and f"{norm}.bias" in names,
    )


def logits_of(directions: np.ndarray, readout: Readout, *, n_tokens: int) -> np.ndarray:
    """Return the logits that each direction adds before the final norm's division, [direction, token] float32.

    W_U · (norm weight ∘ direction), centred over the first `n_tokens` tokens (ids beyond are padding). Where the
    final norm is a LayerNorm, the direction's own mean is taken off first, as the norm does.
    """
    if readout.centres:
        directions = directions - directions.mean(axis=1, keepdims=True)
    if readout.norm_weight is not None:
        directions = directions * readout.norm_weight
    logits = directions @ readout.embedding[:n_tokens].T
    return logits - logits.mean(axis=1, keepdims=True)


def read_moments(timing: pd.DataFrame, base_steps: Sequence[int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, per moment, the features that fire at all and the base snapshot at which to read each one's decoder.

    timing: the table `feature_timing`; base_steps ascending. The onset is onset_hi, or the first base snapshot where
    it is missing; an onset at an added snapshot is read at the nearest base snapshot before it. Returns for "onset"
    and "final" the features and indices into base_steps, [feature] each.
    """
    live = timing[timing["act_max"].fillna(0) > 0].sort_values("feature", kind="stable")
    features = live["feature"].to_numpy(dtype=np.int64)
    onset = live["onset_hi"].fillna(base_steps[0]).to_numpy(dtype=np.int64)
    at = np.maximum(np.searchsorted(np.asarray(base_steps), onset, side="right") - 1, 0)
    return {"onset": (features, at), "final": (features, np.full(len(features), len(base_steps) - 1))}


def feature_logits(
    dictionary: Dictionary,
    moments: Mapping[str, tuple[np.ndarray, np.ndarray]],
    readout_at: Callable[[int], Readout],
    texts: Sequence[str],
    *,
    layer: int,
    n_listed: int,
) -> pd.DataFrame:
    """Return the rows of the table `feature_logits`.

    moments: see `read_moments`; readout_at: the readout of a base snapshot's training step, asked for once each;
    texts: text of each token id; n_listed: tokens listed per feature, moment and sign.
    """
    parts = []
    for snapshot, step in enumerate(dictionary.steps):
        wanted = {moment: features[at == snapshot] for moment, (features, at) in moments.items()}
        if not any(len(features) for features in wanted.values()):
            continue
        readout = readout_at(step)
        for moment, features in wanted.items():
            raw = dictionary.decoder[snapshot, features] / dictionary.scale[snapshot]  # [feature, model]
            found = _strongest(raw, readout, n_tokens=min(len(texts), len(readout.embedding)), n_listed=n_listed)
            parts.append(_rows(features, found, texts).assign(moment=moment, step=step))
    if not parts:
        return pd.DataFrame(columns=["layer", "feature", "moment", "step", "sign", "rank", "token", "logit"])
    return pd.concat(parts, ignore_index=True).assign(layer=layer)


def _strongest(
    directions: np.ndarray, readout: Readout, *, n_tokens: int, n_listed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return per sign the token ids and logits listed, [direction, rank] each, strongest first."""
    n_listed = min(n_listed, n_tokens)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"promotes": [], "suppresses": []}
    size = max(1, ENTRIES_AT_A_TIME // n_tokens)
    for first in range(0, len(directions), size):
        logits = logits_of(directions[first : first + size], readout, n_tokens=n_tokens)
        for sign, signed in (("promotes", -logits), ("suppresses", logits)):
            near = np.sort(np.argpartition(signed, n_listed - 1, axis=1)[:, :n_listed], axis=1)
            order = np.argsort(np.take_along_axis(signed, near, axis=1), axis=1, kind="stable")
            token = np.take_along_axis(near, order, axis=1)
            found[sign].append((token, np.take_along_axis(logits, token, axis=1)))
    return {sign: _joined(parts, n_listed) for sign, parts in found.items()}


def _joined(parts: list[tuple[np.ndarray, np.ndarray]], n_listed: int) -> tuple[np.ndarray, np.ndarray]:
    if not parts:
        return np.zeros((0, n_listed), dtype=np.int64), np.zeros((0, n_listed), dtype=np.float32)
    return np.concatenate([token for token, _ in parts]), np.concatenate([logit for _, logit in parts])


def _rows(
    features: np.ndarray, found: Mapping[str, tuple[np.ndarray, np.ndarray]], texts: Sequence[str]
) -> pd.DataFrame:
    vocabulary = np.array(texts, dtype=object)
    parts = []
    for sign, (token, logit) in found.items():
        n_listed = token.shape[1]
        parts.append(
            pd.DataFrame(
                {
                    "feature": np.repeat(features, n_listed),
                    "sign": sign,
                    "rank": np.tile(np.arange(n_listed), len(features)),
                    "token": vocabulary[token.ravel()],
                    "logit": logit.ravel(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
