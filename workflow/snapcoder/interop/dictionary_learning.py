"""Read dictionaries saved by dictionary_learning, the crosscoders of its fork included, and say them in our terms.

The crosscoders (encoder.weight [snapshot, model, feature]) keep one code for all snapshots, f = ReLU(z), and switch it
on by f · w > τ, where the code normalisation gives w: NONE 1, CROSSCODER Σ_s n_s, SAE √(Σ_s n_s²), MIXED a weighted sum
of these two, n_s being the decoder norms; DECOUPLED decides at each snapshot by f · n_s > τ_s. Ours is z · rms > θ_i
(gate `shared`) or z · n_s > θ_i (`per_snapshot`). So θ_i = τ · rms_i / w_i, exactly; and unequal τ_s are made equal by
measuring snapshot s in other units: scale, decoder and decoder bias times τ / τ_s, the encoder divided by it.

The autoencoders of one snapshot gate by f > τ, which is z · n > τ · n.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from snapcoder.interop.decoder_norms import exact_norms
from snapcoder.interop.files import InteropError, require_finite, require_shape
from snapcoder.storage.dictionaries import Dictionary

CODE_NORMALISATIONS = {1: "CROSSCODER", 2: "SAE", 3: "MIXED", 4: "NONE", 5: "DECOUPLED"}  # the fork's enumeration
_REFUSED = {
    "GatedAutoEncoder": "its gate and its magnitude are two different functions of the activation, ours are one",
    "AutoEncoderTopK": "topk depends on all features of a token; no threshold per feature can express it",
}
_AUTOENCODERS = ("AutoEncoder", "AutoEncoderNew", "BatchTopKSAE", "JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE")


@dataclass(frozen=True)
class DictionaryLearningFile:
    """What a file of dictionary_learning says.

    dictionary: all but the gate (its threshold is 0, its steps and layer are placeholders); weights [gate, feature]:
    what the code is multiplied with before it is compared, one row or one per snapshot; threshold [gate] or [feature],
    None when it was never tracked; k: active features per token, None when unknown; layer: None when unknown.
    """

    path: Path
    dictionary: Dictionary
    weights: np.ndarray
    threshold: np.ndarray | None
    k: float | None
    layer: int | None
    kind: str


def parse(path: Path, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> DictionaryLearningFile:
    """Check a file's tensors; raise `InteropError` for what we cannot express."""
    # torch.compile prefixes every name
    tensors = {name.removeprefix("_orig_mod."): array for name, array in tensors.items()}
    trainer = config.get("trainer", config)
    if not isinstance(trainer, Mapping):
        raise InteropError(f"{path}: the key trainer of its config.json is not an object")
    kind = str(trainer.get("dict_class") or _kind(path, tensors)).split(".")[-1]
    require_finite(path, **{n: a for n, a in tensors.items() if n.startswith(("encoder.", "decoder.", "W_", "b_"))})
    if kind in _REFUSED:
        raise InteropError(f"{path}: {kind}: {_REFUSED[kind]}")
    if kind in ("CrossCoder", "BatchTopKCrossCoder"):
        return _crosscoder(path, tensors, trainer, kind)
    if kind in _AUTOENCODERS:
        return _autoencoder(path, tensors, trainer, kind)
    raise InteropError(
        f"{path}: {kind} cannot be imported, only CrossCoder, BatchTopKCrossCoder, {', '.join(_AUTOENCODERS)}"
    )


def is_dictionary_learning(tensors: Mapping[str, np.ndarray]) -> bool:
    """Return whether the tensors carry dictionary_learning's names."""
    names = {name.removeprefix("_orig_mod.") for name in tensors}
    return {"encoder.weight", "decoder.weight"} <= names or {"W_enc", "W_dec"} <= names


def _kind(path: Path, tensors: Mapping[str, np.ndarray]) -> str:
    """Return the class of a file without config.json by its tensors' names."""
    if "encoder.weight" in tensors and tensors["encoder.weight"].ndim == 3:
        return "BatchTopKCrossCoder" if "threshold" in tensors else "CrossCoder"
    if "W_enc" in tensors:
        return "MatryoshkaBatchTopKSAE" if "group_sizes" in tensors else "JumpReluAutoEncoder"
    if "r_mag" in tensors:
        return "GatedAutoEncoder"
    if "b_dec" in tensors:
        raise InteropError(
            f"{path}: could be BatchTopKSAE or AutoEncoderTopK, whose files look alike; put its config.json beside it"
        )
    return "AutoEncoder" if "bias" in tensors else "AutoEncoderNew"


def _crosscoder(
    path: Path, tensors: Mapping[str, np.ndarray], trainer: Mapping[str, Any], kind: str
) -> DictionaryLearningFile:
    encoder, decoder = _require(path, tensors, "encoder.weight"), _require(path, tensors, "decoder.weight")
    if encoder.ndim != 3:
        raise InteropError(f"{path}: encoder.weight of a {kind} has shape {encoder.shape}, expected three axes")
    n_snapshots, d_model, n_features = encoder.shape
    if decoder.ndim == 3 and len(decoder) != n_snapshots:
        raise InteropError(
            f"{path}: reads {n_snapshots} inputs and writes {len(decoder)}; ours reads and writes the same snapshots"
        )
    require_shape(path, "decoder.weight", decoder, (n_snapshots, n_features, d_model))
    if list(trainer.get("encoder_layers") or range(n_snapshots)) != list(range(n_snapshots)):
        raise InteropError(f"{path}: encoder_layers reorders or leaves out inputs, which ours does not")
    scale, center = _normaliser(path, tensors, n_snapshots, d_model)
    relu = kind == "CrossCoder"
    return DictionaryLearningFile(
        path=path,
        dictionary=Dictionary(
            encoder=encoder,
            decoder=decoder,
            encoder_bias=_shaped(path, tensors, "encoder.bias", (n_features,)),
            decoder_bias=_shaped(path, tensors, "decoder.bias", (n_snapshots, d_model)),
            threshold=np.zeros(n_features, dtype=np.float32),
            scale=scale,
            center=center,
            steps=tuple(range(n_snapshots)),
            gate="per_snapshot",
            arm="relu_l1" if relu else "batchtopk",
            layer=0,
        ),
        weights=code_weights(decoder, _code_normalisation(path, tensors, trainer), trainer),
        threshold=np.zeros(1) if relu else _tracked(tensors),
        k=_k(tensors, trainer),
        layer=_layer(trainer),
        kind=kind,
    )


def _autoencoder(
    path: Path, tensors: Mapping[str, np.ndarray], trainer: Mapping[str, Any], kind: str
) -> DictionaryLearningFile:
    if "W_enc" in tensors:  # [model, feature], [feature, model]
        encoder, decoder = tensors["W_enc"], _require(path, tensors, "W_dec")
        names = ("b_enc", "b_dec")
    else:  # torch.nn.Linear stores [out, in]
        encoder, decoder = _require(path, tensors, "encoder.weight").T, _require(path, tensors, "decoder.weight").T
        names = ("encoder.bias", {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(kind, "b_dec"))
    if encoder.ndim != 2:
        raise InteropError(f"{path}: the encoder of a {kind} has shape {encoder.shape}, expected two axes")
    d_model, n_features = encoder.shape
    require_shape(path, "the decoder, transposed as the encoder needs,", decoder, (n_features, d_model))
    bias = _shaped(path, tensors, names[1], (d_model,))
    scale, center = _normaliser(path, tensors, 1, d_model)
    # AutoEncoderNew and JumpReluAutoEncoder do not subtract the decoder bias from the input, the others do.
    subtracts = kind not in ("AutoEncoderNew", "JumpReluAutoEncoder")
    if subtracts:
        center = center + bias / scale[:, None]
    relu = kind in ("AutoEncoder", "AutoEncoderNew")
    return DictionaryLearningFile(
        path=path,
        dictionary=Dictionary(
            encoder=np.ascontiguousarray(encoder)[None],
            decoder=np.ascontiguousarray(decoder)[None],
            encoder_bias=_shaped(path, tensors, names[0], (n_features,)),
            decoder_bias=np.zeros_like(bias)[None] if subtracts else bias[None],
            threshold=np.zeros(n_features, dtype=np.float32),
            scale=scale,
            center=center.astype(np.float32),
            steps=(0,),
            gate="per_snapshot",
            arm="relu_l1" if relu else "jumprelu" if kind == "JumpReluAutoEncoder" else "batchtopk",
            layer=0,
        ),
        weights=np.ones((1, n_features)),
        threshold=np.zeros(1) if relu else _tracked(tensors),
        k=_k(tensors, trainer),
        layer=_layer(trainer),
        kind=kind,
    )


def code_weights(decoder: np.ndarray, normalisation: str, trainer: Mapping[str, Any]) -> np.ndarray:
    """Return what the code is multiplied with before the threshold, [1, feature] or, DECOUPLED, [snapshot, feature]."""
    norms = exact_norms(decoder)
    joint, summed = np.sqrt(np.square(norms).sum(axis=0, keepdims=True)), norms.sum(axis=0, keepdims=True)
    if normalisation == "MIXED":
        alpha_sae = float(trainer.get("code_normalization_alpha_sae") or 1.0)
        alpha_cc = float(trainer.get("code_normalization_alpha_cc") or 0.1)
        return alpha_sae * joint + alpha_cc * summed
    return {"SAE": joint, "CROSSCODER": summed, "NONE": np.ones_like(joint), "DECOUPLED": norms}[normalisation]


def to_dictionary(
    file: DictionaryLearningFile, *, threshold: np.ndarray, steps: tuple[int, ...], layer: int
) -> Dictionary:
    """Return the dictionary with its gate, threshold [gate] or [feature] being in the file's own units."""
    base = replace(file.dictionary, steps=steps, layer=layer)
    n_snapshots, n_features = base.decoder.shape[:2]
    threshold = np.maximum(np.asarray(threshold, dtype=np.float64), 0.0)  # f = ReLU(z) is never below 0
    if not threshold.any():
        return base
    if len(file.weights) == 1:
        norms = exact_norms(base.decoder)
        rms = np.sqrt(np.square(norms).mean(axis=0))
        ours = threshold * np.divide(rms, file.weights[0], out=np.ones_like(rms), where=file.weights[0] > 0)
        gate = "shared" if n_snapshots > 1 else "per_snapshot"
        return replace(base, threshold=ours.astype(np.float32), gate=gate)
    if not threshold.all():
        raise InteropError(
            f"{file.path}: DECOUPLED thresholds {np.round(threshold, 6).tolist()}: a snapshot without a threshold beside "
            "snapshots with one cannot be expressed"
        )
    factor = threshold.max() / threshold * np.ones(n_snapshots)  # [snapshot]
    return replace(
        base,
        encoder=(base.encoder / factor[:, None, None]).astype(np.float32),
        decoder=(base.decoder * factor[:, None, None]).astype(np.float32),
        decoder_bias=(base.decoder_bias * factor[:, None]).astype(np.float32),
        scale=(base.scale * factor).astype(np.float32),
        threshold=np.full(n_features, threshold.max(), dtype=np.float32),
    )


def _normaliser(
    path: Path, tensors: Mapping[str, np.ndarray], n_snapshots: int, d_model: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return scale [snapshot] and center [snapshot, model] of the stored activation normaliser; none is 1 and 0.

    Its x = (a − mean) · scale with scale = target_rms / √(Σ std²). Files without one hold NaN, or nothing.
    """
    none = np.ones(n_snapshots, dtype=np.float32), np.zeros((n_snapshots, d_model), dtype=np.float32)
    if "activation_mean" not in tensors or np.isnan(tensors["activation_mean"]).any():
        return none
    mean = np.atleast_2d(tensors["activation_mean"])
    deviation = np.atleast_2d(_require(path, tensors, "activation_std"))
    require_shape(path, "activation_mean", mean, (n_snapshots, d_model))
    require_shape(path, "activation_std", deviation, (n_snapshots, d_model))
    if np.isnan(deviation).any():
        return none
    scale = np.atleast_1d(_require(path, tensors, "activation_global_scale")).astype(np.float64)
    target = float(tensors.get("target_rms", np.ones(())))
    expected = target / np.sqrt(np.square(deviation.astype(np.float64)).sum(axis=1) + 1e-8)
    if scale.shape != (n_snapshots,) or not np.allclose(scale, expected, rtol=1e-2):
        raise InteropError(
            f"{path}: its activations were divided by a standard deviation per dimension; only one scale per snapshot "
            "can be expressed"
        )
    return scale.astype(np.float32), mean.astype(np.float32)


def _code_normalisation(path: Path, tensors: Mapping[str, np.ndarray], trainer: Mapping[str, Any]) -> str:
    """Return the name of the code normalisation; files of old versions name none, and used CROSSCODER."""
    if "code_normalization_id" in tensors:
        number = int(tensors["code_normalization_id"])
        if number not in CODE_NORMALISATIONS:
            raise InteropError(f"{path}: code_normalization_id {number} is unknown (1 to 5)")
        return CODE_NORMALISATIONS[number]
    name = str(trainer.get("code_normalization") or "CROSSCODER").upper()
    if name not in CODE_NORMALISATIONS.values():
        raise InteropError(f"{path}: code_normalization {name} is unknown")
    return name


def _tracked(tensors: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return the stored threshold [gate] or [feature]; None when it is missing or still −1, its initial value."""
    threshold = tensors.get("threshold")
    return None if threshold is None or (threshold == -1.0).all() else np.atleast_1d(threshold)


def _k(tensors: Mapping[str, np.ndarray], trainer: Mapping[str, Any]) -> float | None:
    value = tensors["k"].item() if "k" in tensors else trainer.get("k")
    return float(value) if isinstance(value, int | float) else None


def _layer(trainer: Mapping[str, Any]) -> int | None:
    layer = trainer.get("layer")
    return layer if isinstance(layer, int) and layer >= 0 else None


def _require(path: Path, tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in tensors:
        raise InteropError(f"{path}: {name} is missing (found {', '.join(sorted(tensors))})")
    return tensors[name]


def _shaped(path: Path, tensors: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = _require(path, tensors, name)
    require_shape(path, name, array, shape)
    return array
