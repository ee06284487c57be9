"""Train every arm on planted worlds and write the table of what it finds: `python benchmarks/planted/run.py`.

    python benchmarks/planted/run.py --sizes easy hard --seeds 10 11 12 --steps 500 2500 --out benchmarks/planted/arms.md
    python benchmarks/planted/run.py --ablation --sizes easy hard --seeds 20 21 --steps 500 --out benchmarks/planted/ablation.md

Seeds 0–9 were used while settings were chosen; tables use others.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scores import score
from variants import VARIANTS, Variant, train_variant
from world import SIZES, Size, World, draw

from snapcoder.crosscoder.gates import code, gate_norms
from snapcoder.crosscoder.model import encode
from snapcoder.crosscoder.training import Trained
from snapcoder.study.crosscoder import PAPER2025, CrosscoderSettings

ARMS: dict[str, dict[str, Any]] = {
    "batchtopk (default)": {},
    "batchtopk, shared gate": {"gate": "shared"},
    "topk": {"arm": "topk"},
    "jumprelu, paper's numbers": {
        **{key: value for key, value in PAPER2025.items() if key not in ("n_features", "steps", "batch_size")},
        "lr_warmup_steps": 10,  # 5,000 of 390,625 in the paper
    },
    "jumprelu, tuned": {
        "arm": "jumprelu", "sparsity": "tanh", "sparsity_weight": 0.3, "threshold_lr_factor": 1.0, "lr": 4e-3,
        "threshold_window": 1.0, "ste_include_negative": False,
    },
    "relu_l1": {"arm": "relu_l1", "sparsity_weight": 1.0},
}  # fmt: skip
"""Every arm of the crosscoder, on top of the default settings."""

ABLATION: dict[str, dict[str, Any]] = {
    "default": {},
    "k constant": {"k_start": 1.0},
    "k from 2x": {"k_start": 2.0},
    "k from 8x over 80%": {"k_start": 8.0, "k_anneal_share": 0.8},
    "k from 16x over 80%": {"k_start": 16.0, "k_anneal_share": 0.8},
    "k from 8x over 95%": {"k_start": 8.0, "k_anneal_share": 0.95},
    "lr 2e-3": {"lr": 2e-3},
    "lr 8e-3": {"lr": 8e-3},
    "no clipping": {"clip": 0.0},
    "no auxiliary loss": {"auxiliary_weight": 0.0},
    "selection by root mean square of norms": {"gate": "shared"},
    "lean optimiser state": {"optimizer_state": "lean"},
    "fp32 products": {"precision": "fp32"},
    "as before: lr 2e-3, k constant": {"lr": 2e-3, "k_start": 1.0},
}
"""The default settings with one thing changed."""

ABLATION |= {name: changed for name, (changed, _) in VARIANTS.items()}

SHOWN = (
    "onset", "onset_late", "offset", "turn", "false_onset", "mcc", "recovered", "recovered_emergent",
    "recovered_transient", "ev", "l0", "dead",
)  # fmt: skip
_SCORED_ROWS = 32_000


def settings_of(size: Size, steps: int, changed: dict[str, Any], device: str = "cpu") -> CrosscoderSettings:
    """Return an arm's settings: the dictionary as the size says, k a quarter above the true number of features."""
    own: dict[str, Any] = {
        "n_features": size.n_features,
        "batch_size": size.batch_size,
        "k": round(1.25 * size.l0),
        "steps": steps,
    }
    own["device"] = device
    return replace(CrosscoderSettings(eval_every=steps, checkpoint_every=steps), **{**own, **changed})


def normalised(world: World) -> torch.Tensor:
    """Return x [row, snapshot, model], centred and scaled per snapshot on the train rows as the pipeline does."""
    rows = world.x[: world.n_train]
    center = rows.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(world.x.shape[2] / np.square(rows - center).sum(axis=2).mean(axis=0))
    return torch.from_numpy(((world.x - center) * scale[:, None]).astype(np.float32))


def scored(world: World, x: torch.Tensor, trained: Trained, gate: str) -> dict[str, float]:
    """Return the scores of a trained crosscoder on held-out rows and a spread of train rows.

    Rare features are on in too few held-out rows to be matched; which feature is which may be asked of any row.
    """
    spread = np.linspace(0, world.n_train - 1, min(world.n_train, _SCORED_ROWS)).astype(int)
    rows = np.concatenate([spread, np.arange(world.n_train, len(x))])
    largest = gate_norms(trained.parameters.norms(), gate=gate).amax(dim=0)
    parts = [
        code(encode(trained.parameters, x[torch.from_numpy(part)]), largest, trained.threshold).numpy()
        for part in np.array_split(rows, 32)
    ]
    scores = score(world, world.amount[rows], np.concatenate(parts), trained.parameters.decoder.numpy())
    last = [row for row in trained.history if row["train_step"] == trained.history[-1]["train_step"]]
    return scores | {key: float(np.mean([row[key] for row in last])) for key in ("ev", "l0", "dead")}


def ceiling(world: World, x: torch.Tensor) -> float:
    """Return the share of planted features that a linear readout fitted to the truth recovers: noise hides the rest."""
    flat, n = x.flatten(1), world.n_train
    amount = torch.from_numpy(world.amount)
    mean = amount[:n].mean(dim=0)
    gram = flat[:n].T @ flat[:n]
    gram.diagonal().add_(1e-3 * gram.diagonal().mean())
    readout = torch.linalg.solve(gram, flat[:n].T @ (amount[:n] - mean))
    truth, said = amount[n:], flat[n:] @ readout + mean
    best = torch.zeros(truth.shape[1])
    typical = truth.sum(dim=0) / (truth > 0).sum(dim=0).clamp_min(1)
    for share in (0.0, 0.1, 0.2, 0.3, 0.5, 0.7):
        gated = torch.where(said > share * typical, said, 0.0)
        a, b = truth - truth.mean(dim=0), gated - gated.mean(dim=0)
        best = torch.maximum(best, (a * b).sum(dim=0) / (a.norm(dim=0) * b.norm(dim=0)).clamp_min(1e-9))
    return float((best >= 0.7).float().mean())


def main() -> None:
    """Run the arms that were asked for; every finished run is kept in a JSON file, so a stopped table goes on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["easy", "hard"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12])
    parser.add_argument("--steps", nargs="+", type=int, default=[500])
    parser.add_argument("--arms", nargs="+", help="parts of names; default all")
    parser.add_argument("--ablation", action="store_true", help="one change at a time instead of arms")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    chosen = {
        name: changed
        for name, changed in (ABLATION if options.ablation else ARMS).items()
        if not options.arms or any(part in name for part in options.arms)
    }
    kept = options.out.with_suffix(".json")
    done: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
    for size in options.sizes:
        for seed in options.seeds:
            world, x = None, None
            for steps in options.steps:
                for name, changed in chosen.items():
                    key = f"{size}|{seed}|{steps}|{name}"
                    if key in done:
                        continue
                    if world is None or x is None:
                        world = draw(SIZES[size], seed)
                        x = normalised(world)
                        done[f"{size}|{seed}|0|ceiling"] = {"recovered": ceiling(world, x)}
                    started = time.monotonic()
                    settings = settings_of(SIZES[size], steps, changed, options.device)
                    variant = VARIANTS[name][1] if name in VARIANTS else Variant()
                    trained = train_variant(variant, x, n_train=world.n_train, settings=settings)
                    done[key] = scored(world, x, trained, settings.gate) | {"on_gpu": float(options.device == "cuda")}
                    kept.write_text(json.dumps(done, indent=1))
                    print(f"{key}: {time.monotonic() - started:.0f} s, onset {done[key]['onset']:.3f}", flush=True)
    options.out.write_text(table(done, options.out))


def table(done: dict[str, dict[str, float]], out: Path) -> str:
    """Return the markdown of all finished runs, means over seeds."""
    lines = [
        "# Planted features found",
        "",
        f"Made by `python benchmarks/planted/run.py … --out {out}` (options: the sizes, seeds and steps below).",
        "All planted features count; one that was not recovered is wrong. Definitions: `scores.py`, worlds: `world.py`.",
        "k is 1.25 × the true number of features in a row. Shares, means over seeds (± half the range). Seeds with * were",
        "trained on a GPU (`--device cuda`).",
    ]
    groups = sorted({tuple(key.split("|")[i] for i in (0, 2)) for key in done if "|0|" not in key})
    for size, steps in groups:
        keys = [key for key in done if key.split("|")[0] == size and key.split("|")[2] == steps]
        seeds = sorted({int(key.split("|")[1]) for key in keys})
        limit = np.mean([done[f"{size}|{seed}|0|ceiling"]["recovered"] for seed in seeds])
        lines += [
            "",
            f"## {size}, {steps} steps",
            "",
            f"A linear readout fitted to the truth recovers {limit:.3f}.",
            "",
            "| arm | seeds | " + " | ".join(SHOWN) + " |",
            "|---|---|" + "---|" * len(SHOWN),
        ]
        for name in dict.fromkeys(key.split("|")[3] for key in keys):
            of_arm = [key for key in keys if key.split("|")[3] == name]
            runs = [done[key] for key in of_arm]
            cells = [", ".join(sorted(key.split("|")[1] + "*" * int(done[key].get("on_gpu", 0)) for key in of_arm))]
            for column in SHOWN:
                values = np.array([run[column] for run in runs])
                spread = f" ± {np.ptp(values) / 2:.3f}" if len(values) > 1 and column == "onset" else ""
                cells.append(f"{values.mean():.{1 if column == 'l0' else 3}f}{spread}")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
