"""Write a dictionary in llamascopium's format: sae_weights.safetensors and config.json in one folder (CROSSCODER 5).

Its format has no center. With our x = (a − c) · scale and its x′ = a · √d / μ, the two agree exactly by μ = √d / scale,
Σ_s b_E[s] = encoder_bias − Σ_s scale_s c_s · encoder[s] and b_D[s] = decoder_bias[s] + scale_s c_s.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from snapcoder.interop.decoder_norms import exact_norms
from snapcoder.interop.files import InteropError
from snapcoder.storage.atomic import atomic_path, write_text
from snapcoder.storage.dictionaries import Dictionary, read_dictionary

_TINY_NORM = 1e-15  # its JumpReLU(u) / norm is NaN for a decoder row of norm 0; the square still is a normal float32
_EQUAL_NORMS = 1e-5


def read_ours(path: Path) -> Dictionary:
    """Read a dictionary of Snapcoder; raise `InteropError` when the file is something else."""
    try:
        return read_dictionary(path)
    except (SafetensorError, KeyError) as error:
        raise InteropError(f"{path}: not a dictionary written by Snapcoder ({error})") from error


def write_llamascopium(folder: Path, dictionary: Dictionary, *, source: str) -> list[str]:
    """Write the two files; return what was changed on the way, one sentence each.

    Raises `InteropError` for a dictionary that the format cannot express. `source` is named in the config.
    """
    tensors, config, notes = to_llamascopium(dictionary)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "sae_weights.safetensors") as part:
        save_file(tensors, part, metadata={"version": "written by snapcoder"})
    write_text(folder / "config.json", json.dumps({**config, "snapcoder": {"source": source}}, indent=4) + "\n")
    return notes


def to_llamascopium(dictionary: Dictionary) -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]]:
    """Return the tensors by llamascopium's names, its config and what was changed on the way."""
    threshold = _snapshot_thresholds(dictionary)
    notes = []
    n_snapshots, d_model, n_features = dictionary.encoder.shape
    hook_points = [f"step{step}.blocks.{dictionary.layer}.hook_resid_post" for step in dictionary.steps]
    scale = dictionary.scale.astype(np.float64)
    shift = dictionary.center.astype(np.float64) * scale[:, None]  # [snapshot, model]
    encoder_bias = dictionary.encoder_bias - np.einsum("sd,sdf->f", shift, dictionary.encoder, optimize=True)
    if dictionary.center.any():
        notes.append("the centers were folded into b_E and b_D, exactly; the format has none")
    decoder, n_silent = _without_zero_rows(dictionary.decoder)
    if n_silent:
        notes.append(f"{n_silent} decoder rows of norm 0 were given norm {_TINY_NORM:g}, because 0 becomes NaN there")
    tensors = {
        "W_E": dictionary.encoder,
        "W_D": decoder,
        # Equal shares, as its own training leaves them, so that a later folding can be told from the file.
        "b_E": np.repeat(encoder_bias[None] / n_snapshots, n_snapshots, axis=0),
        "b_D": dictionary.decoder_bias + shift,
        **{
            f"dataset_average_activation_norm.{name}": np.array(norm)
            for name, norm in zip(hook_points, np.sqrt(d_model) / scale, strict=True)
        },
    }
    relu = not threshold.any()
    if not relu:
        floor = float(np.finfo(np.float32).tiny)
        tensors["activation_function.log_jumprelu_threshold"] = np.log(np.maximum(threshold, floor))
        if dictionary.arm != "jumprelu":
            notes.append(f"arm {dictionary.arm} with its stored thresholds is written as jumprelu, which is the same")
    config = {
        "sae_type": "crosscoder",
        "d_model": d_model,
        "expansion_factor": expansion_factor(n_features, d_model),
        "use_decoder_bias": True,
        "act_fn": "relu" if relu else "jumprelu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "top_k": 50,
        "use_triton_kernel": False,
        "sparsity_threshold_for_triton_spmm_kernel": 0.996,
        "jumprelu_threshold_window": 2.0,
        "hook_points": hook_points,
    }
    return {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in tensors.items()}, config, notes


def expansion_factor(n_features: int, d_model: int) -> float:
    """Return a factor for which int(d_model · factor), as the library computes it, is n_features exactly."""
    factor = n_features / d_model
    while int(d_model * factor) < n_features:
        factor = math.nextafter(factor, math.inf)
    return factor


def _snapshot_thresholds(dictionary: Dictionary) -> np.ndarray:
    """Return θ [feature] for which z · norm > θ at each snapshot is the dictionary's own gate.

    Gate `shared`, z · rms > θ, is that only where a feature has one norm at all snapshots that it writes to; where it
    writes nothing, the gate does not matter. Raises `InteropError` otherwise.
    """
    threshold = dictionary.threshold.astype(np.float64)
    if (threshold < 0).any():
        raise InteropError("a threshold below 0 lets negative codes pass, which none of its activation functions does")
    if dictionary.gate == "per_snapshot":
        return threshold
    norms = exact_norms(dictionary.decoder)  # [snapshot, feature]
    largest = norms.max(axis=0)
    unequal = ((norms > 0) & (largest - norms > _EQUAL_NORMS * largest)).any(axis=0) & (threshold > 0)
    if unequal.any():
        raise InteropError(
            f"gate 'shared' decides once for all snapshots, the format at each snapshot by its decoder norm: "
            f"{int(unequal.sum())} features have unequal norms and would switch off at some snapshots; "
            "train with crosscoder.gate: per_snapshot to export"
        )
    rms = np.sqrt(np.square(norms).mean(axis=0))
    return threshold * np.divide(largest, rms, out=np.ones_like(rms), where=rms > 0)


def _without_zero_rows(decoder: np.ndarray) -> tuple[np.ndarray, int]:
    zero = np.linalg.norm(decoder, axis=2) < _TINY_NORM
    if zero.any():
        decoder = decoder.copy()
        decoder[zero] = 0.0
        decoder[zero, 0] = _TINY_NORM
    return decoder, int(zero.sum())
