"""Exchange dictionaries with the real llamascopium package in both directions and compare what each computes.

    python benchmarks/interop/exchange_with_llamascopium.py --peer PYTHON_WITH_LLAMASCOPIUM [--folder FOLDER]

The other half, llamascopium_side.py, runs under the peer's Python. Prints one line per comparison: the largest
difference of codes and of raw reconstructions, as a share of the largest value.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from snapcoder.crosscoder.model import decode, encode, from_dictionary
from snapcoder.crosscoder.normalise import Normaliser
from snapcoder.interop.importing import import_dictionary
from snapcoder.interop.llamascopium_export import write_llamascopium
from snapcoder.interop.options import ImportOptions
from snapcoder.storage.dictionaries import Dictionary

STEPS, WIDTH, FEATURES, ROWS = (0, 64, 1000, 143_000), 48, 190, 512
NORMS = np.array([3.9, 20.0, 55.0, 160.0])


def dictionary(arm: str, *, centered: bool, seed: int = 0) -> Dictionary:
    """Return random weights with unequal scales, centers as long as the activations, and one silent decoder row."""
    random = np.random.default_rng(seed)
    n_snapshots = len(STEPS)
    decoder = random.normal(size=(n_snapshots, FEATURES, WIDTH)) * random.uniform(0.02, 0.4, (n_snapshots, FEATURES, 1))
    decoder[0, 0] = 0
    center = random.normal(size=(n_snapshots, WIDTH)) * NORMS[:, None] / np.sqrt(WIDTH) * centered
    threshold = {"relu_l1": np.zeros(FEATURES), "batchtopk": np.full(FEATURES, 0.8)}
    return Dictionary(
        encoder=decoder.transpose(0, 2, 1).astype(np.float32),
        decoder=decoder.astype(np.float32),
        encoder_bias=random.normal(size=FEATURES).astype(np.float32),
        decoder_bias=random.normal(size=(n_snapshots, WIDTH)).astype(np.float32),
        threshold=threshold.get(arm, random.uniform(0.1, 2.0, FEATURES)).astype(np.float32),
        scale=(np.sqrt(WIDTH) / NORMS).astype(np.float32),
        center=center.astype(np.float32),
        steps=STEPS,
        gate="per_snapshot",
        arm=arm,
        layer=6,
    )


def compute(ours: Dictionary, raw: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return our codes [token, snapshot, feature] and raw reconstructions [token, snapshot, model]."""
    parameters, normaliser = from_dictionary(ours), Normaliser.of(ours.center, ours.scale)
    threshold = torch.from_numpy(ours.threshold)
    z = encode(parameters, normaliser.normalise(raw))
    codes = z[:, None] * (z[:, None] * parameters.norms() > threshold)
    raw_again = normaliser.denormalise(decode(parameters, z, threshold, gate=ours.gate))
    return {"codes": codes, "reconstruction": raw_again}


def compare(name: str, ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Print the largest differences; entries that only one side switches on are counted apart."""
    flipped = (ours["codes"] != 0) != (theirs["codes"] != 0)
    clean = ~flipped.any(dim=2, keepdim=True)
    differences = []
    for part in ("codes", "reconstruction"):
        size = theirs[part].abs().amax(dim=(0, 2), keepdim=True)
        differences.append(float(((ours[part] - theirs[part]).abs() / size * clean).max()))
    print(
        f"{name:44} codes {differences[0]:.1e}  reconstruction {differences[1]:.1e}  on at one side only: "
        f"{int(flipped.sum())} of {flipped.numel()}"
    )


def main() -> None:
    """Write our exports, let the peer load them and save its own, import these, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    raw = torch.randn(ROWS, len(STEPS), WIDTH, generator=torch.Generator().manual_seed(1))
    raw *= torch.from_numpy(NORMS / np.sqrt(WIDTH)).float()[:, None]
    save_file({"raw": raw}, folder / "raw.safetensors")
    exported = {
        f"{arm}{'-centered' if centered else ''}": dictionary(arm, centered=centered)
        for arm in ("jumprelu", "batchtopk", "relu_l1")
        for centered in (False, True)
    }
    for name, ours in exported.items():
        write_llamascopium(folder / "ours" / name, ours, source=name)
    side = Path(__file__).with_name("llamascopium_side.py")
    subprocess.run([options.peer, str(side), str(folder)], check=True)
    for name, ours in exported.items():
        theirs = load_file(folder / "ours" / name / "computed.safetensors")
        compare(f"export {name}", compute(ours, raw), theirs)
    for path in sorted((folder / "theirs").iterdir()):
        imported = import_dictionary(path, ImportOptions(layer=6))
        found = imported.provenance["imported"]["folds"]
        name = f"import {path.name} (found folded {found} times)"
        compare(name, compute(imported.dictionary, raw), load_file(path / "computed.safetensors"))


if __name__ == "__main__":
    main()
