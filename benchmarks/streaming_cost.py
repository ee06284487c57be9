"""What streaming costs against caching: seconds, memory and disk for one, two and three trainings on the same tokens.

    python benchmarks/streaming_cost.py results/default

Takes snapshots, tokens and settings of a finished study, works in a folder of its own, writes benchmarks/streaming_cost.md.
Every part runs in a fresh process on the same threads, one after another.
"""

import argparse
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from snapcoder.job import Job
from snapcoder.storage.tables import read_table
from snapcoder.storage.tokens import TRAIN, read_tokens

TABLE = Path(__file__).with_name("streaming_cost.md")
OUTPUTS = {"dictionary": "dictionary.safetensors", "training": "training.parquet", "metrics": "metrics.parquet"}


@dataclass(frozen=True)
class Cost:
    """Seconds of the step, peak resident memory of its process, and what it added to the disk at most."""

    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True)
class Study:
    """What is measured: a study's files and the settings that its records hold."""

    root: Path
    layer: int
    steps: tuple[int, ...]
    activations: dict[str, Any]
    crosscoder: dict[str, Any]
    threads: int

    @classmethod
    def read(cls, root: Path, *, layer: int | None, threads: int) -> "Study":
        """Find the study's records; raise ValueError when it has no trained dictionary."""
        found = sorted((root / "provenance").glob(f"crosscoder.block{'*' if layer is None else layer}.json"))
        if not found:
            raise ValueError(f"{root}: no record of a trained dictionary; run the study first")
        crosscoder = json.loads(found[0].read_text(encoding="utf-8"))["core"]
        layer = int(crosscoder["settings"]["layer"])
        caches = [Path(item["path"]) for item in crosscoder["inputs"] if item["name"] == "caches"]
        record = root / "provenance" / f"activations.block{layer}.{caches[0].stem}.json"
        activations = json.loads(record.read_text(encoding="utf-8"))["core"]["settings"]["activations"]
        steps = tuple(int(path.stem.removeprefix("step")) for path in caches)
        return cls(root, layer, steps, activations, crosscoder["settings"]["crosscoder"], threads)

    @property
    def tokens(self) -> Path:
        """The token table."""
        return self.root / "corpus" / "tokens.h5"

    def facts(self, step: int) -> Path:
        """What is known of one snapshot, beside its weights or pointing at them."""
        return self.root / "snapshots" / f"step{step}" / "snapshot.json"

    def available(self) -> int:
        """Return how many train rows the corpus has."""
        table = read_tokens(self.tokens)
        tokens = table.tokens[table.sequences(TRAIN), self.activations["skip_positions"] :]
        return int((tokens != table.end_of_text).sum()) if self.activations["skip_special"] else tokens.size

    def capture(self, folder: Path, n_tokens: int) -> list[Cost]:
        """Cache `n_tokens` train rows and the held-out rows of every snapshot."""
        costs = []
        for step in self.steps:
            settings = {"activations": {**self.activations, "tokens": n_tokens}, "layer": self.layer, "step": step}
            inputs = {"facts": [self.facts(step)], "tokens": [self.tokens]}
            costs.append(measured("activations", inputs, {"cache": folder / f"step{step}.h5"}, settings, self.threads))
        return costs

    def train(self, folder: Path, caches: Path, *, n_streamed: int | None = None) -> Cost:
        """Train from the caches, or on `n_streamed` streamed rows with the caches as the sample beside them."""
        settings: dict[str, Any] = {"crosscoder": self.crosscoder, "layer": self.layer}
        inputs = {"caches": [caches / f"step{step}.h5" for step in self.steps]}
        if n_streamed is not None:
            settings["activations"] = {**self.activations, "mode": "stream", "stream_tokens": n_streamed}
            inputs |= {"facts": [self.facts(step) for step in self.steps], "tokens": [self.tokens]}
        outputs = {name: folder / path for name, path in OUTPUTS.items()}
        return measured("crosscoder", inputs, outputs, settings, self.threads)


def measured(
    step: str, inputs: dict[str, list[Path]], outputs: dict[str, Path], settings: dict[str, Any], threads: int
) -> Cost:
    """Run one step in a fresh process and measure it."""
    folder = next(iter(outputs.values())).parent
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "step": step,
        "inputs": {name: [str(path) for path in paths] for name, paths in inputs.items()},
        "outputs": {name: str(path) for name, path in outputs.items()},
        "settings": settings,
        "threads": threads,
    }
    before = peak = _folder_bytes(folder)
    process = subprocess.Popen([sys.executable, __file__, "--job", json.dumps(told)], stdout=subprocess.PIPE, text=True)
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(process.communicate()[0]))
    reader.start()
    while reader.is_alive():
        peak = max(peak, _folder_bytes(folder))
        reader.join(0.2)
    if process.returncode:
        raise RuntimeError(f"step {step} failed")
    result = json.loads(said[0].splitlines()[-1])
    return Cost(result["seconds"], result["memory"], max(peak, _folder_bytes(folder)) - before)


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except FileNotFoundError:  # a temporary file that has just got its final name
            continue
    return total


def run_job(told: dict[str, Any]) -> None:
    """Run one step in this process and print what it took."""
    module = importlib.import_module(f"snapcoder.steps.{told['step']}")
    job = Job(
        step=told["step"],
        inputs={name: tuple(map(Path, paths)) for name, paths in told["inputs"].items()},
        outputs={name: (Path(path),) for name, path in told["outputs"].items()},
        settings=told["settings"],
        threads=told["threads"],
        core={"step": told["step"], "settings": told["settings"]},
    )
    started = time.perf_counter()
    getattr(module, told["step"])(job)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def together(*costs: Cost) -> Cost:
    """Return the cost of parts that follow each other and whose files stay."""
    return Cost(sum(c.seconds for c in costs), max(c.memory for c in costs), sum(c.disk for c in costs))


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?", default=Path("results/default"))
    parser.add_argument("--layer", type=int, help="default: the first that has a dictionary")
    parser.add_argument("--tokens", type=int, help="train rows; default: one pass of the study's training")
    parser.add_argument("--sample", type=int, help="train rows cached beside streaming; default: a tenth")
    parser.add_argument("--pool-tokens", type=int, help="crosscoder.pool_tokens of both; default: the study's")
    parser.add_argument("--steps", type=int, help="optimiser steps; default: the study's")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        run_job(json.loads(options.job))
        return
    study = Study.read(options.study, layer=options.layer, threads=options.threads)
    for name, value in (("steps", options.steps), ("pool_tokens", options.pool_tokens)):
        if value is not None:
            study.crosscoder[name] = value
    seen = study.crosscoder["steps"] * study.crosscoder["batch_size"]
    n_tokens = options.tokens or min(seen, study.available())
    n_sample = options.sample or max(1000, n_tokens // 10)
    with tempfile.TemporaryDirectory(dir=options.study) as place:
        work = Path(place)
        large = together(*study.capture(work / "large", n_tokens))
        cached = study.train(work / "cached", work / "large")
        small = together(*study.capture(work / "small", n_sample))
        streamed = study.train(work / "streamed", work / "small", n_streamed=n_tokens)
        ev = {
            name: float(read_table(work / name / OUTPUTS["metrics"]).set_index("snapshot").loc[-1, "ev"])
            for name in ("cached", "streamed")
        }
    command = f"python benchmarks/streaming_cost.py {' '.join(sys.argv[1:])}".strip()
    text = report(study, command, (n_tokens, n_sample, seen), (large, cached, small, streamed), ev)
    options.out.write_text(text, encoding="utf-8")
    print(text)


def report(
    study: Study, command: str, rows: tuple[int, int, int], costs: tuple[Cost, Cost, Cost, Cost], ev: dict[str, float]
) -> str:
    """Return the page in markdown."""
    n_tokens, n_sample, seen = rows
    large, cached, small, streamed = costs
    torch = importlib.import_module("torch")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()}, no GPU"
    lines = [
        "# What streaming costs against caching",
        "",
        f"{where}, {study.threads} threads, {psutil.virtual_memory().total / 2**30:.0f} GiB. Command: `{command}`.",
        "",
        f"{len(study.steps)} snapshots, block {study.layer}; {n_tokens:,} train rows in {study.activations['dtype']}, "
        f"seen {seen / n_tokens:.2f} times by {study.crosscoder['steps']} steps of {study.crosscoder['batch_size']}, "
        f"pools of {study.crosscoder.get('pool_tokens') or 'the default number of'} rows; "
        f"{study.crosscoder['n_features']} features. Streaming caches a sample of {n_sample:,} train rows; both cache "
        f"{study.activations['heldout_tokens']:,} held-out rows. Each part was measured once, in a fresh process.",
        "",
        "| part | seconds | peak memory, MiB | disk, MB | held-out EV |",
        "|---|---|---|---|---|",
    ]
    named = (
        ("caching all rows, all snapshots", large, None),
        ("training on the caches", cached, ev["cached"]),
        ("caching the sample, all snapshots", small, None),
        ("training on streamed rows", streamed, ev["streamed"]),
    )
    for name, cost, score in named:
        lines.append(f"| {name} | {_cells(cost)} | {'' if score is None else f'{score:.4f}'} |")
    lines += [
        "",
        "Trainings on the same tokens, the sum of these parts; memory is that of the largest process:",
        "",
        "| trainings | caching: seconds | MiB | disk, MB | streaming: seconds | MiB | disk, MB | streaming / caching, seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for count in (1, 2, 3):
        a, b = together(large, *[cached] * count), together(small, *[streamed] * count)
        lines.append(f"| {count} | {_cells(a)} | {_cells(b)} | {b.seconds / a.seconds:.2f} |")
    return "\n".join([*lines, "", _break_even(large, cached, small, streamed), ""])


def _break_even(large: Cost, cached: Cost, small: Cost, streamed: Cost) -> str:
    saved, more = large.seconds - small.seconds, streamed.seconds - cached.seconds
    if more <= 0:
        return "A training on streamed rows took no longer than one on the caches here."
    if saved < more:
        return "In time, caching is the cheaper one from the first training on; streaming spares the disk."
    return (
        f"A streamed training takes {more:.1f} s more than one on the caches, which take {saved:.1f} s more than the sample to "
        f"make: in time, streaming is the cheaper one below {saved / more:.1f} trainings on the same tokens."
    )


def _cells(cost: Cost) -> str:
    return f"{cost.seconds:.1f} | {cost.memory / 2**20:.0f} | {cost.disk / 1e6:.1f}"


if __name__ == "__main__":
    main()
