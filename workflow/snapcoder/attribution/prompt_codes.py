"""The sparse code of task prompts: shared over the base snapshots, gated at the snapshot that is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor

from snapcoder.storage.dictionaries import Dictionary, Extension

_CHUNK_ENTRIES = 1 << 22  # of the dense pre-activations held at once


@dataclass(frozen=True)
class SnapshotDictionary:
    """What a dictionary says about one snapshot, base or added.

    decoder [feature, model]; threshold, gate_norm [feature]: on where z · gate_norm > threshold; x = (a − center) ·
    scale; own_encoder [model, feature] and own_bias [feature]: an added snapshot's own term of z, else None.
    """

    decoder: np.ndarray
    decoder_bias: np.ndarray
    threshold: np.ndarray
    gate_norm: np.ndarray
    scale: float
    center: np.ndarray
    own_encoder: np.ndarray | None = None
    own_bias: np.ndarray | None = None

    def of_features(self, features: np.ndarray) -> "SnapshotDictionary":
        """Return the part that belongs to some features, in their order."""
        return replace(
            self,
            decoder=self.decoder[features],
            threshold=self.threshold[features],
            gate_norm=self.gate_norm[features],
            own_encoder=None if self.own_encoder is None else self.own_encoder[:, features],
            own_bias=None if self.own_bias is None else self.own_bias[features],
        )


def of_snapshot(dictionary: Dictionary, step: int, extension: Extension | None = None) -> SnapshotDictionary:
    """Return the part of the dictionary, or the extension, that belongs to the snapshot at `step`.

    Raises ValueError when the step is neither a base snapshot nor that of the extension.
    """
    if extension is not None:
        if extension.step != step:
            raise ValueError(f"the extension is of step {extension.step}, expected step {step}; delete it and rerun")
        return SnapshotDictionary(
            decoder=extension.decoder,
            decoder_bias=extension.decoder_bias,
            threshold=extension.threshold,
            gate_norm=np.linalg.norm(extension.decoder, axis=1),
            scale=float(extension.scale),
            center=extension.center,
            own_encoder=extension.encoder,
            own_bias=extension.encoder_bias,
        )
    if step not in dictionary.steps:
        raise ValueError(f"step {step} is no base snapshot of the dictionary and has no extension; add it to the study")
    index = dictionary.steps.index(step)
    norms = dictionary.decoder_norms()  # [snapshot, feature]
    gate_norm = norms[index] if dictionary.gate == "per_snapshot" else np.sqrt((norms**2).mean(axis=0))
    return SnapshotDictionary(
        decoder=dictionary.decoder[index],
        decoder_bias=dictionary.decoder_bias[index],
        threshold=dictionary.threshold,
        gate_norm=gate_norm,
        scale=float(dictionary.scale[index]),
        center=dictionary.center[index],
    )


def prompt_codes(
    dictionary: Dictionary,
    here: SnapshotDictionary,
    base: Sequence[np.ndarray],
    own: np.ndarray,
    *,
    features: np.ndarray | None = None,
) -> csr_array:
    """Return the gated code f [position, feature] of prompts at one snapshot.

    z = Σ_s x_s · encoder[s] + encoder_bias over all base snapshots, plus the snapshot's own term when it was added
    later; f = z · 1[z · gate_norm > threshold]. base: one [position, model] array of raw activations per base
    snapshot, in the order of `dictionary.steps`; own: those of the snapshot itself. features: columns that are needed,
    in this order; default all.
    """
    if len(base) != len(dictionary.steps):
        raise ValueError(f"prompts of {len(base)} snapshots for a dictionary of {len(dictionary.steps)}; rerun prompts")
    encoder, encoder_bias = dictionary.encoder, dictionary.encoder_bias
    if features is not None:
        encoder, encoder_bias, here = encoder[:, :, features], encoder_bias[features], here.of_features(features)
    n_snapshots, d_model, n_features = encoder.shape
    weights = torch.from_numpy(encoder.reshape(n_snapshots * d_model, n_features))
    bias = torch.from_numpy(encoder_bias)
    parts = []
    size = max(1, _CHUNK_ENTRIES // max(n_features, 1))
    for start in range(0, len(own), size):
        rows = slice(start, start + size)
        x = np.concatenate(
            [(a[rows] - dictionary.center[s]) * dictionary.scale[s] for s, a in enumerate(base)], axis=1
        )  # [position, snapshot · model]
        z = torch.addmm(bias, torch.from_numpy(x), weights)  # [position, feature]
        if here.own_encoder is not None and here.own_bias is not None:
            x_own = torch.from_numpy((own[rows] - here.center) * np.float32(here.scale))
            z += x_own @ torch.from_numpy(here.own_encoder) + torch.from_numpy(here.own_bias)
        parts.append(_gated(z, here))
    return csr_array(vstack(parts, format="csr")) if parts else csr_array((0, n_features), dtype=np.float32)


def _gated(z: Tensor, here: SnapshotDictionary) -> csr_array:
    on = z * torch.from_numpy(here.gate_norm) > torch.from_numpy(here.threshold)
    row, feature = torch.nonzero(on, as_tuple=True)
    values = (z[row, feature].numpy(), (row.numpy(), feature.numpy()))
    return csr_array(values, shape=tuple(z.shape))
