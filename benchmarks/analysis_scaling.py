"""Memory and time of the analysis over features, rows and width, on synthetic codes and caches on disk.

`python benchmarks/analysis_scaling.py` makes the data below --scratch, runs each step in a process of its own, and writes
the peak of its memory beside the formula of docs/scaling.md into analysis_scaling.md.
"""

import argparse
import importlib
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from snapcoder.evolution.memory import BUFFERS, feature_passes, joining_bytes, needed_bytes
from snapcoder.features.complexity import BYTES_PER_ENTRY as COMPLEXITY_ENTRY
from snapcoder.features.complexity import BYTES_PER_ROW as COMPLEXITY_ROW
from snapcoder.features.examples import BYTES_PER_ENTRY as EXAMPLES_ENTRY
from snapcoder.features.examples import BYTES_PER_ROW as EXAMPLES_ROW
from snapcoder.features.examples import bytes_per_feature
from snapcoder.job import Job
from snapcoder.storage.activations import BLOCK_ROWS, RowTable, write_cache
from snapcoder.storage.codes import read_codes_header, write_code_blocks
from snapcoder.storage.dictionaries import Dictionary, write_dictionary
from snapcoder.storage.tokens import TokenTable, write_tokens

CONTEXT, VOCAB, MIB, GIB = 64, 256, 2**20, 2**30


@dataclass(frozen=True)
class Case:
    """The sizes of one synthetic study. memory_gb bounds each step's own part."""

    n_features: int
    n_rows: int
    n_snapshots: int
    d_model: int
    active: int
    memory_gb: float


def row_table(n_rows: int) -> RowTable:
    """Return rows of whole sequences, one document each."""
    index = np.arange(n_rows, dtype=np.int32)
    sequence, position = index // CONTEXT, index % CONTEXT
    return RowTable(sequence, position, token_of(index), sequence, (index >= 0.9 * n_rows).astype(np.uint8))


def token_of(index: np.ndarray) -> np.ndarray:
    """Return pseudo-random tokens of rows, few common and many rare."""
    mixed = (index.astype(np.uint64) * np.uint64(2654435761)) % np.uint64(2**32)
    return (VOCAB * (mixed / 2**32) ** 3).astype(np.int32)


def code_blocks(case: Case) -> Iterator[csr_array]:
    """Yield sparse blocks with about `active` entries a row, a few features in many rows and most in few."""
    generator = np.random.default_rng(0)
    for start in range(0, case.n_rows, BLOCK_ROWS):
        n_rows = min(BLOCK_ROWS, case.n_rows - start)
        feature = np.sort((case.n_features * generator.random((n_rows, case.active)) ** 3).astype(np.int32), axis=1)
        kept = np.concatenate([np.ones((n_rows, 1), dtype=bool), np.diff(feature, axis=1) > 0], axis=1)
        indptr = np.concatenate([[0], kept.sum(axis=1).cumsum()])
        z = generator.exponential(size=int(indptr[-1])).astype(np.float32) + 0.1
        yield csr_array((z, feature[kept], indptr), shape=(n_rows, case.n_features))


def make_study(case: Case, folder: Path) -> None:
    """Write caches, codes, dictionary, tokens and tokenizer."""
    generator, rows = np.random.default_rng(1), row_table(case.n_rows)
    write_code_blocks(folder / "codes.h5", code_blocks(case), rows=rows, n_features=case.n_features, provenance={})
    for step in range(case.n_snapshots):
        blocks = (
            generator.standard_normal((min(BLOCK_ROWS, case.n_rows - start), case.d_model), dtype=np.float32)
            for start in range(0, case.n_rows, BLOCK_ROWS)
        )
        write_cache(
            folder / f"step{step}.h5",
            blocks,
            rows=rows,
            step=step,
            layer=0,
            site="synthetic",
            d_model=case.d_model,
            dtype="float16",
            provenance={},
        )
    shape = (case.n_snapshots, case.n_features, case.d_model)
    dictionary = Dictionary(
        encoder=np.zeros((case.n_snapshots, case.d_model, 1), np.float32),  # no step here reads it
        decoder=generator.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(case.d_model)),
        encoder_bias=np.zeros(case.n_features, np.float32),
        decoder_bias=np.zeros((case.n_snapshots, case.d_model), np.float32),
        threshold=np.full(case.n_features, 0.5, np.float32),
        scale=np.ones(case.n_snapshots, np.float32),
        center=np.zeros((case.n_snapshots, case.d_model), np.float32),
        steps=tuple(range(case.n_snapshots)),
        gate="per_snapshot",
        arm="batchtopk",
        layer=0,
    )
    write_dictionary(folder / "dictionary.safetensors", dictionary, {})
    n_sequences = -(-case.n_rows // CONTEXT)
    tokens = token_of(np.arange(n_sequences * CONTEXT)).astype(np.uint16).reshape(n_sequences, CONTEXT)
    doc = np.repeat(np.arange(n_sequences, dtype=np.int32)[:, None], CONTEXT, axis=1)
    table = TokenTable(tokens, doc, np.zeros(n_sequences, np.uint8), VOCAB, 0, "0" * 64)
    write_tokens(folder / "tokens.h5", table, {})
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={text: index for index, text in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


def job_of(step: str, snapshot: int, case: Case, folder: Path) -> Job:
    """Return the job that the workflow would run."""
    files: dict[str, dict[str, str]] = {
        "snapshot_features": {"dictionary": "dictionary.safetensors", "codes": "codes.h5", "cache": f"step{snapshot}.h5"},
        "trajectories": {},
        "examples": {"codes": "codes.h5", "tokens": "tokens.h5", "tokenizer": "tokenizer.json",
                     "dictionary": "dictionary.safetensors"},
        "complexity": {"codes": "codes.h5", "tokens": "tokens.h5", "tokenizer": "tokenizer.json"},
    }  # fmt: skip
    inputs = {name: (folder / file,) for name, file in files[step].items()}
    if step == "trajectories":
        inputs["parts"] = tuple(folder / f"snapshot_features{s}.parquet" for s in range(case.n_snapshots))
    outputs = {"table": (folder / f"{step}{snapshot}.parquet",)}
    bound = {"memory_gb": case.memory_gb}
    return Job(step, inputs, outputs, {"evolution": bound, "features": bound, "layer": 0}, 1, {})


def run_child(step: str, snapshot: int, case: Case, folder: Path) -> None:
    """Run one step and print what it took beyond its imports."""
    function = getattr(importlib.import_module(f"snapcoder.steps.{step}"), step)
    job = job_of(step, snapshot, case, folder)
    # Not ru_maxrss: a child starts with that of its parent. The kernel keeps this mark per process and clears it on 5.
    Path("/proc/self/clear_refs").write_text("5")
    start, began = memory_mark("VmRSS"), time.perf_counter()
    function(job)
    usage, peak = resource.getrusage(resource.RUSAGE_SELF), memory_mark("VmHWM")
    result = {
        "seconds": time.perf_counter() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": peak,
        "own": peak - start,
    }
    print(json.dumps(result))


def memory_mark(name: str) -> int:
    """Return a number of bytes that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measured(step: str, snapshot: int, case: Case, folder: Path) -> dict[str, float]:
    """Run one step in a process of its own."""
    command = [sys.executable, __file__, "--child", step, str(snapshot), str(folder), json.dumps(case.__dict__)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def formula(step: str, case: Case, folder: Path) -> float:
    """Return the bytes that docs/scaling.md expects."""
    entries = read_codes_header(folder / "codes.h5").entries_per_row
    if step == "snapshot_features":
        shape: dict[str, Any] = {"entries_per_row": entries, "block_rows": BLOCK_ROWS}
        passes = feature_passes(case.n_features, case.d_model, **shape, memory_gb=case.memory_gb)
        return needed_bytes(case.n_features, case.d_model, passes[0].stop, **shape)
    if step == "trajectories":
        return joining_bytes(case.n_features, case.n_snapshots)
    return BUFFERS + case.memory_gb * GIB + case.n_rows * (COMPLEXITY_ROW if step == "complexity" else EXAMPLES_ROW)


def measure_case(case: Case, folder: Path, steps: tuple[str, ...]) -> list[str]:
    """Make one study, run its steps, and return rows of the table."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make_study(case, folder)
    header = read_codes_header(folder / "codes.h5")
    shape: dict[str, Any] = {"entries_per_row": header.entries_per_row, "block_rows": BLOCK_ROWS}
    lines = []
    for step in steps:
        n_jobs = case.n_snapshots if step == "snapshot_features" else 1
        runs = [measured(step, snapshot, case, folder) for snapshot in range(n_jobs)]
        peak, own = (max(run[name] for run in runs) / MIB for name in ("peak", "own"))
        cpu = float(np.median([run["cpu"] for run in runs]))
        passes = "–"
        if step == "snapshot_features":
            split = feature_passes(case.n_features, case.d_model, **shape, memory_gb=case.memory_gb)
            passes = str(len(split))
        lines.append(
            f"| {step} | {case.n_features:,} | {case.n_rows:,} | {case.n_snapshots} | {case.d_model} | "
            f"{header.n_entries / 1e6:.1f} | {case.memory_gb:g} | {passes} | {cpu:.1f} | {peak:.0f} | {own:.0f} | "
            f"{formula(step, case, folder) / MIB:.0f} |"
        )
        print(lines[-1], flush=True)
    shutil.rmtree(folder)
    return lines


def main() -> None:
    """Measure every case and write the table, or be one child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=4)
    parser.add_argument("--features", nargs="+", type=int, default=[4096, 8192, 16384, 32768])
    parser.add_argument("--rows", nargs="+", type=int, default=[50_000, 100_000, 200_000, 400_000])
    parser.add_argument("--wide", type=int, default=768, help="width of the case that the extrapolation rests on")
    parser.add_argument("--scratch", type=Path, default=Path("analysis_scaling.scratch"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("analysis_scaling.md"))
    options = parser.parse_args()
    if options.child:
        step, snapshot, folder, case = options.child
        return run_child(step, int(snapshot), Case(**json.loads(case)), Path(folder))
    every = ("snapshot_features", "trajectories", "examples", "complexity")
    small = {"d_model": 128, "active": 64}
    over_features = [Case(n, 200_000, 8, **small, memory_gb=1.0) for n in options.features]
    over_rows = [Case(options.features[1], n, 1, **small, memory_gb=0.3) for n in options.rows]
    widest = options.features[-1]
    over_memory = [Case(widest, 100_000, 1, options.wide, 64, memory_gb=bound) for bound in (1.0, 0.35, 0.3)]
    parts = [
        ("Over features", over_features, every),
        ("Over rows, at a fixed number of features", over_rows, every),
        ("Over the memory allowed", over_memory, ("snapshot_features",)),
    ]
    lines = [
        "# Memory and time of the analysis",
        "",
        "`python benchmarks/analysis_scaling.py`: synthetic codes and caches on disk, one process per job, 1 thread. Own is",
        "the peak beyond what a process holds after its imports; formula is that of docs/scaling.md; seconds are CPU",
        "time of one job, imports included, median over snapshots.",
    ]
    for title, cases, steps in parts:
        lines += ["", f"## {title}", "", "| step | F | rows | S | d | entries, M | memory_gb | passes | seconds | peak, MiB "
                  "| own, MiB | formula, MiB |", "|---" * 12 + "|"]  # fmt: skip
        for case in cases:
            lines += measure_case(case, options.scratch, steps)
    options.out.write_text("\n".join([*lines, "", *extrapolation(lines)]) + "\n")
    return None


def extrapolation(lines: list[str]) -> list[str]:
    """Return what the formula and the measured cost per entry say of 98,304 features × 32 snapshots × 10M tokens."""
    wide = [line.split("|") for line in lines if "| 1 | 768 |" in line]
    seconds, entries, d_model = float(wide[0][9]), 1e6 * float(wide[0][6]), int(wide[0][5])
    n_features, n_snapshots, n_rows, active = 98_304, 32, 10_000_000, 64
    shape = {"entries_per_row": float(active), "block_rows": BLOCK_ROWS}
    passes = feature_passes(n_features, d_model, **shape, memory_gb=1.0)
    minutes = seconds / entries * n_rows * active / 60
    needed = needed_bytes(n_features, d_model, passes[0].stop, **shape) / GIB
    shown = n_features * bytes_per_feature(top=12, quantiles=4, context=16)
    chunks = {
        name: [-(-(n_rows * active * per_entry + more) // (bound * GIB)) for bound in (1, 8)]
        for name, per_entry, more in (("examples", EXAMPLES_ENTRY, shown), ("complexity", COMPLEXITY_ENTRY, 0))
    }
    return [
        "## 98,304 features × 32 snapshots × 10M tokens",
        "",
        f"Width {d_model}, {active} entries a row, extrapolated by the formulas and by the measured cost per entry.",
        "",
        f"- snapshot_features: {needed:.2f} GiB and about {minutes:.0f} minutes of one core a job, passes at memory_gb 1: "
        f"{len(passes)}; {n_snapshots} jobs side by side, {minutes * n_snapshots / 60:.1f} core hours in all; an added "
        "snapshot is one more job.",
        f"- trajectories: {joining_bytes(n_features, n_snapshots) / GIB:.2f} GiB for a table of "
        f"{n_features * n_snapshots / 1e6:.1f}M rows.",
        f"- examples: memory_gb + {n_rows * EXAMPLES_ROW / GIB:.1f} GiB; the codes are read {chunks['examples'][0]} times at "
        f"memory_gb 1, {chunks['examples'][1]} times at 8.",
        f"- complexity: memory_gb + {n_rows * COMPLEXITY_ROW / GIB:.1f} GiB; the codes are read {chunks['complexity'][0]} "
        f"times at memory_gb 1, {chunks['complexity'][1]} times at 8.",
        f"- On disk: codes about {n_rows * active * 5.5 / 1e9:.1f} GB, caches "
        f"{n_rows * d_model * n_snapshots / 1e9:.0f} GB in int8.",
    ]


if __name__ == "__main__":
    main()
