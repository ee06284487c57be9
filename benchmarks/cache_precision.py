"""What a smaller `activations.dtype` costs: disk, speed, and what the dictionary trained on it finds.

    python benchmarks/cache_precision.py results/default --out benchmarks/cache_precision.md
    python benchmarks/cache_precision.py --size easy --steps 500 --out benchmarks/cache_precision_planted.md

The first takes the caches of a finished study, the second a planted world (benchmarks/planted). Both are written anew
in every dtype, and on each a crosscoder is trained with the same settings and seed.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from snapcoder.crosscoder.device import choose_device
from snapcoder.crosscoder.gates import code, gate_norms
from snapcoder.crosscoder.metrics import evaluate
from snapcoder.crosscoder.model import encode
from snapcoder.crosscoder.normalise import fit_normaliser
from snapcoder.crosscoder.training import Rows, Trained, train
from snapcoder.evolution.timing import onset, presence_by_norm
from snapcoder.provenance.embedded import embedded_provenance
from snapcoder.steps.crosscoder import reader
from snapcoder.storage.activations import RowTable, iterate_cache, read_cache, read_header, write_cache
from snapcoder.storage.aligned import open_aligned, read_aligned_headers
from snapcoder.storage.dictionaries import read_dictionary
from snapcoder.study.analysis import EvolutionSettings
from snapcoder.study.crosscoder import CrosscoderSettings, ExtensionSettings

sys.path.insert(0, str(Path(__file__).parent / "planted"))
from scores import correlations, score
from world import SIZES, World, draw

DTYPES = ("float32", "float16", "bfloat16", "int8")
OTHER_SEED = "float32, next seed"
MATCHED = 0.9  # correlation of activations from which two dictionaries hold the same feature
_MATCHING_ROWS, _BATCH = 16_000, 4096


@dataclass(frozen=True)
class Source:
    """Activations to be stored: `blocks(snapshot)` yields float32 [n, model] of all rows in order."""

    name: str
    rows: RowTable
    steps: tuple[int, ...]
    d_model: int
    blocks: Callable[[int], Iterable[np.ndarray]]
    settings: CrosscoderSettings
    world: World | None = None

    @property
    def n_train(self) -> int:
        """Number of train rows, which come first."""
        return int((self.rows.split == 0).sum())


@dataclass(frozen=True)
class Stored:
    """The files of one dtype. seconds: to write and to read all; values: how many numbers there are; error: root mean
    square of the rounding error as a share of the activations' deviation from their mean, over train rows and snapshots.
    """

    paths: list[Path]
    n_bytes: int
    values: int
    write_seconds: float
    read_seconds: float
    error: float


@dataclass(frozen=True)
class Learnt:
    """What a dictionary holds: EV on the exact held-out rows and as a study reports it, on its own; L0; per feature its
    code on a spread of rows [row, feature] and first lasting snapshot [feature], NaN for none; planted onsets right.
    """

    ev_exact: float
    ev_own: float
    l0: float
    code: np.ndarray
    start: np.ndarray
    planted: float | None


def study_source(results: Path, block: int | None) -> Source:
    """Return the activations and settings of a finished study's crosscoder."""
    found = sorted(results.glob(f"crosscoder/block{'*' if block is None else block}/dictionary.safetensors"))
    if not found:
        raise SystemExit(f"{results}: holds no crosscoder of block {block}; finish the study first")
    dictionary, provenance = read_dictionary(found[0]), embedded_provenance(found[0])
    own = dict((provenance or {})["settings"]["crosscoder"])
    extension = ExtensionSettings(**own.pop("extension", {}))
    folder = results / "activations" / found[0].parent.name
    paths = [folder / f"step{step}.h5" for step in dictionary.steps]
    rows, headers = read_aligned_headers(paths)
    kept = ", ".join(sorted({header.dtype for header in headers}))
    return Source(
        name=f"{results}, {found[0].parent.name}, whose caches are {kept}",
        rows=rows,
        steps=dictionary.steps,
        d_model=headers[0].d_model,
        blocks=lambda snapshot: iterate_cache(paths[snapshot]),
        settings=CrosscoderSettings(**own, extension=extension),
    )


def planted_source(size: str, seed: int) -> Source:
    """Return a planted world, with the settings its dictionaries are scored with elsewhere."""
    shape, world = SIZES[size], draw(SIZES[size], seed)
    index = np.arange(len(world.x), dtype=np.int32)
    split = (index >= world.n_train).astype(np.uint8)
    return Source(
        name=f"planted world {size}, seed {seed}",
        rows=RowTable(index // 64, index % 64, index % 4096, index // 256, split),
        steps=tuple(range(world.x.shape[1])),
        d_model=world.x.shape[2],
        blocks=lambda snapshot: np.array_split(world.x[:, snapshot], 64),
        settings=CrosscoderSettings(
            n_features=shape.n_features, batch_size=shape.batch_size, k=round(1.25 * shape.l0), steps=500
        ),
        world=world,
    )


def store(source: Source, dtype: str, folder: Path) -> Stored:
    """Write and read all snapshots in one dtype; reading is from the page cache, so it is decoding and checksums."""
    paths = [folder / dtype / f"step{step}.h5" for step in source.steps]
    common = {"layer": 0, "site": "", "d_model": source.d_model, "dtype": dtype, "provenance": {}}
    writing = reading = 0.0
    for snapshot, path in enumerate(paths):
        blocks = list(source.blocks(snapshot))
        started = time.perf_counter()
        write_cache(path, blocks, rows=source.rows, step=source.steps[snapshot], **common)
        written = time.perf_counter()
        read_cache(path)
        writing, reading = writing + written - started, reading + time.perf_counter() - written
    return Stored(
        paths=paths,
        n_bytes=sum(path.stat().st_size for path in paths),
        values=len(source.rows) * source.d_model * len(paths),
        write_seconds=writing,
        read_seconds=reading,
        error=float(np.sqrt(np.mean([read_header(path).noise_share for path in paths]))),
    )


def learn(source: Source, stored: Stored, exact: Stored, settings: CrosscoderSettings, scratch: Path) -> Learnt:
    """Train a crosscoder on stored rows, then ask what it found of the exact ones."""
    headers = [read_header(path) for path in stored.paths]
    normaliser = fit_normaliser(headers, center=settings.center)
    on_device = normaliser.to(choose_device(settings.device))
    n_train, n_rows = source.n_train, len(source.rows)
    memory = int(settings.memory_gb * 2**30)
    with open_aligned(stored.paths, headers, memory_bytes=memory, scratch=scratch) as held:
        own = reader(held, on_device)
        trained = train(own, n_train=n_train, n_heldout=n_rows - n_train, settings=settings)
        scores = _heldout_scores(trained, own, n_train, n_rows, settings, normaliser.scale.numpy())
    with open_aligned(exact.paths, [read_header(path) for path in exact.paths], memory_bytes=memory, scratch=scratch) as held:  # fmt: skip
        read = reader(held, on_device)
        on_exact = _heldout_scores(trained, read, n_train, n_rows, settings, normaliser.scale.numpy())
        spread = np.linspace(0, n_rows - 1, min(n_rows, _MATCHING_ROWS)).astype(np.int64)
        dense = np.concatenate([_code(trained, x, settings.gate) for x in _batches(read, spread)])
    decoder = trained.parameters.decoder.cpu().numpy()
    planted = None
    if source.world is not None:
        planted = score(source.world, source.world.amount[spread], dense, decoder)["onset"]
    return Learnt(on_exact[0], scores[0], on_exact[1], dense, _start(decoder), planted)


def _heldout_scores(
    trained: Trained, read: Rows, n_train: int, n_rows: int, settings: CrosscoderSettings, scale: np.ndarray
) -> tuple[float, float]:
    heldout = np.arange(n_train, n_rows)
    pooled = evaluate(
        trained.parameters, trained.threshold, lambda: _batches(read, heldout), gate=settings.gate, scale=scale
    )[-1]
    return pooled.ev, pooled.l0


def _batches(read: Rows, indices: np.ndarray) -> Iterator[Tensor]:
    return (read(indices[at : at + _BATCH]) for at in range(0, len(indices), _BATCH))


def _code(trained: Trained, x: Tensor, gate: str) -> np.ndarray:
    largest = gate_norms(trained.parameters.norms(), gate=gate).amax(dim=0)
    return code(encode(trained.parameters, x), largest, trained.threshold).cpu().numpy()


def _start(decoder: np.ndarray) -> np.ndarray:
    rules = EvolutionSettings()
    present = presence_by_norm(np.linalg.norm(decoder, axis=2), alpha=rules.alpha)
    return onset(present, np.arange(len(decoder)), consecutive=rules.consecutive).hi


def compare(reference: Learnt, other: Learnt) -> tuple[float, float]:
    """Return the share of the reference's live features found in the other, and of those the share with another onset.

    Features are matched one to one on activations, never on what the onsets are read from.
    """
    alive = [np.flatnonzero((learnt.code > 0).any(axis=0)) for learnt in (reference, other)]
    match = correlations(reference.code[:, alive[0]], other.code[:, alive[1]])
    first, second = linear_sum_assignment(-match)
    same = match[first, second] >= MATCHED
    before, after = reference.start[alive[0][first[same]]], other.start[alive[1][second[same]]]
    changed = ~((before == after) | (np.isnan(before) & np.isnan(after)))
    return float(same.sum() / len(alive[0])), float(changed.mean()) if same.any() else float("nan")


def report(source: Source, settings: CrosscoderSettings, command: str) -> str:
    """Run everything and return it as markdown."""
    lines = [
        "# What storing activations in fewer bits costs",
        "",
        f"Made by `{command}`: {source.name}; {len(source.rows):,} rows, {len(source.steps)} snapshots, width {source.d_model}; "
        f"{settings.n_features} features, {settings.steps} steps, seed {settings.seed}.",
        "",
        "MB/s are of float32 activations, checksums included, read from the page cache. Error: root mean square of the "
        "rounding error over that of the deviation from the mean. EV: pooled, held-out, on the exact rows; in brackets as "
        "a study reports it, on the rows as stored. Matched: share of the float32 dictionary's live features found again "
        f"(activations correlate ≥ {MATCHED}); Δonset: share of those with another first lasting snapshot by norm. The "
        "last row, another seed on exact rows, is what any change of training does.",
        "",
        "| dtype | bytes/value | write MB/s | read MB/s | error | EV | ΔEV | L0 | matched | Δonset |"
        + (" planted onsets right |" if source.world else ""),
        "|" + "---|" * (11 if source.world else 10),
    ]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "scratch.raw"
        exact = store(source, "float32", Path(folder))
        reference: Learnt | None = None
        for name in (*DTYPES, OTHER_SEED):
            stored = store(source, name, Path(folder)) if name in DTYPES[1:] else exact
            used = replace(settings, seed=settings.seed + 1) if name == OTHER_SEED else settings
            learnt = learn(source, stored, exact, used, scratch)
            reference = reference or learnt
            lines.append(_line(name, stored, learnt, reference))
            print(lines[-1], flush=True)
            for path in stored.paths if stored is not exact else ():
                path.unlink()
    return "\n".join(lines) + "\n"


def _line(name: str, stored: Stored, learnt: Learnt, reference: Learnt) -> str:
    megabytes = 4e-6 * stored.values
    matched, changed = compare(reference, learnt)
    cells = [
        name,
        f"{stored.n_bytes / stored.values:.3f}",
        f"{megabytes / stored.write_seconds:.0f}",
        f"{megabytes / stored.read_seconds:.0f}",
        f"{stored.error:.1e}" if stored.error else "0",
        f"{learnt.ev_exact:.4f} ({learnt.ev_own:.4f})",
        f"{learnt.ev_exact - reference.ev_exact:+.4f} ({learnt.ev_own - reference.ev_own:+.4f})",
        f"{learnt.l0:.1f}",
        f"{matched:.3f}",
        f"{changed:.3f}",
    ]
    if learnt.planted is not None:
        cells.append(f"{learnt.planted:.3f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure a study or a planted world and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "study", nargs="?", type=Path, help="results folder of a finished study; planted data when absent"
    )
    parser.add_argument("--block", type=int, help="block of the study; default its first")
    parser.add_argument("--size", choices=SIZES, default="small", help="planted world")
    parser.add_argument("--seed", type=int, default=10, help="of the planted world")
    parser.add_argument("--steps", type=int, help="optimiser steps, instead of the study's (500 on planted data)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source = study_source(options.study, options.block) if options.study else planted_source(options.size, options.seed)
    steps = options.steps or source.settings.steps
    settings = replace(source.settings, steps=steps, eval_every=steps)
    command = " ".join(["python benchmarks/cache_precision.py", *sys.argv[1:]])
    options.out.write_text(report(source, settings, command), encoding="utf-8")


if __name__ == "__main__":
    main()
