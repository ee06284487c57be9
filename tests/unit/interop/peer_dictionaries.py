"""Dictionaries as other libraries save and compute them, written from their documented formulas alone, in torch."""

import json
import math

import numpy as np
import torch
from safetensors.torch import save_file

from snapcoder.crosscoder.model import decode, encode, from_dictionary
from snapcoder.crosscoder.normalise import Normaliser
from snapcoder.storage.activations import RowTable, write_cache

STEPS = (0, 64, 1000)
NORMS = (3.9, 20.0, 160.0)
D_MODEL, N_FEATURES = 16, 12


def planted(seed=0, norms=NORMS, n_rows=600):
    """A crosscoder that explains its activations well: parts as llamascopium trains them, and raw activations.

    The encoder is the pseudo-inverse of the decoder, so that z recovers the planted code; the encoder biases of the
    snapshots are equal, as training leaves them.
    """
    random = torch.Generator().manual_seed(seed)
    n_snapshots = len(norms)
    decoder = torch.randn(n_snapshots, N_FEATURES, D_MODEL, generator=random, dtype=torch.float64)
    decoder *= torch.rand(n_snapshots, N_FEATURES, 1, generator=random, dtype=torch.float64) + 0.3
    decoder_bias = torch.randn(n_snapshots, D_MODEL, generator=random, dtype=torch.float64)
    on = torch.rand(n_rows, N_FEATURES, generator=random, dtype=torch.float64) < 0.25
    code = (1 + torch.rand(n_rows, N_FEATURES, generator=random, dtype=torch.float64)) * on
    x = torch.einsum("nf,sfd->nsd", code, decoder) + decoder_bias
    to_unit_rms = math.sqrt(D_MODEL) / x.norm(dim=2).mean(dim=0)[:, None]  # mean norm √d at every snapshot
    x, decoder, decoder_bias = x * to_unit_rms, decoder * to_unit_rms[:, None], decoder_bias * to_unit_rms
    encoder = torch.linalg.pinv(decoder) / n_snapshots  # [snapshot, model, feature]
    bias = -torch.einsum("sd,sdf->f", decoder_bias, encoder)
    raw = x * torch.tensor(norms, dtype=torch.float64)[:, None] / math.sqrt(D_MODEL)
    parts = {
        "W_E": encoder,
        "W_D": decoder,
        "b_E": (bias / n_snapshots).expand(n_snapshots, -1).clone(),
        "b_D": decoder_bias,
        "activation_function.log_jumprelu_threshold": torch.full((N_FEATURES,), math.log(0.1), dtype=torch.float64),
    }
    return parts, raw


def llamascopium_forward(parts, raw, *, norms, act_fn="jumprelu", k=None):
    """Codes [token, snapshot, feature] and raw reconstructions, by its own order of operations; norms None: unscaled."""
    parts = {name: tensor.double() for name, tensor in parts.items()}
    factor = torch.ones(raw.shape[1]) if norms is None else math.sqrt(raw.shape[2]) / torch.tensor(norms)
    factor = factor.double()[:, None]
    x = raw.double() * factor
    z = (torch.einsum("nsd,sdf->nsf", x, parts["W_E"]) + parts["b_E"]).sum(dim=1, keepdim=True)
    n = parts["W_D"].norm(dim=2)
    u = z * n
    if act_fn == "jumprelu":
        acts = u * (u > parts["activation_function.log_jumprelu_threshold"].exp())
    elif act_fn == "relu":
        acts = u.clamp_min(0)
    else:
        acts = u.clamp_min(0)
        acts = acts * (acts >= acts.flatten().topk(k * raw.shape[0] * raw.shape[1]).values[-1])
    codes = acts / n
    return codes, (torch.einsum("nsf,sfd->nsd", codes, parts["W_D"]) + parts["b_D"]) / factor


def fold_as_llamascopium(parts, norms):
    factor = math.sqrt(D_MODEL) / torch.tensor(norms, dtype=torch.float64)[:, None]
    return {**parts, "b_E": parts["b_E"] / factor, "b_D": parts["b_D"] / factor}


def write_llamascopium(folder, parts, *, norms=NORMS, hook_points=None, save="sae_weights.safetensors", **config):
    folder.mkdir(parents=True, exist_ok=True)
    hook_points = hook_points or [f"step{step}" for step in STEPS[: len(parts["W_E"])]]
    norms = norms if norms is not None else []
    state = {name: tensor.float().contiguous() for name, tensor in parts.items()}
    state |= {
        f"dataset_average_activation_norm.{name}": torch.tensor(float(norm))
        for name, norm in zip(hook_points, norms, strict=False)
    }
    if save.endswith(".pt"):
        torch.save({"sae": state, "version": "2.0.0"}, folder / save)
    else:
        save_file(state, folder / save, {"version": "2.0.0"})
    written = {
        "sae_type": "crosscoder",
        "d_model": parts["W_E"].shape[-2],
        "expansion_factor": parts["W_E"].shape[-1] / parts["W_E"].shape[-2],
        "act_fn": "jumprelu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "top_k": 50,
        "hook_points": hook_points,
        **config,
    }
    (folder / "config.json").write_text(json.dumps(written))
    return folder


def crosscoder_forward(state, raw, *, normalisation, batch_topk=True, alphas=(1.0, 0.1)):
    """Codes and raw reconstructions of the fork's CrossCoder and BatchTopKCrossCoder, at inference."""
    state = {name: torch.as_tensor(tensor).double() for name, tensor in state.items()}
    x, mean, scale = raw.double(), state.get("activation_mean"), state.get("activation_global_scale")
    if mean is not None and not mean.isnan().any():
        x = (x - mean) * scale[:, None]
    f = torch.relu(torch.einsum("nsd,sdf->nf", x, state["encoder.weight"]) + state["encoder.bias"])
    norms = state["decoder.weight"].norm(dim=2)
    joint, summed = norms.square().sum(0).sqrt(), norms.sum(0)
    weight = {
        "NONE": torch.ones_like(joint),
        "SAE": joint,
        "CROSSCODER": summed,
        "MIXED": alphas[0] * joint + alphas[1] * summed,
        "DECOUPLED": norms,
    }[normalisation]
    codes = f[:, None, :].expand(-1, len(norms), -1)
    if batch_topk:
        threshold = state["threshold"]
        codes = codes * (f[:, None, :] * weight > (threshold[:, None] if threshold.ndim else threshold))
    out = torch.einsum("nsf,sfd->nsd", codes, state["decoder.weight"]) + state["decoder.bias"]
    if mean is not None and not mean.isnan().any():
        out = out / scale[:, None] + mean
    return codes, out


def ours(dictionary, raw):
    """Codes [token, snapshot, feature] and raw reconstructions by our own encoder, gate and decoder, in float64."""
    parameters = from_dictionary(dictionary).map(torch.Tensor.double)
    normaliser = Normaliser.of(dictionary.center, dictionary.scale)
    center, scale = normaliser.center.double(), normaliser.scale.double()
    z = encode(parameters, (raw - center) * scale[:, None])
    threshold = torch.from_numpy(dictionary.threshold).double()
    x = decode(parameters, z, threshold, gate=dictionary.gate)
    norms = parameters.norms()
    if dictionary.gate == "shared":
        norms = norms.square().mean(0, keepdim=True).sqrt().expand(len(scale), -1)
    codes = z[:, None, :] * (z[:, None, :] * norms > threshold)
    return codes, x / scale[:, None] + center


def write_caches(folder, raw, steps=STEPS, layer=6):
    """Write raw activations [row, snapshot, model] as activation caches; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    n_rows = len(raw)
    numbers = np.arange(n_rows, dtype=np.int32)
    rows = RowTable(numbers // 8, numbers % 8, numbers, numbers // 8, (numbers >= n_rows - 50).astype(np.uint8))
    paths = [folder / f"step{step}.h5" for step in steps]
    for index, (path, step) in enumerate(zip(paths, steps, strict=True)):
        write_cache(
            path,
            [raw[:, index].float().numpy()],
            rows=rows,
            step=step,
            layer=layer,
            site=f"blocks.{layer}.resid_post",
            d_model=raw.shape[2],
            dtype="float32",
            provenance={},
        )
    return paths
