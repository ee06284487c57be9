"""Read dictionaries saved by llamascopium (Language-Model-SAEs) and say them in our terms (CROSSCODER 1, 5).

Its activation function acts on u = z · ‖W_D[s, i]‖ and its result is divided by the norm again, so that the code is
f = z · 1[u > θ_i]: our gate `per_snapshot`. relu is the threshold 0. batchtopk ranks u over a batch and stores no
threshold, so that one must be given or measured; topk ranks it within a token, which no threshold can express.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snapcoder.interop.decoder_norms import exact_norms
from snapcoder.interop.files import InteropError, require_finite, require_shape
from snapcoder.interop.folding import fold
from snapcoder.storage.dictionaries import Dictionary

_NORM = "dataset_average_activation_norm."
_THRESHOLD = "activation_function.log_jumprelu_threshold"
_STEP = re.compile(r"(?:step|checkpoint|ckpt|iter)[-_=]?(\d+)", re.IGNORECASE)
_BLOCK = re.compile(r"(?:blocks|layers|layer|L)[._]?(\d+)(?!\d)")
ARMS = {"jumprelu": "jumprelu", "relu": "relu_l1", "batchtopk": "batchtopk"}
_REFUSED = {
    "topk": "topk keeps the largest entries of each token, which depends on all its features: no threshold per feature "
    "can express it; train with jumprelu or batchtopk",
    "batchlayertopk": "batchlayertopk belongs to cross-layer transcoders",
    "layertopk": "layertopk belongs to cross-layer transcoders",
}


@dataclass(frozen=True)
class LlamascopiumFile:
    """What a file of llamascopium says; a plain SAE is a crosscoder of one snapshot.

    encoder [snapshot, model, feature]; decoder [snapshot, feature, model]; encoder_bias [snapshot, feature];
    decoder_bias [snapshot, model]; threshold [feature], in the units of the gate, None when there is none (batchtopk);
    norms [snapshot] or None when the file has none; norm_mode: norm_activation of its config.json.
    """

    path: Path
    encoder: np.ndarray
    decoder: np.ndarray
    encoder_bias: np.ndarray
    decoder_bias: np.ndarray
    threshold: np.ndarray | None
    norms: np.ndarray | None
    hook_points: tuple[str, ...]
    act_fn: str
    norm_mode: str
    k: float

    @property
    def d_model(self) -> int:
        """Width."""
        return int(self.encoder.shape[1])

    def steps(self) -> tuple[int, ...] | None:
        """Return the training steps that the hook points name, or None when they do not name one each."""
        found = [_STEP.findall(name) for name in self.hook_points]
        steps = tuple(int(numbers[-1]) for numbers in found if len(set(numbers)) == 1)
        return steps if len(set(steps)) == len(self.hook_points) else None

    def layer(self) -> int | None:
        """Return the block that the hook points name, or None when they do not agree on one."""
        blocks = {number for name in self.hook_points for number in _BLOCK.findall(name)}
        return int(blocks.pop()) if len(blocks) == 1 else None


def is_llamascopium(tensors: Mapping[str, np.ndarray]) -> bool:
    """Return whether the tensors carry llamascopium's names."""
    return {"W_E", "b_E", "W_D"} <= tensors.keys()


def parse(path: Path, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> LlamascopiumFile:
    """Check a file's tensors against its config.json; raise `InteropError` for what we cannot express."""
    if not config:
        raise InteropError(f"{path}: no config.json beside it; it says which activation function and scaling were used")
    kind, act_fn, norm_mode = (str(config.get(key, "")) for key in ("sae_type", "act_fn", "norm_activation"))
    if kind not in ("crosscoder", "sae"):
        raise InteropError(f"{path}: sae_type {kind!r} cannot be imported, only crosscoder and sae")
    if act_fn.lower() not in ARMS:
        raise InteropError(f"{path}: act_fn {act_fn!r}: {_REFUSED.get(act_fn.lower(), 'unknown')}")
    if norm_mode not in ("dataset-wise", "inference"):
        raise InteropError(
            f"{path}: norm_activation {norm_mode!r} scales every token or batch by its own norm; only one scale per "
            "snapshot can be expressed (dataset-wise, inference)"
        )
    if kind == "sae":
        tensors, config = _as_crosscoder(path, tensors, config)
    hook_points = tuple(str(name) for name in config.get("hook_points", ()))
    shape = tensors["W_E"].shape
    if len(shape) != 3 or shape[0] != len(hook_points):
        raise InteropError(f"{path}: W_E has shape {shape}, but config.json names {len(hook_points)} hook_points")
    n_snapshots, d_model, n_features = shape
    decoder_bias = tensors.get("b_D", np.zeros((n_snapshots, d_model), dtype=np.float32))
    require_shape(path, "W_D", tensors["W_D"], (n_snapshots, n_features, d_model))
    require_shape(path, "b_E", tensors["b_E"], (n_snapshots, n_features))
    require_shape(path, "b_D", decoder_bias, (n_snapshots, d_model))
    require_finite(path, W_E=tensors["W_E"], W_D=tensors["W_D"], b_E=tensors["b_E"], b_D=decoder_bias)
    names = [_NORM + name for name in hook_points]
    return LlamascopiumFile(
        path=path,
        encoder=tensors["W_E"],
        decoder=tensors["W_D"],
        encoder_bias=tensors["b_E"],
        decoder_bias=decoder_bias,
        threshold=_threshold(path, tensors, config, act_fn.lower()),
        norms=np.array([tensors[name].item() for name in names]) if all(name in tensors for name in names) else None,
        hook_points=hook_points,
        act_fn=act_fn.lower(),
        norm_mode=norm_mode,
        k=float(config.get("top_k", 50)),
    )


def _as_crosscoder(
    path: Path, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if config.get("use_glu_encoder") or "W_E_glu" in tensors:
        raise InteropError(f"{path}: its encoder has a gated linear unit, ours is linear")
    if config.get("hook_point_in") != config.get("hook_point_out"):
        raise InteropError(f"{path}: is a transcoder ({config.get('hook_point_in')} to {config.get('hook_point_out')})")
    stacked = {name: tensors[name][None] for name in ("W_E", "W_D", "b_E", "b_D") if name in tensors}
    return {**tensors, **stacked}, {**config, "hook_points": [config.get("hook_point_in")]}


def _threshold(
    path: Path, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any], act_fn: str
) -> np.ndarray | None:
    """Return the threshold of z · norm [feature]; None when the file stores none."""
    n_snapshots, n_features, _ = tensors["W_D"].shape
    if act_fn == "relu":
        return np.zeros(n_features, dtype=np.float32)
    if act_fn == "batchtopk":
        return None
    if _THRESHOLD not in tensors:
        raise InteropError(f"{path}: act_fn is jumprelu, but {_THRESHOLD} is missing")
    require_shape(path, _THRESHOLD, tensors[_THRESHOLD], (n_features,))
    threshold = np.exp(tensors[_THRESHOLD].astype(np.float64))
    require_finite(path, threshold=threshold)
    if not config.get("sparsity_include_decoder_norm", True):
        if n_snapshots > 1:
            raise InteropError(f"{path}: sparsity_include_decoder_norm is false, which its crosscoder does not have")
        threshold = threshold * exact_norms(tensors["W_D"])[0]  # z > θ ⇔ z n > θ n
    return threshold.astype(np.float32)


def to_dictionary(
    file: LlamascopiumFile,
    *,
    norms: np.ndarray | None,
    folds: int,
    threshold: np.ndarray,
    steps: tuple[int, ...],
    layer: int,
) -> Dictionary:
    """Return the dictionary after undoing `folds` foldings.

    norms [snapshot]: μ, so that scale = √d / μ; None for a dictionary that reads raw activations (scale 1).
    """
    encoder_bias, decoder_bias = file.encoder_bias, file.decoder_bias
    if folds and norms is not None:
        encoder_bias = fold(encoder_bias, norms, file.d_model, times=-folds)
        decoder_bias = fold(decoder_bias, norms, file.d_model, times=-folds)
    scale = np.ones(len(steps)) if norms is None else np.sqrt(file.d_model) / np.asarray(norms, dtype=np.float64)
    return Dictionary(
        encoder=file.encoder,
        decoder=file.decoder,
        encoder_bias=encoder_bias.astype(np.float64).sum(axis=0).astype(np.float32),
        decoder_bias=np.ascontiguousarray(decoder_bias, dtype=np.float32),
        threshold=np.asarray(threshold, dtype=np.float32),
        scale=scale.astype(np.float32),
        center=np.zeros((len(steps), file.d_model), dtype=np.float32),
        steps=steps,
        gate="per_snapshot",
        arm=ARMS[file.act_fn],
        layer=layer,
    )
