"""Runs under a Python that has llamascopium: load our exports with its loader, save its own crosscoders, compute both."""

import sys
from pathlib import Path

import torch
from llamascopium.models.crosscoder import Crosscoder, CrosscoderConfig
from llamascopium.models.sparse_dictionary import SparseDictionary
from safetensors.torch import load_file, save_file

STEPS, NORMS = (0, 64, 1000, 143_000), (3.9, 20.0, 55.0, 160.0)


@torch.no_grad()
def compute(model: Crosscoder, raw: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return codes and raw reconstructions by the library's own normalisation, encoder and decoder."""
    batch, factors = model.normalize_activations(
        {name: raw[:, index] for index, name in enumerate(model.cfg.hook_points)}, return_scale_factor=True
    )
    codes = model.encode(model.prepare_input(batch)[0])
    decoded = model.decode(codes)
    heads = {name: decoded[:, index] for index, name in enumerate(model.cfg.hook_points)}
    back = model.denormalize_activations(heads, factors)
    return {"codes": codes.contiguous(), "reconstruction": torch.stack(list(back.values()), dim=1)}


def trained_here(act_fn: str, d_model: int, raw: torch.Tensor) -> Crosscoder:
    """Return a crosscoder of random weights that some steps of Adam have moved, as its trainer leaves one."""
    torch.manual_seed(0)
    config = CrosscoderConfig(
        hook_points=[f"step{step}" for step in STEPS], d_model=d_model, expansion_factor=3, act_fn=act_fn
    )
    model = Crosscoder(config)
    model.init_parameters(encoder_uniform_bound=0.1, decoder_uniform_bound=0.1, init_log_jumprelu_threshold_value=-1.0)
    model.set_dataset_average_activation_norm(dict(zip(config.hook_points, NORMS, strict=True)))
    batch = model.normalize_activations({name: raw[:, index] for index, name in enumerate(config.hook_points)})
    x = model.prepare_input(batch)[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(20):
        optimizer.zero_grad()
        codes = model.encode(x)
        loss = (model.decode(codes) - x).square().sum(-1).mean() + 0.01 * (codes * model.decoder_norm()).sum(-1).mean()
        loss.backward()
        optimizer.step()
    return model


def main() -> None:
    """Compute every export of ours; save, fold and save again a crosscoder of its own per activation function."""
    folder = Path(sys.argv[1])
    raw = load_file(folder / "raw.safetensors")["raw"]
    for path in sorted((folder / "ours").iterdir()):
        model = SparseDictionary.from_pretrained(str(path), fold_activation_scale=False)
        save_file(compute(model, raw), path / "computed.safetensors")
    for act_fn in ("jumprelu", "relu"):
        model = trained_here(act_fn, raw.shape[2], raw)
        expected = compute(model, raw)
        for name, saved_folds, mode in (
            ("unfolded", 0, 0),
            ("folded", 1, 1),
            ("folded-config-before", 1, 0),
            ("twice", 2, 0),
        ):
            path = folder / "theirs" / f"{act_fn}-{name}"
            path.mkdir(parents=True, exist_ok=True)
            copy = trained_here(act_fn, raw.shape[2], raw)
            copy.cfg.save_hyperparameters(path)  # its trainers write config.json before they train and fold
            for _ in range(saved_folds):
                copy.cfg.norm_activation = "dataset-wise"  # what a reload from that config.json sets
                copy.standardize_parameters_of_dataset_norm()
            if mode:
                copy.cfg.save_hyperparameters(path)
            copy.save_pretrained(path)
            save_file(expected, path / "computed.safetensors")


if __name__ == "__main__":
    main()
